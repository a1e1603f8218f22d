"""Deploy: archives a model that passed the gate, proves it in TorchServe, and points the deploy volume at it.

Reads network, index and verdict; writes `<model volume>/archive/<version>/`, then on the deploy volume
`model-store/<name>_<version>.mar`, and at last switches: the pointer's replacement, so whatever fails before leaves
serving untouched, and in a cluster the rollout of the pods.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contract.environment import Environment
from steps.common import progress
from steps.common.contents import stored_contents
from steps.common.digest import file_sha256
from steps.common.errors import StepError
from steps.common.files import write_atomically
from steps.common.lineage import lineage
from steps.common.parameters import ImageFormat, typed
from steps.common.pointer import MODEL_STORE, rolled_back
from steps.common.seen import seen_by
from steps.common.store import Artefact, artefact_id, find, produce, read
from steps.common.volumes import deploy_volume, model_volume
from steps.deploy.parameters import Deploy
from steps.deploy.release import audit
from steps.deploy.release.switch import Pointer, alone, switch

STEP = "deploy"
ARCHIVE = ("steps.deploy.archive",)  # what decides a version; how it is proved and switched to does not


@typed
def deploy(network: str, index: str, verdict: str, *, name: str, images: ImageFormat, parameters: Deploy) -> str:
    """The version now served: of the network and index of these ids, which the verdict must have found better.

    Of the archives in the model store the newest `keep` stay, and the current one always; older ones go to `backup/`.
    """
    with progress.running(STEP):
        judged = read(model_volume(), "verdict", verdict)
        if judged.facts["better"] is not True or (judged.facts["network"], judged.facts["index"]) != (network, index):
            raise StepError(f"verdict {verdict} does not let this model be deployed: {judged.facts['reason']}")
        evaluation = read(model_volume(), "evaluation", judged.facts["evaluation"])
        served = {"name": name, **images.image_format(), **parameters.deciding()}
        served |= {"unknown_distance": evaluation.facts["unknown_distance"]}
        archive = _archive(served, network, index, judged)
        pointer = {
            "name": name,
            "version": archive.id,
            "mar": f"{name}_{archive.id}.mar",
            "sha256": archive.facts["sha256"],
            "network": network,
            "index": index,
        }
        if image := Environment().serving_image:
            pointer["image"] = image
        with alone() as current:
            return _point(current, pointer, archive, judged, parameters.keep)


def _point(current: Pointer | None, pointer: Pointer, archive: Artefact, judged: Artefact, keep: int) -> str:
    """Put the archive into the model store, and switch to it, unless it is served; retire older archives."""
    if out := rolled_back(current, pointer["network"], pointer["index"], archive.id):
        raise StepError(f"this model is not deployed: {out}")
    _check_champion(current or {}, pointer, judged)
    mar = deploy_volume() / MODEL_STORE / pointer["mar"]
    in_store = mar.is_file() and file_sha256(mar) == pointer["sha256"]
    if not in_store:
        proven = read(model_volume(), "archive", archive.id)  # which checks that it still is what was proven
        with (proven.path / archive.facts["mar"]).open("rb") as source:
            write_atomically(mar, source)
    same = current is not None and pointer.items() <= current.items()
    wanted = current if current and same else _described(pointer, archive, judged, current or {})
    changed = switch(current, wanted, audit.DEPLOYED, judged.facts["reason"])
    retire(mar, keep)
    progress.finished(STEP, made=mar.name, unchanged=in_store and not changed, version=archive.id, mar=str(mar))
    return archive.id


def _described(pointer: Pointer, archive: Artefact, judged: Artefact, current: Pointer) -> Pointer:
    """The pointer with what the run's end, and who looks at the versions later, may want to know of the model."""
    score = json.loads((judged.path / "verdict.json").read_text())
    network = find(model_volume(), "network", pointer["network"])
    return {
        **pointer,
        "deployed_at": audit.now(),
        "accuracy": score["accuracy"],
        "worst_class": {"label": score["worst_label"], "accuracy": score["worst_accuracy"]},
        "test": score["test"],
        "dataset": network.manifest["inputs"].get("train") if network else None,
        "verdict": judged.id,
        "prediction": archive.facts["prediction"],
        "rolled_back": current.get("rolled_back", []),
    }


def _check_champion(current: dict[str, Any], pointer: dict[str, str], judged: Artefact) -> None:
    """The verdict holds against the model that it was compared with, not against one deployed since."""

    def model(of: Mapping[str, Any] | None) -> tuple[str, str] | None:
        return (of["network"], of["index"]) if of else None

    compared = judged.manifest["inputs"]["champion"]
    champion = read(model_volume(), "evaluation", compared).manifest["inputs"] if compared else None
    if model(current) not in (model(champion), model(pointer)):
        raise StepError(
            f"{current['version']} was deployed after this model was judged: run again, which compares the two"
        )


def _archive(served: dict[str, Any], network: str, index: str, judged: Artefact) -> Artefact:
    """The proven MAR of the model; its id is the version."""
    inputs = {"network": network, "index": index}
    parameters = decides(served, network, index)
    version = artefact_id(STEP, parameters, inputs, ARCHIVE)

    def build(folder: Path) -> dict[str, Any]:
        from steps.deploy.archive import MAR, build_archive
        from steps.deploy.proof import prove_archive

        model = {**served, "version": version}
        golden = read(model_volume(), "evaluation", judged.facts["evaluation"]).path / "golden.json"
        provenance = {
            "version": version,
            "verdict": judged.id,
            "artefacts": lineage([judged.facts["test"], *inputs.values()]),
        }
        artefacts = {kind: read(model_volume(), kind, id).path for kind, id in inputs.items()}
        build_archive(folder, model, provenance, **artefacts, golden=golden, had=seen_by(network, index))
        answers = prove_archive(folder / MAR, served["name"])
        return {"mar": MAR, "sha256": file_sha256(folder / MAR), "proven": len(answers), "prediction": answers[0]}

    return produce(model_volume(), "archive", STEP, parameters=parameters, inputs=inputs, build=build, code=ARCHIVE)


def decides(served: dict[str, Any], network: str, index: str) -> dict[str, Any]:
    """What decides a version beside its ids and its code: the content of the archive.

    A network that is made anew with another number of threads has the same id and other weights.
    """
    return {**served, "contents": stored_contents(network, index)}


def retire(current: Path, keep: int) -> None:
    """Move all but the newest `keep` archives to `backup/`; the current one counts as the newest."""
    archives = sorted(current.parent.glob("*.mar"), key=lambda path: path.stat().st_mtime, reverse=True)
    older = [path for path in archives if path != current]
    backup = deploy_volume() / "backup"
    for path in older[keep - 1 :]:
        backup.mkdir(exist_ok=True)
        path.rename(backup / path.name)
