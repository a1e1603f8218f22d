"""The report page: reads an evaluation and the manifests behind it, and makes one self-contained HTML page."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from steps.analyse.judge import Verdict
from steps.common.lineage import lineage
from steps.common.store import Artefact


def render(verdict: Verdict, evaluation: Artefact, champion: str | None, ids: Mapping[str, str], unknown: str) -> str:
    """Render the page.

    Args:
        verdict: The verdict on the model.
        evaluation: Its evaluation.
        champion: The version now served; None if there is none.
        ids: The ids of the test split, the network and the index.
        unknown: What is to be said of images called unknown.

    Returns:
        HTML, with its pictures in it.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    template = environment.get_template("report.html.jinja")
    return template.render(
        verdict=verdict,
        champion=champion,
        unknown=unknown,
        evaluation=_load(evaluation.path / "evaluation.json"),
        mistakes=_load(evaluation.path / "mistakes.json"),
        confusion=base64.b64encode((evaluation.path / "confusion.png").read_bytes()).decode(),
        lineage=lineage(ids.values()),
    )


def _load(path: Path) -> Any:
    return json.loads(path.read_text())
