"""The report: reads an evaluation and the manifests behind it; makes one HTML file of three pages.

The pages are data, model and lineage; a short form of them is Markdown. The file asks for nothing outside itself, and
its size is bounded, whatever the number of classes and images.
"""

import base64
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from steps.analyse.advice.findings import LISTED
from steps.analyse.confusion import READABLE
from steps.analyse.judge import Verdict
from steps.analyse.page import drawing
from steps.analyse.page.card import card
from steps.analyse.page.change import Change
from steps.analyse.page.rules import interval_of
from steps.common.lineage import lineage
from steps.common.store import Artefact, read
from steps.common.volumes import model_volume

# All parts are named, since what a module names decides its results.
_HTML = "report.html.jinja"
_PARTS = ("data.html.jinja", "model.html.jinja", "lineage.html.jinja", "parts.html.jinja", "style.css")
_MARKDOWN = "report.md.jinja"
GATHERED = "page.json"  # what `steps/analyse/page/gather.py` writes, which this module cannot import without images
_OF_DATA = {"labels", "labels of near copies", "near copies", "few images"}  # findings on the page on data
_MACHINE = ("device", "processor", "instructions", "threads", "torch", "precision")
_LONG = 300  # characters of a parameter's value


@dataclass(frozen=True)
class Case:
    """What a report is on.

    `champion` is the version that is served, None for none; `change` what differs from its data, or why that is not
    said. `ids` are those of the test split, the network and the index; `said` has what is to be said of images called
    `unknown`, and of what the network is `lacking`.
    """

    verdict: Verdict
    evaluation: Artefact
    champion: str | None
    change: Change | str
    ids: Mapping[str, str]
    said: Mapping[str, str]


def render(case: Case) -> tuple[str, str]:
    """Render the report.

    Args:
        case: What it is on.

    Returns:
        The HTML, with its pictures in it; and the Markdown, without pictures.
    """
    content = _content(case)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        percent=lambda share: f"{share:.2%}", short=_short, line=drawing.line, points=drawing.points
    )
    environment.globals["zip"] = zip
    plain = environment.overlay(autoescape=False)
    plain.filters = {**environment.filters, "cell": _cell}
    return environment.get_template(_HTML).render(content), plain.get_template(_MARKDOWN).render(content)


def _content(case: Case) -> dict[str, Any]:
    folder = case.evaluation.path
    found, picture = load_json(folder / "evaluation.json"), folder / "confusion.png"
    came_from = lineage(case.ids.values())
    network = read(model_volume(), "network", case.ids["network"]).manifest
    gathered = load_json(folder / GATHERED)
    return {
        "verdict": case.verdict,
        "champion": case.champion,
        **case.said,
        **gathered,
        "evaluation": found,
        "rules": [(rule, interval_of(rule, case.verdict)) for rule in case.verdict.rules],
        "data_advice": [finding for finding in gathered["advice"] if finding["about"] in _OF_DATA],
        "model_advice": [finding for finding in gathered["advice"] if finding["about"] not in _OF_DATA],
        "most_listed": LISTED,
        "change": case.change,
        "classes": _shown(found["per_class"]),
        "picture": base64.b64encode(picture.read_bytes()).decode() if picture.exists() else None,
        "lineage": came_from,
        "roles": _roles(came_from, case.ids),
        "seeds": _seeds(came_from),
        "libraries": _libraries(came_from),
        "machine": {name: network["facts"][name] for name in _MACHINE if name in network["facts"]},
        "here": {"system": f"{platform.system()} {platform.machine()}", "python": platform.python_version()},
        "card": card(case.verdict, case.ids, gathered["data"], case.said["unknown"], network["created"]),
    }


def _roles(came_from: Mapping[str, Mapping[str, Any]], ids: Mapping[str, str]) -> dict[str, str]:
    """What each artefact is to others, by its id: a split can be both that of training and the gallery."""
    roles: dict[str, list[str]] = {}
    for inputs in [ids, *(made["inputs"] for made in came_from.values())]:
        for role, id in inputs.items():
            if role not in roles.setdefault(id, []):
                roles[id].append(role)
    return {id: ", ".join(names) for id, names in roles.items()}


def _seeds(came_from: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, Any]]:
    """The step, name and value of each parameter that is a seed."""
    return [
        (made["step"], key, value)
        for made in came_from.values()
        for key, value in made["parameters"].items()
        if "seed" in key
    ]


def _libraries(came_from: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The versions of the libraries that decided a result, by name."""
    found = [pair for made in came_from.values() for pair in (made["libraries"] or {}).items()]
    return dict(sorted(found))


def _shown(per_class: Mapping[str, float | None]) -> dict[str, float | None]:
    """The accuracies of all classes, in the order of their labels; or, of more than can be read, of the worst."""
    if len(per_class) <= READABLE:
        return dict(per_class)
    tested = {label: share for label, share in per_class.items() if share is not None}
    worst = sorted(tested, key=lambda label: tested[label])[:READABLE]
    return {label: tested[label] for label in worst}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _cell(text: object) -> str:
    """Text for Markdown: it makes no table, tag or picture of its own."""
    escaped = _short(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for mark in "|[]`*_":
        escaped = escaped.replace(mark, f"\\{mark}")
    return " ".join(escaped.split())


def load_json(path: Path) -> Any:
    """What a JSON file of an evaluation holds."""
    return json.loads(path.read_text())
