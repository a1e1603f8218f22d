"""The switch to another version: a state machine, whose transitions are entries of the journal.

    requested ──> pointed ──> rolled ──> confirmed
        │            │           │
        └────────────┴───────────┴─────> undone ──> confirmed, if the Deployment could not be set back at once

    requested   The journal holds the record of the version, and what the Deployment is set back to if need be.
                Then `versions/<version>.json` is written, which a pod of the version reads, and `current.json` is
                renamed: the moment when serving changes.
    pointed     The pointer names the version. Then the Deployment is patched, and its new pods are waited for.
    rolled      All pods are of the version and available. Then the Service is asked for golden predictions.
    confirmed   Every pod returned the expected answers. On one machine, pointed is enough for it.
    undone      Deployment and pointer are set back, in this order, to what was confirmed last. If the Deployment could
                not be set back, the entry says to what, and the next run brings the pods to it: then confirmed.

An entry is on disk before the next thing is done. Whatever a killed run did not get to, the next command does:

    requested   `settle.py` sees from the pointer whether it was written: pointed, or undone.
    pointed     The same version again: the pods are rolled on. Another version: its request takes the place of this
    rolled      one, and what it goes back to if need be is what was confirmed last.
    undone      As for pointed, if the Deployment was not set back.

The current version, its pointer, the records and the notes on versions rolled back follow from the journal; see
`status.py`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from contract.environment import Environment
from contract.events import Waiting, emit
from contract.journal import Event, State, Template
from contract.pointer import MODEL_STORE, Pointer, Record
from steps.common.errors import StepError
from steps.common.volumes import deploy_volume
from steps.deploy.release.history import failure_in_this_run
from steps.deploy.release.journal import Journal
from steps.deploy.release.status import target
from steps.deploy.release.volume import write_pointer, write_record

if TYPE_CHECKING:
    from steps.deploy.release.cluster.rollout import Rollout


class SwitchError(StepError):
    """The pods could not be brought to a version; the message says how far they are back at the one before."""

    exit_status = 1


def switch(journal: Journal, record: Record, why: Event, reason: str) -> None:
    """Go to another version, or to another record of the current one; SwitchError if the pods do not come to serve it.

    After a SwitchError the version before is current again.

    Args:
        journal: of the volume, locked.
        record: the version; its archive is in the model store.
        why: deployed or rolled back.
        reason: for the journal, in words.

    Raises:
        StepError: nothing was changed, since the Deployment is missing or refuses, or this run failed with it before.
    """
    if failure := failure_in_this_run(journal.status.history, record.version):  # Kubeflow retries whatever failed
        if not journal.status.finished:
            confirm(journal)
        raise StepError(f"{record.version} is rolled out once in a run, and a new run tries again: {failure}")
    deployment = _deployment()
    # First of all: a Deployment that is missing or forbidden leaves everything as it was.
    template = _template_before(journal, deployment)
    before = journal.status.current
    request = journal.tell(
        State.REQUESTED,
        record.version,
        event=why,
        before=journal.status.version,
        reason=reason,
        record=record,
        template=template,
    )
    write_record(record)
    write_pointer(target(before, request))
    journal.tell(State.POINTED, record.version)
    _bring_pods(journal, deployment, template)


def confirm(journal: Journal) -> bool:
    """Bring the pods to the current version, and verify that they serve it, which finishes an unfinished switch.

    SwitchError if they do not serve it, after an unfinished switch was undone; StepError if the Deployment is missing.

    Args:
        journal: of the volume, locked.

    Returns:
        Whether the pods had to change.
    """
    deployment = _deployment()
    return _bring_pods(journal, deployment, _template_before(journal, deployment))


def shadowed(record: Record, confirmed: Pointer | None) -> Record:
    """The record of a version, which says of which version before it gets copies of requests.

    Args:
        record: the version, with the limits if it is to be shadowed.
        confirmed: what is served now.

    Returns:
        The record; without limits if there is nothing to compare with.
    """
    if not record.shadow or not confirmed or confirmed.name != record.name:
        return replace(record, shadow=None)
    # What is to be shadowed itself does not answer yet.
    before = (confirmed.shadow or {}).get("before", confirmed.version)
    return replace(record, shadow=None if before == record.version else {**record.shadow, "before": before})


def _template_before(journal: Journal, deployment: "Rollout | None") -> Template | None:
    """What the Deployment said before the first switch that is not finished; what it says now if there is none."""
    if deployment is None:
        return None
    now = deployment.template()
    return journal.status.template or now


def _bring_pods(journal: Journal, deployment: "Rollout | None", template: Template | None) -> bool:
    current, changed, said = journal.status.current, False, ""
    if deployment and template and current:
        try:
            golden = deployment.golden(deploy_volume() / MODEL_STORE / current.mar)
            pods, changed = deployment.roll(current.version, current.image)
        except Exception as error:
            _undo(journal, deployment, template, error)
        if not journal.status.finished:
            journal.tell(State.ROLLED, current.version)
        try:
            said = deployment.until_shadowed(current) if current.shadow else ""
            deployment.ask(current.name, golden, pods)
        except Exception as error:
            _undo(journal, deployment, template, error)
    if not journal.status.finished:
        journal.tell(State.CONFIRMED, journal.status.version)
    if deployment and current and current.shadow:
        _end_shadow(journal, current, said)
    return changed


def _end_shadow(journal: Journal, current: Pointer, reason: str) -> None:
    """Note that every pod has shadowed the version, so that a pod that starts later answers with it at once."""
    record = replace(current.record, shadow=None)
    entry = {"record": record, "rolled_back": current.rolled_back, "reason": reason}
    write_record(record)
    write_pointer(Pointer.to(record, current.rolled_back))
    journal.tell(State.ADOPTED, record.version, **entry)


def _undo(journal: Journal, deployment: "Rollout", template: Template, error: Exception) -> NoReturn:
    """Set Deployment and pointer back, and wait for the pods."""
    failed, before = journal.status.version, journal.status.confirmed
    reason = str(error)
    try:
        moved = deployment.restore(template)
    except StepError as trouble:
        reason += f"; nor was the Deployment set back ({trouble})"
        if before:  # otherwise the pointer stays, since pods of the version are there and need it
            _point_back(journal, reason, template)
        raise SwitchError(
            f"{failed} was not rolled out: {reason}; the next run that deploys goes on with that, and so does make "
            f"rollback VERSION={before.version if before else failed}"
        ) from error
    if not journal.status.finished:
        _point_back(journal, reason, None)
    now = f"{before.version if before else 'nothing'} is served as before"
    if moved and before:  # after the pointer, which pods without a stamp follow
        emit(Waiting(f"{failed} was not rolled out ({reason}): its pods go back to {before.version}"))
        try:
            deployment.wait(template.version)
        except StepError as trouble:
            now, reason = f"its pods are going back to {before.version}", f"{reason}; on the way back {trouble}"
    raise SwitchError(f"{failed} was not rolled out, and {now}: {reason}") from error


def _point_back(journal: Journal, reason: str, template: Template | None) -> None:
    failed, before = journal.status.current, journal.status.confirmed
    if before != failed:
        write_pointer(before)
        if before:
            write_record(before.record)
    journal.tell(
        State.UNDONE,
        before.version if before else None,
        event=Event.UNDONE,
        before=failed.version if failed else None,
        reason=reason,
        template=template,
    )


def _deployment() -> "Rollout | None":
    """The Deployment that serves, if the environment names one."""
    environment = Environment()
    namespace, name, url = environment.serving_namespace, environment.serving_deployment, environment.serving_url
    if not namespace:
        return None
    if not url:
        raise StepError(
            f"SERVING_NAMESPACE is {namespace}, and SERVING_URL is not set: set it to where the Service answers, which "
            f"within the cluster is http://{name}.{namespace}.svc:8080"
        )
    from steps.deploy.release.cluster.rollout import Rollout  # imports the Kubernetes client

    return Rollout(namespace, name, url)
