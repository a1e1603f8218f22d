"""The archives of versions: in the model store, which holds the newest, and in `backup/`, which holds older ones."""

import os
from pathlib import Path

from contract.pointer import BACKUP, MODEL_STORE, Record
from steps.common.digest import file_sha256
from steps.common.errors import StepError
from steps.common.files import write_atomically, writing
from steps.common.volumes import deploy_volume, model_volume

ARCHIVES = "archive"  # the kind of a proven archive, in the store on the deploy volume


def find_archive(record: Record) -> Path:
    """Find an undamaged archive of a version.

    Args:
        record: of the version.

    Returns:
        Its path in the model store, in backup, or where it was proven: on the deploy volume, or on the model volume by
        an earlier version of this project. Whoever wrote it, it has the SHA-256 of its record.

    Raises:
        StepError: it is lost, or each copy is damaged.
    """
    store, backup = (deploy_volume() / folder / record.mar for folder in (MODEL_STORE, BACKUP))
    proven = [volume / ARCHIVES / record.version / "model.mar" for volume in (deploy_volume(), model_volume())]
    places = [path for path in (store, backup, *proven) if path.is_file()]
    for path in places:
        if file_sha256(path) == record.sha256:
            return path
    if places:
        found = ", ".join(map(str, places))
        raise StepError(f"the archive of {record.version} is damaged: {found} has not the SHA-256 of its record")
    raise StepError(
        f"the archive of {record.version} is lost: it is neither {store} nor {backup}; restore it from a copy"
    )


def restore_archive(found: Path, record: Record) -> Path:
    """Bring an archive into the model store as its newest, so that it goes to backup last.

    Args:
        found: where it is.
        record: of its version.

    Returns:
        Its path in the model store.
    """
    mar = deploy_volume() / MODEL_STORE / record.mar
    with writing(mar.parent):
        if found.parent.name == BACKUP:
            found.replace(mar)
        elif found != mar:
            with found.open("rb") as source:
                write_atomically(mar, source)
        os.utime(mar)
    return mar


def retire_archives(current: Path, keep: int, before: str | None = None) -> None:
    """Move all but the newest archives to `backup/`.

    Args:
        current: the archive that stays, whatever its age.
        keep: how many stay, with the current one.
        before: the name of one that stays besides, since it answers until the current one was shadowed.
    """
    archives = sorted(current.parent.glob("*.mar"), key=lambda path: path.stat().st_mtime, reverse=True)
    older = [path for path in archives if path != current]
    backup = deploy_volume() / BACKUP
    for path in older[keep - 1 :]:
        if path.name == before:
            continue
        backup.mkdir(exist_ok=True)
        path.rename(backup / path.name)
