"""The report page: reads an evaluation and the manifests behind it, and makes one self-contained HTML page."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from steps.analyse.confusion import READABLE
from steps.analyse.judge import Verdict
from steps.common.lineage import lineage
from steps.common.store import Artefact


def render(
    verdict: Verdict,
    evaluation: Artefact,
    champion: str | None,
    ids: Mapping[str, str],
    said: Mapping[str, str],
    advice: Sequence[Mapping[str, Any]],
) -> str:
    """Render the page.

    Args:
        verdict: The verdict on the model.
        evaluation: Its evaluation.
        champion: The version now served; None if there is none.
        ids: The ids of the test split, the network and the index.
        said: What is to be said of images called `unknown`, and of what the network is `lacking`.
        advice: What would help, see `steps/analyse/advice`.

    Returns:
        HTML, with its pictures in it.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    template = environment.get_template("report.html.jinja")
    found, picture = _load(evaluation.path / "evaluation.json"), evaluation.path / "confusion.png"
    return template.render(
        verdict=verdict,
        champion=champion,
        **said,
        advice=advice,
        evaluation=found,
        classes=_shown(found["per_class"]),
        mistakes=_load(evaluation.path / "mistakes.json"),
        picture=base64.b64encode(picture.read_bytes()).decode() if picture.exists() else None,
        lineage=lineage(ids.values()),
    )


def _shown(per_class: Mapping[str, float | None]) -> dict[str, float | None]:
    """The accuracies of all classes, in the order of their labels; or, of more than can be read, of the worst."""
    if len(per_class) <= READABLE:
        return dict(per_class)
    tested = {label: share for label, share in per_class.items() if share is not None}
    worst = sorted(tested, key=lambda label: tested[label])[:READABLE]
    return {label: tested[label] for label in worst}


def _load(path: Path) -> Any:
    return json.loads(path.read_text())
