"""The content-addressed store: writes and reads `<volume>/<kind>/<id>/`, each with a `manifest.json`.

An id is the digest of the step's digest, its parameters and the ids of its inputs. An artefact is built in a
temporary folder on the same volume, synced to disk and renamed into place, so a folder with an id for its name is
always complete, whatever was killed and whoever else was writing.
"""

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from steps.common.digest import digest, file_sha256, running_step_digest
from steps.common.errors import StepError
from steps.common.events import event
from steps.common.files import sync, volume_trouble, writing

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artefact:
    """A complete artefact: its folder, its manifest, and whether it was there before."""

    path: Path
    manifest: Mapping[str, Any]
    unchanged: bool = True

    @property
    def id(self) -> str:
        """The artefact's id, its folder's name."""
        return self.path.name

    @property
    def facts(self) -> dict[str, Any]:
        """What its builder said about it."""
        return dict(self.manifest["facts"])


def artefact_id(step: str, parameters: Mapping[str, Any], inputs: Mapping[str, str | None]) -> str:
    """The id of what `step` makes of `inputs` under `parameters`."""
    return digest(_recipe(step, parameters, inputs))


def find(volume: Path, kind: str, id: str) -> Artefact | None:
    """The artefact if it is complete: its manifest can be read and its files have their sizes."""
    path = volume / kind / id
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        sizes_agree = all((path / n).stat().st_size == f["bytes"] for n, f in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Artefact(path, manifest) if sizes_agree else None


def read(volume: Path, kind: str, id: str) -> Artefact:
    """The artefact, each file checked against its SHA-256; StepError if it is missing or damaged."""
    path = volume / kind / id
    found = find(volume, kind, id)
    if found is None:
        raise StepError(f"{path} is missing or incomplete: run the pipeline again, which makes it anew")
    for name, file in found.manifest["files"].items():
        if file_sha256(path / name) != file["sha256"]:
            raise StepError(f"{path / name} was changed after it was made: delete {path} and run again")
    return found


def produce(
    volume: Path,
    kind: str,
    step: str,
    *,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str | None],
    build: Callable[[Path], Mapping[str, Any]],
) -> Artefact:
    """The artefact of this recipe: found, or built by `build(folder)`, whose return is kept as its facts.

    Raises StepError naming the path if the volume is full or cannot be written.
    """
    recipe = _recipe(step, parameters, inputs)
    id = digest(recipe)
    if found := find(volume, kind, id):
        return found
    shelf = volume / kind
    with writing(shelf), _only_builder(shelf, id) as alone:
        if found := find(volume, kind, id):
            return found
        for stale in shelf.glob(f".{id}.*") if alone else ():
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{id}.", dir=shelf))
        try:
            facts = dict(build(folder))
            _complete(folder, {**recipe, "facts": facts, "created": datetime.now(UTC).isoformat()})
            _publish(folder, shelf / id)
        except BaseException as error:
            reason = volume_trouble(error, shelf)  # asked before the removal makes room again
            shutil.rmtree(folder, ignore_errors=True)
            if reason:
                raise StepError(reason) from error
            raise
    made = find(volume, kind, id)
    if made is None:
        raise StepError(f"{shelf / id} vanished while it was made: run again")
    return Artefact(made.path, made.manifest, unchanged=False)


def _recipe(step: str, parameters: Mapping[str, Any], inputs: Mapping[str, str | None]) -> dict[str, Any]:
    return {
        "step": step,
        "step_digest": running_step_digest(step),
        "parameters": dict(parameters),
        "inputs": dict(inputs),
    }


def _complete(folder: Path, manifest: dict[str, Any]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest["files"] = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in files
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n")
    folder.chmod(0o755)  # mkdtemp's 0700 and safetensors' 0600 would shut out another uid, such as the server's
    for path in files:
        path.chmod(0o644)
    for path in (*folder.rglob("*"), folder):
        sync(path)


def _publish(folder: Path, final: Path) -> None:
    """Rename into place; a damaged artefact there gives way, a complete one of another run stays."""
    if final.exists() and find(final.parent.parent, final.parent.name, final.name) is None:
        shutil.rmtree(final)
    try:
        folder.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(folder)
    sync(final.parent)


@contextmanager
def _only_builder(shelf: Path, id: str) -> Iterator[bool]:
    """Wait while another run builds the same artefact, so that no work is done twice; yields whether locks work.

    The kernel drops the lock when its holder dies. Where the file system has no locks both build, and the rename
    decides: slower, never wrong.
    """
    path = shelf / f".{id}"
    lock, locked = _lock(path)
    try:
        yield locked
    finally:
        path.unlink(missing_ok=True)
        lock.close()


def _lock(path: Path) -> tuple[IO[str], bool]:
    """The lock's open file, and whether the file system has locks at all."""
    while True:
        lock = path.open("w")
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                event("waiting", message=f"another run is making {path.parent.name} {path.name.removeprefix('.')}")
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            return lock, False
        # Its holder removes the file when it ends: what was waited for may be a file that nobody else will find.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock, True
        lock.close()
