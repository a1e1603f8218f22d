"""Deploy: a model is proven in TorchServe before the pointer names it; older archives retire."""

import base64
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from contract.journal import Event
from contract.pointer import Pointer, Record
from steps.analyse.analyse import analyse
from steps.common.digest import file_sha256
from steps.common.errors import StepError
from steps.common.images.dataset import read_split
from steps.common.models import seen
from steps.common.models.faiss_index import check_factory
from steps.common.pointer import read_pointer
from steps.deploy import archive as archive_module
from steps.deploy.deploy import deploy
from steps.deploy.release.archives import retire_archives
from steps.deploy.release.cluster import rollout
from steps.deploy.release.journal import opened, read_status
from steps.deploy.release.rollback import rollback
from steps.deploy.release.switch import switch
from steps.deploy.release.volume import write_pointer
from steps.index.index import index
from tests.stand_ins.kubernetes import Cluster
from tests.stand_ins.kubernetes_http import Server, Service
from tests.support.examples import PARAMS, judging
from tests.support.switching import log


def deploy_model(model: dict[str, Any], verdict: str) -> str:
    return deploy(model["network"], model["index"], verdict, name="digits", parameters=PARAMS["deploy"])


def judged(model: dict[str, Any], **gate: Any) -> str:
    return analyse(model["test"], model["network"], model["index"], model["validation"], **judging(**gate)).id


@pytest.mark.slow
def test_a_model_is_proven_with_every_golden_prediction(model: dict[str, Any]) -> None:
    version = deploy_model(model, judged(model))
    pointer = read_pointer()
    assert pointer is not None
    assert (pointer.name, pointer.version, pointer.mar) == ("digits", version, f"digits_{version}.mar")
    manifest = json.loads((model["volumes"] / "deploy-model/archive" / version / "manifest.json").read_text())
    assert manifest["facts"]["proven"] == PARAMS["analyse"]["golden"]
    with zipfile.ZipFile(model["volumes"] / "deploy-model/model-store" / pointer.mar) as mar:
        assert json.loads(mar.read("model.json"))["version"] == version
        layout = json.loads(mar.read("thumbnails.json"))
        assert layout["count"] == len(read_split(model["gallery"]))
        assert len(mar.read("thumbnails.webp")) <= PARAMS["deploy"]["thumbnails"]
        assert not [name for name in mar.namelist() if name.endswith((".pt", ".pth", ".pkl"))]


@pytest.mark.slow
def test_an_archive_says_what_its_model_has_had(model: dict[str, Any]) -> None:
    version = deploy_model(model, judged(model))
    with zipfile.ZipFile(model["volumes"] / f"deploy-model/model-store/digits_{version}.mar") as mar:
        had = seen.from_bytes(mar.read(seen.FILE))
    learned = len(read_split(model["train"])) + len(read_split(model["validation"]))
    assert (len(had.learned), len(had.held)) == (learned, len(read_split(model["gallery"])))
    reason = json.loads(next((model["volumes"] / "model/verdict").glob("*/verdict.json")).read_text())["reason"]
    assert reason.endswith("there was no champion")
    again = analyse(model["test"], model["network"], model["index"], model["validation"], **judging())
    assert "its network and index are those served already" in again.verdict.reason


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["PCA16,Flat", "SQ8", "IVF16,Flat", "HNSW32", "PQ4x4,RFlat"])
def test_every_factory_that_is_accepted_deploys(model: dict[str, Any], factory: str) -> None:
    check_factory(factory, 3000, 64)
    made = {**model, "index": index(model["embeddings"], {"factory": factory})}
    version = deploy_model(made, judged(made, worst_class_floor=0.0))
    manifest = json.loads((model["volumes"] / "deploy-model/archive" / version / "manifest.json").read_text())
    assert manifest["facts"]["proven"] == PARAMS["analyse"]["golden"]


@pytest.mark.slow
def test_one_recipe_with_two_contents_is_two_versions(model: dict[str, Any]) -> None:
    """As a network is that was trained with another number of threads: the same id, and slightly other weights."""
    first = deploy_model(model, judged(model))
    folder = model["volumes"] / "model/network" / model["network"]
    weights = load_file(folder / "weights.safetensors")
    largest = max(weights, key=lambda name: weights[name].numel())
    weights[largest] *= 1 + 1e-4
    save_file(weights, folder / "weights.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["weights.safetensors"]["sha256"] = file_sha256(folder / "weights.safetensors")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    verdict = judged(model, on_tie="replace")
    second = deploy_model(model, verdict)
    assert second != first
    assert len(list((model["volumes"] / "deploy-model/model-store").iterdir())) == 2


def test_a_verdict_that_says_no_is_obeyed_by_deploy_itself(model: dict[str, Any]) -> None:
    verdict = judged(model, baseline=1.0)
    with pytest.raises(StepError, match="does not let this model be deployed: accuracy .* is not above the baseline"):
        deploy_model(model, verdict)
    assert not (model["volumes"] / "deploy-model").exists()


def test_a_verdict_on_another_model_is_no_verdict(model: dict[str, Any]) -> None:
    with pytest.raises(StepError, match="does not let this model be deployed"):
        deploy_model({**model, "network": "0" * 16}, judged(model))


@pytest.mark.slow
def test_answers_that_differ_from_the_analysis_stop_the_deployment(
    model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler answers with the second neighbour; its prediction is well formed, and wrong."""
    verdict = judged(model)
    wrong = model["volumes"] / "predictor.py"
    right = (archive_module.ROOT / "serving/model/predictor.py").read_text()
    changed = right.replace("_shown(1 - cosine)", "_shown(1.25 - cosine)")
    assert changed != right
    wrong.write_text(changed)
    others = [path for path in archive_module.CODE if path != "serving/model/predictor.py"]
    monkeypatch.setattr(archive_module, "CODE", (str(wrong), *others))
    with pytest.raises(
        StepError, match="the model does not serve, so it is not deployed: .*it answers .* where version .* found"
    ):
        deploy_model(model, verdict)
    assert [path.name for path in (model["volumes"] / "deploy-model").glob("[!.]*")] == ["archive"]
    assert not list((model["volumes"] / "deploy-model/archive").iterdir())


@pytest.mark.slow
def test_an_archive_that_does_not_load_stops_the_deployment(
    model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = judged(model)
    broken = model["volumes"] / "predictor.py"
    broken.write_text("raise RuntimeError('this predictor cannot be imported')\n")
    others = [path for path in archive_module.CODE if path != "serving/model/predictor.py"]
    monkeypatch.setattr(archive_module, "CODE", (str(broken), *others))
    with pytest.raises(StepError, match="the model does not serve, so it is not deployed"):
        deploy_model(model, verdict)
    assert not list((model["volumes"] / "deploy-model/archive").iterdir())


def test_the_newest_archives_stay_and_the_older_move_to_backup(volumes: Path) -> None:
    store = volumes / "deploy-model/model-store"
    store.mkdir(parents=True)
    for age, version in enumerate("edcba"):
        (store / f"digits_{version}.mar").write_text(version)
        os.utime(store / f"digits_{version}.mar", (1000 - age, 1000 - age))
    (store / "letters_x.mar").write_text("another model's")
    retire_archives(store / "digits_a.mar", keep=3)
    kept = {path.name for path in store.iterdir()}
    assert kept == {"digits_a.mar", "digits_e.mar", "letters_x.mar"}, "one deployed under another name counts too"
    assert {path.name: path.read_text() for path in (volumes / "deploy-model/backup").iterdir()} == {
        "digits_b.mar": "b",
        "digits_c.mar": "c",
        "digits_d.mar": "d",
    }


@pytest.mark.slow
def test_an_archive_lost_from_the_model_store_comes_back(model: dict[str, Any]) -> None:
    version = deploy_model(model, judged(model))
    mar = model["volumes"] / f"deploy-model/model-store/digits_{version}.mar"
    whole = mar.read_bytes()
    mar.write_bytes(whole[:1000])
    deploy_model(model, judged(model))
    assert mar.read_bytes() == whole


@pytest.mark.slow
def test_a_damaged_archive_is_not_deployed(model: dict[str, Any]) -> None:
    version = deploy_model(model, judged(model))
    pointer = (model["volumes"] / "deploy-model/current.json").read_bytes()
    archive = model["volumes"] / "deploy-model/archive" / version / "model.mar"
    archive.write_bytes(archive.read_bytes()[:-9] + b"tampered!")
    (model["volumes"] / f"deploy-model/model-store/digits_{version}.mar").unlink()
    with pytest.raises(StepError, match=r"model\.mar was changed after it was made: delete"):
        deploy_model(model, judged(model))
    assert (model["volumes"] / "deploy-model/current.json").read_bytes() == pointer


@pytest.mark.slow
def test_a_model_deployed_since_the_verdict_is_not_overrun(model: dict[str, Any]) -> None:
    verdict = judged(model)
    (model["volumes"] / "deploy-model").mkdir()
    write_pointer(Pointer(name="digits", version="other", mar="o.mar", network="n", index="i"))
    with pytest.raises(StepError, match="other was deployed after this model was judged: run again"):
        deploy_model(model, verdict)
    pointer = read_pointer()
    assert pointer is not None
    assert pointer.version == "other"


@pytest.mark.slow
def test_a_deployment_is_logged_once_and_can_be_gone_back_from(model: dict[str, Any]) -> None:
    """The version before is a record without a model, which is enough to see whom deploy obeys."""
    volumes = model["volumes"]
    mar = volumes / "deploy-model/model-store/digits_old.mar"
    mar.parent.mkdir(parents=True)
    mar.write_bytes(b"of another network")
    old = Record(name="digits", version="old", mar=mar.name, sha256=file_sha256(mar), network="n", index="i")
    with opened() as journal:
        switch(journal, old, Event.DEPLOYED, "")
    (volumes / "deploy-model/current.json").unlink()  # so that it need not be scored
    verdict = judged(model)
    version = deploy_model(model, verdict)
    assert deploy_model(model, verdict) == version
    assert log() == [("deployed", "old"), ("undone", None), ("deployed", version)]
    assert read_status().history[-1].reason.startswith("accuracy 0.")
    record = json.loads((volumes / f"deploy-model/versions/{version}.json").read_text())
    assert record["dataset"] == model["train"]
    assert record["sha256"] == file_sha256(volumes / "deploy-model/model-store" / record["mar"])

    assert rollback("old") == f"ROLLED BACK to old (was {version})"
    with pytest.raises(
        StepError, match=f"not deployed: {version} was rolled back on .*: make rollback VERSION={version}"
    ):
        deploy_model(model, verdict)
    assert rollback(version) == f"ROLLED BACK to {version} (was old)"
    assert deploy_model(model, judged(model)) == version


@pytest.mark.slow
def test_in_a_cluster_every_pod_is_asked_for_what_the_archive_holds(
    model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = judged(model)
    version = deploy_model(model, verdict)  # on one machine; and now in a cluster that has none of it yet
    with zipfile.ZipFile(model["volumes"] / f"deploy-model/model-store/digits_{version}.mar") as mar:
        golden = json.loads(mar.read("golden.json"))
    answers = {
        base64.b64decode(item["image"]): {key: item[key] for key in ("label", "distance", "features_distance")}
        for item in golden
    }
    cluster = Cluster()
    with Server(cluster) as api, Server(Service(cluster, {version: answers})) as before:
        user = {"name": "me", "user": {"token": "right"}}
        here = {"name": "here", "cluster": {"server": api.url}}
        context = {"name": "here", "context": {"cluster": "here", "user": "me"}}
        content = {"clusters": [here], "users": [user], "contexts": [context], "current-context": "here"}
        (tmp_path / "kubeconfig").write_text(json.dumps(content))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.setenv("SERVING_NAMESPACE", "kubeflow")
        monkeypatch.setenv("SERVING_URL", before.url)
        monkeypatch.setenv("SERVING_IMAGE", "registry/serving:digest")
        monkeypatch.setattr(rollout, "POLL_SECONDS", 0.01)
        capsys.readouterr()
        assert deploy_model(model, verdict) == version
        assert '"unchanged": false' in capsys.readouterr().out.splitlines()[-1], "for its pods changed"
        assert (cluster.stamp, cluster.image) == (version, "registry/serving:digest")
        assert len(log()) == 1
        deploy_model(model, verdict)
        assert '"unchanged": true' in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
def test_a_deploy_that_was_killed_and_is_tried_again_has_deployed(
    model: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first try switched and was killed before it could say so; the second finds everything done."""
    monkeypatch.setenv("RUN_ID", "r1")
    verdict = judged(model)
    for run, unchanged in (("r1", "false"), ("r1", "false"), ("r2", "true")):
        monkeypatch.setenv("RUN_ID", run)
        deploy_model(model, verdict)
        assert f'"unchanged": {unchanged}' in capsys.readouterr().out.splitlines()[-1]
