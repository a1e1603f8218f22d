"""The summary of a run in GitHub's job summary: appends Markdown to the file of GITHUB_STEP_SUMMARY."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contract.events import Finished
from pipeline.kubeflow import watch
from pipeline.outcome import Outcome


def write_summary(run: Any, outcome: Outcome, events: Mapping[str, Finished], link: str) -> None:
    """Append the summary of a run to GitHub's job summary; outside a GitHub job, do nothing.

    Args:
        run: The run, as the server returned it.
        outcome: Its outcome.
        events: The last event of each step.
        link: The address of the run's page.
    """
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(summary(run, outcome, events, link))


def summary(run: Any, outcome: Outcome, events: Mapping[str, Finished], link: str) -> str:
    """Write a run as Markdown.

    Args:
        run: The run, as the server returned it.
        outcome: Its outcome.
        events: The last event of each step.
        link: The address of the run's page, or how to reach it.

    Returns:
        The outcome, a table of the steps, the accuracy, the images of each split, the confusion matrix as far as it can
        be read, the most confused pairs, what would help, and the link.
    """
    lines = [f"## {outcome.word}", "", _cell(outcome.reason), ""]
    lines += ["| step | state | seconds | made |", "|---|---|--:|---|"]
    for name, task in watch.steps(run).items():
        event = events.get(name)
        made = ("unchanged, " if event.unchanged else "") + event.made if event else ""
        lines.append(f"| {name} | {task.state} | {_seconds(task)} | {_cell(made)} |")
    analysis = events.get("analyse")
    if analysis and (verdict := analysis.verdict):
        lines += ["", f"accuracy **{verdict.accuracy:.4f}**, worst class {_cell(verdict.worst_label)} "]
        lines[-1] += f"{verdict.worst_accuracy:.4f}, verdict `{analysis.id}`"
        broken = ", ".join(rule for rule, kept in verdict.rules.items() if not kept)
        lines += ["", f"rules: {', '.join(verdict.rules)}; broken: {broken or 'none'}"] if verdict.rules else []
    lines += ["", f"data: {_cell(analysis.data)}"] if analysis and analysis.data else []
    if analysis and analysis.confusion:
        lines += ["", *confusion_table(analysis.classes, analysis.confusion)]
    if analysis and analysis.confused:
        lines += ["", "| true | answer | images |", "|---|---|--:|"]
        lines += [f"| {' | '.join(map(_cell, pair))} |" for pair in analysis.confused]
    if analysis and analysis.advice:
        lines += ["", "What would help:", "", *(f"- {_cell(text)}" for text in analysis.advice)]
    page = f"[The run]({link})" if link.startswith("http") else link
    return "\n".join([*lines, "", page, ""])


def confusion_table(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[str]:
    """Write a confusion matrix as a table in Markdown.

    Args:
        classes: The labels, in the order of rows and columns.
        confusion: The number of test images, by true class and by answer.

    Returns:
        The lines of the table: a row for each true class, a column for each answer.
    """
    names = [_cell(name) for name in classes]
    rows = [f"| **{name}** | {' | '.join(map(str, row))} |" for name, row in zip(names, confusion, strict=True)]
    return [f"| true \\\\ answer | {' | '.join(names)} |", f"|---|{'--:|' * len(names)}", *rows]


def _seconds(task: Any) -> str:
    return f"{(task.end_time - task.start_time).total_seconds():.0f}" if task.end_time and task.start_time else ""


def _cell(text: object) -> str:
    """Escape text for a cell of a table."""
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())
