"""gc on Kubernetes: a CronJob of deploy's image on the three volumes, which docs/kubeflow.md names."""

import re
import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from contract.paths import ROOT
from steps.deploy import __main__ as command_line
from steps.registry import CLAIMS
from tests.support.kustomized import built, project_name

FOLDER = ROOT / "infra/gc"


@pytest.fixture(scope="module")
def cron_job() -> dict[str, Any]:
    made = built(FOLDER)
    assert list(made) == [("CronJob", "gc")]
    return made["CronJob", "gc"]


def container(cron_job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    return found


def test_it_is_valid_and_never_runs_beside_itself(cron_job: dict[str, Any]) -> None:
    kubernetes_validate.validate(cron_job, "1.33", strict=True)
    assert cron_job["spec"]["concurrencyPolicy"] == "Forbid"
    assert cron_job["metadata"]["labels"] == {"app.kubernetes.io/part-of": project_name()}
    assert (
        cron_job["metadata"]["namespace"]
        == built(ROOT / "infra/pv-pvc")["PersistentVolumeClaim", "data-pvc"]["metadata"]["namespace"]
    )


def test_it_has_the_three_volumes_where_the_steps_have_them(cron_job: dict[str, Any]) -> None:
    volumes = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
    claims = {one["name"]: one["persistentVolumeClaim"]["claimName"] for one in volumes if "emptyDir" not in one}
    assert claims == CLAIMS
    mounts = {one["name"]: one["mountPath"] for one in container(cron_job)["volumeMounts"]}
    assert mounts == {**{volume: f"/{volume}" for volume in CLAIMS}, "tmp": "/tmp"}


def test_its_command_is_one_of_the_command_line(
    cron_job: dict[str, Any], monkeypatch: pytest.MonkeyPatch, volumes: Path
) -> None:
    words = [*container(cron_job)["command"], *container(cron_job)["args"]]
    assert words[:3] == ["python3", "-m", "steps.deploy"]
    asked: list[Any] = []
    monkeypatch.setattr("steps.deploy.commands.gc", lambda options: asked.append(options) or 0)
    assert command_line.main(words[3:]) == 0
    assert (asked[0].keep_days, asked[0].yes) == (30, True)


def test_days_and_schedule_are_those_of_the_kustomization(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "gc")
    text = (folder / "kustomization.yaml").read_text()
    text = text.replace("keep-days=30", "keep-days=7").replace("schedule=30 4 * * 0", "schedule=0 1 * * *")
    (folder / "kustomization.yaml").write_text(text)
    made = built(folder)["CronJob", "gc"]
    assert "--keep-days=7" in container(made)["command"]
    assert made["spec"]["schedule"] == "0 1 * * *"


def test_the_preview_of_the_page_leaves_out_yes_and_nothing_else(cron_job: dict[str, Any]) -> None:
    page = (ROOT / "docs/kubeflow.md").read_text()
    (expression,) = re.findall(r"from=cronjob/gc .* \| sed '/(.+)/d' \|", page)
    left = "".join(line for line in yaml.safe_dump(cron_job).splitlines(True) if not re.search(expression, line))
    assert container(yaml.safe_load(left))["command"] == container(cron_job)["command"]
    assert not container(yaml.safe_load(left)).get("args")
