"""The events of a step: written as one line each, read from any line that holds one."""

import json
from typing import Any

import pytest

from contract.events import (
    Epoch,
    Event,
    Failed,
    Finished,
    Progress,
    Resumed,
    Started,
    Verdict,
    Waiting,
    Warned,
    emit,
    line,
    parse,
    to_json,
)

BEFORE: dict[str, Any] = {
    "accuracy": 0.9,
    "worst_label": None,
    "worst_accuracy": 0.0,
    "better": False,
    "reason": "too few",
}
SINCE: dict[str, Any] = {"interval": [0.8, 0.95], "rules": {"baseline": True}, "unknown": "none", "lacking": "weights"}
VERDICT = Verdict(**BEFORE, **SINCE)
ANALYSED = Finished(
    "analyse", "accuracy", id="v1", verdict=VERDICT, classes=["a", "b"], confusion=[[1, 0], [0, 2]], report="/r.html"
)
# As they were before there were types: the keys stay.
LINES: list[tuple[Event, dict[str, Any]]] = [
    (Started("train"), {"event": "started", "step": "train"}),
    (
        Progress("fetch", 0, 10, "bytes", "preprocess"),
        {"event": "progress", "doing": "fetch", "done": 0, "total": 10, "unit": "bytes", "step": "preprocess"},
    ),
    (
        Progress("rolling out", 1, 2, "pods ready", why="pending"),
        {"event": "progress", "doing": "rolling out", "done": 1, "total": 2, "unit": "pods ready", "why": "pending"},
    ),
    (
        Epoch(1, 2, 0.5, 0.25, "train"),
        {"event": "epoch", "epoch": 1, "epochs": 2, "loss": 0.5, "validation_accuracy": 0.25, "step": "train"},
    ),
    (Resumed(3, "train"), {"event": "resumed", "epoch": 3, "step": "train"}),
    (Waiting("another run"), {"event": "waiting", "message": "another run"}),
    (Warned("damaged", "train"), {"event": "warning", "message": "damaged", "step": "train"}),
    (Failed("no\nmemory", "train"), {"event": "failed", "error": "no\nmemory", "step": "train"}),
    (
        Finished("preprocess", "images", ids={"train": "1"}),
        {"event": "finished", "step": "preprocess", "made": "images", "unchanged": False, "ids": {"train": "1"}},
    ),
    (
        Finished("deploy", "a.mar", True, version="1", mar="/a.mar"),
        {"event": "finished", "step": "deploy", "made": "a.mar", "unchanged": True, "version": "1", "mar": "/a.mar"},
    ),
    (
        ANALYSED,
        {
            "event": "finished",
            "step": "analyse",
            "made": "accuracy",
            "unchanged": False,
            "id": "v1",
            "verdict": {**BEFORE, **SINCE},
            "classes": ["a", "b"],
            "confusion": [[1, 0], [0, 2]],
            "report": "/r.html",
        },
    ),
]


@pytest.mark.parametrize(("event", "content"), LINES, ids=lambda value: type(value).__name__)
def test_an_event_is_a_line_with_the_keys_that_it_always_had(event: Event, content: dict[str, Any]) -> None:
    text = to_json(event)
    assert json.loads(text) == content
    assert "\n" not in text
    assert parse(text) == event


def test_a_word_stands_before_the_json() -> None:
    """Kubeflow Pipelines 2.17.0 returns a line of an archived log blank that is a JSON object and nothing else."""
    text = line(Started("train"))
    assert text == 'event {"event": "started", "step": "train"}'
    assert parse(text) == Started("train")


def test_a_verdict_of_an_earlier_version_is_read() -> None:
    event = parse(json.dumps({"event": "finished", "step": "analyse", "verdict": BEFORE}))
    assert isinstance(event, Finished)
    assert event.verdict == Verdict(**BEFORE, interval=[], rules={}, unknown="")


@pytest.mark.parametrize(
    "text",
    [
        '{"event":"started","step":"train"}',
        '{ "step" : "train" , "event" : "started" }\n',
        '    {"event": "started", "step": "train", "more": {"a": [1]}}',
        '[KFP Executor 2026-01-01 12:00:00,000 INFO]: {"event": "started", "step": "train"}',
        '2026-01-01T00:00:00.0Z stdout F {"event": "started", "step": "train"} trailing',
        '{"level": "info"} {broken {"event": "started", "step": "train"}',
    ],
)
def test_spaces_order_and_what_stands_around_do_not_count(text: str) -> None:
    assert parse(text) == Started("train")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "chatter",
        "{}",
        '"event"',
        '{"event": ',
        '{"event": null}',
        '{"event": "unheard of", "step": "train"}',
        '{"event": ["started"], "step": "train"}',
        '{"event": "started"}',
        '{"event": "started", "step": 1}',
        '{"event": "epoch", "epoch": true, "epochs": 2, "loss": 0.1, "validation_accuracy": 0.1}',
        '{"other": {"nested": 1}, "text": "event"}',
        '["event", {"a": 1}]',
        '{"' * 10_000 + '"event"',
        '{"a":' * 10_000 + '"event"',
    ],
)
def test_what_is_no_event_is_none(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("verdict", [None, "good", {}, {"reason": "x"}, {**vars(VERDICT), "accuracy": "0.9"}])
def test_a_verdict_that_cannot_be_read_is_none(verdict: object) -> None:
    text = json.dumps({"event": "finished", "step": "analyse", "verdict": verdict})
    assert parse(text) == Finished("analyse")


def test_whole_numbers_are_numbers() -> None:
    text = '{"event": "epoch", "epoch": 1, "epochs": 2, "loss": 1, "validation_accuracy": 0}'
    assert parse(text) == Epoch(1, 2, 1.0, 0.0)


def test_a_step_writes_a_line_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    emit(Started("train"))
    emit(ANALYSED)
    assert [parse(text) for text in capsys.readouterr().out.splitlines()] == [Started("train"), ANALYSED]
