"""Deploy: archives a model that passed the gate, proves it in TorchServe, and points the deploy volume at it.

Reads network, index and verdict, as data; writes the deploy volume alone, which no training mounts: first
`archive/<version>/`, then `model-store/<name>_<version>.mar`, and at last switches: the pointer's replacement, so
whatever fails before leaves serving untouched, and in a cluster the rollout of the pods.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.environment import Environment
from contract.events import Warned, emit
from contract.journal import Event
from contract.pointer import MODEL_STORE, Record
from steps.common import progress
from steps.common.digest import file_sha256
from steps.common.errors import StepError
from steps.common.files import write_atomically
from steps.common.lineage import lineage
from steps.common.models.contents import LIMITS, stored_contents
from steps.common.parameters import ImageFormat, typed
from steps.common.store import Artefact, artefact_id, find, produce, read
from steps.common.volumes import deploy_volume, model_volume
from steps.deploy.parameters import Deploy, Serving
from steps.deploy.release.actor import now
from steps.deploy.release.archives import ARCHIVES, retire_archives
from steps.deploy.release.history import deployed_in_this_run
from steps.deploy.release.journal import Journal, opened
from steps.deploy.release.switch import confirm, shadowed, switch

if TYPE_CHECKING:
    from steps.common.images.stored import StoredImages

STEP = "deploy"
ARCHIVE = ("steps.deploy.archive",)  # what decides a version; how it is proved and switched to does not


@typed
def deploy(
    network: str,
    index: str,
    verdict: str,
    *,
    name: str,
    parameters: Deploy,
    serving: Serving = Serving(),  # noqa: B008 - it is frozen
) -> str:
    """Deploy a model that the verdict found better; SwitchError if the pods do not come to serve it.

    Args:
        network: id of the network.
        index: id of the index.
        verdict: id of the verdict on both.
        name: the model's name, which is in its URL.
        parameters: the section `deploy` of `params.yaml`.
        serving: the section `serving`; it reaches the server in the pointer, and is part of no id.

    Returns:
        The version, which is current then.

    Raises:
        StepError: the verdict says no, or is out of date; or the archive does not serve; or the model was rolled back.
    """
    with progress.running(STEP):
        judged = read(model_volume(), "verdict", verdict)
        if judged.facts["better"] is not True or (judged.facts["network"], judged.facts["index"]) != (network, index):
            raise StepError(f"verdict {verdict} does not let this model be deployed: {judged.facts['reason']}")
        evaluation = read(model_volume(), "evaluation", judged.facts["evaluation"])
        images = ImageFormat(**read(model_volume(), "network", network).facts)
        served = {"name": name, **images.deciding(), **parameters.deciding()}
        served |= {limit: evaluation.facts[limit] for limit in LIMITS}
        archive = _archive(served, network, index, judged)
        record = Record(
            name=name,
            version=archive.id,
            mar=f"{name}_{archive.id}.mar",
            sha256=archive.facts["sha256"],
            network=network,
            index=index,
            image=Environment().serving_image,
            shadow=serving.shadow.model_dump() if serving.shadow.seconds else None,
        )
        with opened(without_locks=parameters.without_locks) as journal:
            return _release(journal, record, archive, judged, parameters.keep)


def _release(journal: Journal, record: Record, archive: Artefact, judged: Artefact, keep: int) -> str:
    """Put the archive into the model store, and switch to it unless it is current; retire older archives."""
    current = journal.status.current
    if current and (out := current.why_out_of_service(record.network, record.index, record.version)):
        raise StepError(f"this model is not deployed: {out}")
    _check_champion(current, record, judged)
    mar = deploy_volume() / MODEL_STORE / record.mar
    in_store = mar.is_file() and file_sha256(mar) == record.sha256
    if not in_store:
        proven = read(deploy_volume(), ARCHIVES, archive.id)  # which checks that it still is what was proven
        with (proven.path / archive.facts["mar"]).open("rb") as source:
            write_atomically(mar, source)
    if current and _is_current(record, current):
        changed = confirm(journal)
    else:
        record = shadowed(_described(record, archive, judged), journal.status.confirmed)
        switch(journal, record, Event.DEPLOYED, judged.facts["reason"])
        changed = True
    now_current = journal.status.current
    before = now_current and now_current.shadow and journal.status.records.get(now_current.shadow["before"])
    retire_archives(mar, keep, before.mar if before else None)
    changed = changed or deployed_in_this_run(journal.status.history, record.version)
    progress.finished(STEP, made=mar.name, unchanged=in_store and not changed, version=archive.id, mar=str(mar))
    return archive.id


def _is_current(record: Record, current: Record) -> bool:
    """Whether this very archive is current, in this image if one is wanted."""
    ids = ("name", "version", "mar", "sha256", "network", "index")
    same = all(getattr(record, key) == getattr(current, key) for key in ids)
    return same and record.image in (None, current.image)


def _described(record: Record, archive: Artefact, judged: Artefact) -> Record:
    """The record with what the closing lines of a run, and the table of versions, say of the model."""
    score = json.loads((judged.path / "verdict.json").read_text())
    network = find(model_volume(), "network", record.network)
    return replace(
        record,
        deployed_at=now(),
        accuracy=score["accuracy"],
        worst_class={"label": score["worst_label"], "accuracy": score["worst_accuracy"]},
        test=score["test"],
        dataset=network.manifest["inputs"].get("train") if network else None,
        verdict=judged.id,
        prediction=archive.facts["prediction"],
    )


def _check_champion(current: Record | None, record: Record, judged: Artefact) -> None:
    """The verdict holds against the model that it was compared with, not against one deployed since."""
    compared = judged.manifest["inputs"]["champion"]
    champion = read(model_volume(), "evaluation", compared).manifest["inputs"] if compared else None
    allowed = [(champion["network"], champion["index"]) if champion else None, (record.network, record.index)]
    found = (current.network, current.index) if current else None
    if found not in allowed:
        since = f"{current.version} was deployed" if current else "the pointer was removed"
        raise StepError(f"{since} after this model was judged: run again, which compares it with what is served")


def _archive(served: dict[str, Any], network: str, index: str, judged: Artefact) -> Artefact:
    """The proven MAR of the model; its id is the version."""
    inputs = {"network": network, "index": index}
    parameters = decides(served, network, index)
    version = artefact_id(STEP, parameters, inputs, ARCHIVE)

    def build(folder: Path) -> dict[str, Any]:
        from steps.common.models.seen import seen_by
        from steps.deploy.archive import MAR, build_archive
        from steps.deploy.proof import prove_archive

        model = {**served, "version": version}
        evaluation = read(model_volume(), "evaluation", judged.facts["evaluation"]).path
        provenance = {
            "version": version,
            "verdict": judged.id,
            "artefacts": lineage([judged.facts["test"], *inputs.values()]),
        }
        artefacts = {kind: read(model_volume(), kind, id).path for kind, id in inputs.items()}
        build_archive(
            folder,
            model,
            provenance,
            **artefacts,
            evaluation=evaluation,
            had=seen_by(network, index),
            gallery=_gallery(served, index),
        )
        answers = prove_archive(folder / MAR, served["name"])
        return {"mar": MAR, "sha256": file_sha256(folder / MAR), "proven": len(answers), "prediction": answers[0]}

    return produce(deploy_volume(), ARCHIVES, STEP, parameters=parameters, inputs=inputs, build=build, code=ARCHIVE)


def _gallery(served: dict[str, Any], index: str) -> "StoredImages | None":
    """The images of the gallery; None if no thumbnails are wanted, or if the images are gone."""
    if not served["thumbnails"]:
        return None
    from steps.common.images.dataset import read_split

    try:
        embeddings = read(model_volume(), "index", index).manifest["inputs"]["embeddings"]
        return read_split(read(model_volume(), "embeddings", embeddings).manifest["inputs"]["gallery"]).images
    except StepError as error:
        emit(Warned(f"no thumbnails: {error}", STEP))
        return None


def decides(served: dict[str, Any], network: str, index: str) -> dict[str, Any]:
    """What decides a version beside its ids and its code: the content of the archive."""
    # A network that is made anew with another number of threads has the same id and other weights.
    return {**served, "contents": stored_contents(network, index)}
