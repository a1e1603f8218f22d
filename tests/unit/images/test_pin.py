"""`make pin` writes the images of this revision into the manifests."""

import shutil
from pathlib import Path

import pytest
import yaml

from contract.paths import ROOT
from pipeline import commands
from pipeline.__main__ import main
from pipeline.images.build import references
from pipeline.images.kustomization import KUSTOMIZATIONS, pin
from pipeline.images.tag import tag
from pipeline.settings import Project, SettingsError, load_project
from tests.support.settings import PROJECT_FILE

PROJECT = load_project(PROJECT_FILE)
SERVING = "infra/torchserve/kustomization.yaml"
VOLUMES = "infra/pv-pvc/kustomization.yaml"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the kustomizations."""
    for file in (*KUSTOMIZATIONS, VOLUMES):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def named(folder: Path) -> dict[str, str]:
    """The images of the kustomizations, by their names in the manifests."""
    entries = [yaml.safe_load((folder / file).read_text())["images"] for file in KUSTOMIZATIONS]
    return {one["name"]: f"{one['newName']}:{one['newTag']}" for entry in entries for one in entry}


def test_the_manifests_have_the_images_of_this_revision() -> None:
    wanted = {name: tag(name) for names in KUSTOMIZATIONS.values() for name in names}
    pinned = {name: image.rpartition(":")[2] for name, image in named(ROOT).items()}
    assert pinned == wanted, "infra/torchserve names other images than this revision's: run make pin"


def test_pinning_again_changes_nothing(tree: Path) -> None:
    pin(PROJECT, tree)
    assert pin(PROJECT, tree) == []


def test_pinning_changes_the_image_and_nothing_else(tree: Path) -> None:
    pin(PROJECT, tree)
    before = (tree / SERVING).read_text()
    elsewhere = PROJECT.model_copy(update={"registry": "registry.example/team", "name": "other"})
    assert pin(elsewhere, tree) == [tree / file for file in KUSTOMIZATIONS]
    assert named(tree)["serving"] == references(elsewhere)["serving"]
    lines = zip(before.splitlines(), (tree / SERVING).read_text().splitlines(), strict=True)
    changed = [(old.split()[0], new.split()[0]) for old, new in lines if old != new]
    assert changed == [("newName:", "newName:")] * len(KUSTOMIZATIONS[SERVING])


def test_pinning_writes_the_names_of_all_that_infra_makes(tree: Path) -> None:
    """They are chosen in project.yaml alone."""
    pin(PROJECT, tree)
    before = (tree / VOLUMES).read_text()
    digits = prefixed()
    rollback = "infra/torchserve/rollback/kustomization.yaml"
    gc = "infra/gc/kustomization.yaml"
    assert set(pin(digits, tree)) == {tree / file for file in (SERVING, rollback, gc, VOLUMES)}
    wanted = {"data-claim=digits-data-pvc", "model-claim=digits-train-model-pvc", "account=digits-train-pipeline"}
    wanted |= {"deploy-model-claim=digits-deploy-model-pvc"}
    others = {"serving-claim=digits-serving-model-pvc", "collect-claim=digits-collect-pvc"}
    assert wanted | others <= literals(tree / VOLUMES)
    assert wanted - {"account=digits-train-pipeline"} <= literals(tree / gc)
    assert wanted - {"data-claim=digits-data-pvc"} | {"serving=digits-torchserve"} <= literals(tree / rollback)
    assert {yaml.safe_load((tree / file).read_text())["namePrefix"] for file in (SERVING, rollback, gc)} == {"digits-"}
    wanted = {"claim=digits-deploy-model-pvc", "account=digits-train-pipeline", "collect-claim=digits-collect-pvc"}
    assert wanted <= literals(tree / SERVING)
    assert pin(digits, tree) == []
    pin(PROJECT, tree)
    assert (tree / VOLUMES).read_text() == before


def test_the_claim_of_serving_in_its_own_namespace_stays(tree: Path) -> None:
    path = tree / SERVING
    path.write_text(path.read_text().replace("- claim=deploy-model-pvc", "- claim=serving-model-pvc"))
    pin(PROJECT, tree)
    assert "claim=serving-model-pvc" in literals(path)
    pin(prefixed(), tree)
    assert "claim=digits-serving-model-pvc" in literals(path)
    pin(PROJECT, tree)
    assert "claim=serving-model-pvc" in literals(path)


def test_a_kustomization_that_has_no_place_for_the_prefix_is_refused(tree: Path) -> None:
    path = tree / SERVING
    path.write_text(path.read_text().replace("namePrefix: ", "# namePrefix: "))
    with pytest.raises(SettingsError, match=r'no namePrefix for kubeflow.name_prefix: put namePrefix: "" below'):
        pin(prefixed(), tree)
    pin(PROJECT, tree)  # which needs none


def prefixed() -> Project:
    """The project beside another one in its namespace."""
    kubeflow = PROJECT.kubeflow.model_copy(update={"name_prefix": "digits-"})
    return PROJECT.model_copy(update={"kubeflow": kubeflow})


def literals(path: Path) -> set[str]:
    return set(yaml.safe_load(path.read_text())["configMapGenerator"][0]["literals"])


def test_an_old_tag_is_replaced_whatever_its_form(tree: Path) -> None:
    pin(PROJECT, tree)
    good = (tree / SERVING).read_text()
    tag = references(PROJECT)["serving"].rpartition(":")[2]
    for stale in ("12345678", '"0"', "'1e10' # old"):
        (tree / SERVING).write_text(good.replace(f'"{tag}"', stale))
        assert pin(PROJECT, tree) == [tree / SERVING]
        assert named(tree)["serving"] == references(PROJECT)["serving"]


def test_the_templates_copy_gets_the_tag_and_keeps_the_variable(tree: Path) -> None:
    template = tree / "{{a.variable}}" / SERVING
    template.parent.mkdir(parents=True)
    pin(PROJECT, tree)
    text = (tree / SERVING).read_text().replace(f"/{PROJECT.name}-", "/{{ a.variable }}-")
    template.write_text(text.replace("newTag: ", "newTag: old # "))
    pin(PROJECT, tree)
    assert "/{{ a.variable }}-serving\n" in template.read_text()
    assert f'newTag: "{references(PROJECT)["serving"].rpartition(":")[2]}"' in template.read_text()


def test_a_kustomization_without_the_image_is_refused(tree: Path) -> None:
    path = tree / SERVING
    path.write_text(path.read_text().replace("- name: serving", "- name: another"))
    with pytest.raises(SettingsError, match="has no images entry '- name: serving'"):
        pin(PROJECT, tree)


def test_the_command_prints_the_files_that_changed(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.images.kustomization.pin", lambda project: pin(project, tree))
    monkeypatch.setattr(commands, "ROOT", tree)
    (tree / SERVING).write_text((tree / SERVING).read_text().replace("newTag: ", "newTag: old # "))
    assert main(["pin"]) == 0
    assert f"{SERVING}: pinned\n" in capsys.readouterr().out
    assert main(["pin"]) == 0
    assert capsys.readouterr().out == ""
