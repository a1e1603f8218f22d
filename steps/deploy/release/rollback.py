"""The rollback to an earlier version: reads the journal and the archives, and switches.

An archive in `backup/` comes back into the model store.
"""

from collections.abc import Iterable
from dataclasses import replace

from contract.journal import Event
from contract.pointer import MODEL_STORE
from steps.common.errors import StepError
from steps.common.volumes import deploy_volume
from steps.deploy.release.archives import find_archive, restore_archive, retire_archives
from steps.deploy.release.history import lineage
from steps.deploy.release.journal import opened
from steps.deploy.release.status import Status
from steps.deploy.release.switch import confirm, switch


def rollback(version: str | None = None) -> str:
    """Serve an earlier version; SwitchError if the pods do not come to serve it.

    Its archive is verified before anything changes. The version left is noted: from now on analyse rejects its
    network and index. A note on the version gone to is taken off.

    Args:
        version: the version to go to; the one that was current before the current one if None.

    Returns:
        The closing line.

    Raises:
        StepError: there is no such version, or its archive is lost or damaged.
    """
    if not deploy_volume().is_dir():
        raise StepError(f"nothing was deployed in {deploy_volume()}: choose the volumes with VOLUMES=folder")
    with opened() as journal:
        current, records = journal.status.current, journal.status.records
        wanted = version or _before(journal.status)
        if wanted not in records:
            raise StepError(f"no version {wanted} was ever deployed here; {_known(records)}")
        if current and wanted == current.version:
            restore_archive(find_archive(current), current)
            changed = confirm(journal)
            return f"{wanted} is served already" + ("; its pods were brought to it" if changed else "")
        record = replace(records[wanted], shadow=None)  # a rollback is urgent
        found, kept = find_archive(record), len(list((deploy_volume() / MODEL_STORE).glob("*.mar")))
        mar = restore_archive(found, record)
        was = current.version if current else "nothing"
        switch(journal, record, Event.ROLLED_BACK, f"rolled back from {was}")
        retire_archives(mar, max(kept, 1))  # one that came back from backup sends the oldest there
        return f"ROLLED BACK to {wanted} (was {was})"


def _before(status: Status) -> str:
    if status.current is None:
        raise StepError(
            f"nothing is served, so there is nothing to go back from: name a version; {_known(status.records)}"
        )
    path = lineage(status.history)
    if len(path) < 2:
        raise StepError(
            f"there is no version to go back to: none was served before {status.version}; {_known(status.records)}"
        )
    return path[-2]


def _known(versions: Iterable[str]) -> str:
    names = ", ".join(versions)
    return f"the versions are {names}" if names else "no version was deployed yet"
