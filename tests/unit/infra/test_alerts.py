"""Alerts and dashboard: alerts fire when they should, and both use only metrics that a server exposes."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.paths import ROOT
from tests.support.exposed_metrics import COUNTERS_AND_GAUGES, HISTOGRAMS, KUBERNETES, SERVED, TARGET

FOLDER = ROOT / "infra/torchserve/components/monitoring"
RULE = yaml.safe_load((FOLDER / "prometheus-rule.yaml").read_text())
ALERTS = [rule for group in RULE["spec"]["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
TEST = Path(__file__).parent / "alerts.yaml"
METRICS = {**SERVED, **KUBERNETES}

_WORDS = {"and", "or", "unless", "bool"}
_DASHBOARD_WORDS = {"namespace": "kubeflow", "deployment": "torchserve", "__rate_interval": "5m"}


def plain(expression: str) -> str:
    """The expression with its variables filled in, as Grafana sends it."""
    return re.sub(r"\$(\w+)", lambda found: _DASHBOARD_WORDS[found[1]], expression)


def asked(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric in a PromQL expression, with the labels in its selector."""
    # A name before a bracket is a function.
    for name, labels in re.findall(
        r"(?<![\w.])([a-zA-Z_:][\w:]*)\b(?!\s*\()\s*(?:\{(.*?)\})?", without_lists(expression)
    ):
        if name not in _WORDS:
            yield name, set(re.findall(r"(\w+)\s*[=!]~?", re.sub(r'"[^"]*"', '""', labels)))


def without_lists(expression: str) -> str:
    """The expression without ranges, durations, and lists of labels to group by."""
    shorter = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", expression)
    return re.sub(r"\[[^]]*\]|\boffset\s+\w+", " ", shorter)


def grouped(expression: str) -> set[str]:
    """The labels that an expression groups by."""
    lists = re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", expression)
    return {label.strip() for each in lists for label in each.split(",") if label.strip()}


def expressions() -> list[str]:
    panels = [plain(target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*(rule["expr"] for rule in ALERTS), *panels]


def test_every_metric_and_label_used_is_exposed() -> None:
    seen = set()
    for expression in expressions():
        metrics = dict(asked(expression))
        assert metrics, expression
        assert set(metrics) <= set(METRICS), expression
        known = set.union(*(METRICS[name] for name in metrics)) | TARGET
        assert grouped(expression) <= known, expression
        for name, labels in asked(expression):
            assert labels <= METRICS[name] | TARGET, (name, labels)
        seen |= set(metrics)
    assert [name for name in (*COUNTERS_AND_GAUGES, *HISTOGRAMS) if not any(one.startswith(name) for one in seen)] == []


def test_the_parser_finds_every_metric_of_an_expression() -> None:
    found = list(asked('sum by (a, b) (rate(x_total{c="d e=f", g!~"h"}[5m] offset 1h)) / on (i) y > 0.5 or absent(z)'))
    assert found == [("x_total", {"c", "g"}), ("y", set()), ("z", set())]


def test_a_legend_uses_labels_of_its_result() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped(target["expr"])


def test_panels_are_unique_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids)) == len({panel["title"] for panel in DASHBOARD["panels"]})
    cells: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in DASHBOARD["panels"]):
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not own & cells
        cells |= own
    assert max(x for x, _ in cells) < 24
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in DASHBOARD["panels"])
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == [
        "datasource",
        "namespace",
        "deployment",
    ]


def test_the_projects_of_one_namespace_are_told_apart() -> None:
    """By the label job, which ServiceMonitor and Service set to the name of the Deployment."""
    monitor, service = (
        yaml.safe_load((FOLDER / file).read_text()) for file in ("service-monitor.yaml", "service.yaml")
    )
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "torchserve"
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            for name, labels in asked(target["expr"]):
                assert labels >= {"namespace", "deployment" if name in KUBERNETES else "job"}, target["expr"]
    for rule in ALERTS:
        assert grouped(rule["expr"]) == set() or grouped(rule["expr"]) >= {"namespace", "job"}, rule["alert"]


def test_every_alert_has_a_severity_and_a_description() -> None:
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_every_alert_is_tested() -> None:
    tested = re.findall(r"Serving\w+", TEST.read_text())
    assert set(tested) == {rule["alert"] for rule in ALERTS}


@pytest.mark.slow
def test_alerts_fire_when_they_should_and_not_otherwise(tmp_path: Path) -> None:
    run(tmp_path, RULE["spec"], "test", "rules", shutil.copy(TEST, tmp_path))


@pytest.mark.slow
def test_the_expressions_are_valid_promql(tmp_path: Path) -> None:
    rules = [{"record": f"panel_{number}", "expr": text} for number, text in enumerate(expressions())]
    run(tmp_path, {"groups": [{"name": "dashboard", "rules": rules}]}, "check", "rules", tmp_path / "rules.yaml")


def run(folder: Path, spec: dict[str, Any], *words: str | Path) -> None:
    """Run promtool beside `rules.yaml`, in the namespace kubeflow."""
    promtool = shutil.which("promtool", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if promtool is None:
        pytest.skip("promtool, of Prometheus, is not installed")
    text = yaml.safe_dump(spec, width=10_000).replace('namespace="namespace"', 'namespace="kubeflow"')
    (folder / "rules.yaml").write_text(text)
    done = subprocess.run([promtool, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
