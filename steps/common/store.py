"""The content-addressed store: writes and reads `<volume>/<kind>/<id>/`, each with a `manifest.json`.

An id is the digest of what decides the artefact: the code that makes it, the versions of the libraries that compute,
the parameters and the ids of the inputs. An artefact is built in a temporary folder on the same volume, synced to disk
and renamed into place. So a folder with an id for its name is always complete, even if a run was killed or two runs
wrote at once.
"""

import errno
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.files import sync
from contract.mounts import patience
from steps.common.code.deciding import deciding_code
from steps.common.digest import digest, file_sha256
from steps.common.errors import StepError
from steps.common.files import volume_trouble, writing
from steps.common.locks import held
from steps.common.usage import shared, stamp

MANIFEST = "manifest.json"
_LOOK_SECONDS = 0.5  # between two looks for what another node has made
# 2: `code` and `libraries` say what decided the artefact; manifests without a format have one `step_digest` instead.
# 3: splits are lists of rows, and their pixels are shared; those of 2 held their images.
FORMAT = 3


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


def artefact_id(
    step: str, parameters: Mapping[str, Any], inputs: Mapping[str, str | None], code: Sequence[str] = ()
) -> str:
    """The id of what `step` makes of `inputs` under `parameters`; `code` as `produce` takes it."""
    return digest(_recipe(step, parameters, inputs, code))


def find(volume: Path, kind: str, id: str) -> Artefact | None:
    """The artefact if it is complete: its manifest can be read and its files have their sizes.

    Who finds it may use it: it is stamped as used now, so that `make gc` keeps it.

    Args:
        volume: The volume's folder.
        kind: The kind of the artefact.
        id: Its id.

    Returns:
        The artefact, or None.
    """
    with shared(volume):
        stamp(volume / kind / id / MANIFEST)
        return look(volume / kind / id)


def look(path: Path) -> Artefact | None:
    """The artefact in a folder if it is complete, as `find` gives it, but not stamped: for reports."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        sizes_agree = all((path / n).stat().st_size == f["bytes"] for n, f in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Artefact(path, manifest) if sizes_agree else None


def read(volume: Path, kind: str, id: str) -> Artefact:
    """The artefact, each file checked against its SHA-256.

    Args:
        volume: The volume's folder.
        kind: The kind of the artefact.
        id: Its id.

    Returns:
        The artefact.

    Raises:
        StepError: It is missing or damaged.
    """
    found = _existing(volume, kind, id)
    for name, file in found.manifest["files"].items():
        if file_sha256(found.path / name) != file["sha256"]:
            raise StepError(f"{found.path / name} was changed after it was made: delete {found.path} and run again")
    return found


def read_manifest(volume: Path, kind: str, id: str) -> Mapping[str, Any]:
    """What the manifest of an artefact says; its files are not read. The arguments and errors are those of `read`."""
    return _existing(volume, kind, id).manifest


def _existing(volume: Path, kind: str, id: str) -> Artefact:
    found = await_made(volume, kind, id)
    if found is None:
        raise StepError(f"{volume / kind / id} is missing or incomplete: run the pipeline again, which makes it anew")
    return found


def await_made(volume: Path, kind: str, id: str) -> Artefact | None:
    """The artefact that another step has made, as `find` gives it; on a volume that nodes share it may be seen late."""
    return _looked(lambda: find(volume, kind, id), volume)


def _looked(find: Callable[[], Artefact | None], path: Path) -> Artefact | None:
    """What is found, as soon as this node sees it."""
    end = time.monotonic() + patience(path)
    while (found := find()) is None and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
    return found


def produce(
    volume: Path,
    kind: str,
    step: str,
    *,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str | None],
    build: Callable[[Path], Mapping[str, Any]],
    code: Sequence[str] = (),
) -> Artefact:
    """The artefact of this recipe, which is built only if the volume does not hold it.

    Args:
        volume: The volume's folder.
        kind: The kind of the artefact, a folder on the volume.
        step: The step that makes it.
        parameters: What was set and decides the artefact.
        inputs: The ids of the artefacts that it is made of, by their roles.
        build: Writes the artefact's files into a folder; gives facts about it, which the manifest keeps.
        code: The modules that decide the artefact, with all that they import; by default the whole step.

    Returns:
        The artefact, which says whether it was there before.

    Raises:
        StepError: The volume is full or cannot be written. The message names the path.
    """
    recipe = _recipe(step, parameters, inputs, code)
    id = digest(recipe)
    if found := find(volume, kind, id):
        return found
    shelf = volume / kind
    with writing(shelf), _only_builder(shelf, id) as locked:
        if found := find(volume, kind, id):
            return found
        for stale in shelf.glob(f".{id}.*") if locked else ():
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{id}.", dir=shelf))
        try:
            facts = dict(build(folder))
            created = datetime.now(UTC).isoformat()
            _complete(folder, {"format": FORMAT, **recipe, "facts": facts, "created": created})
            _publish(folder, shelf / id)
        except BaseException as error:
            reason = volume_trouble(error, shelf)  # asked before the removal makes room again
            shutil.rmtree(folder, ignore_errors=True)
            if reason:
                raise StepError(reason) from error
            raise
    made = await_made(volume, kind, id)
    if made is None:
        raise StepError(f"{shelf / id} vanished while it was made: run again")
    return Artefact(made.path, made.manifest, unchanged=False)


def holds_only_older(volume: Path, kind: str) -> bool:
    """Whether all artefacts of this kind are of an earlier version of this program, whose ids nothing has any more."""
    formats = []
    for path in (volume / kind).glob(f"[!.]*/{MANIFEST}"):
        try:
            formats.append(json.loads(path.read_text()).get("format", 0))
        except (OSError, ValueError, AttributeError):
            continue
    return bool(formats) and max(formats) < FORMAT


def _recipe(
    step: str, parameters: Mapping[str, Any], inputs: Mapping[str, str | None], code: Sequence[str]
) -> dict[str, Any]:
    decides = deciding_code(*(code or (f"steps.{step}.{step}",)))
    return {
        "step": step,
        "code": decides.digest,
        "libraries": decides.libraries,
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
        # Not every file system says with these that a folder is there, as one behind FUSE or SMB.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and _looked(lambda: look(final), final) is None:
            raise
        shutil.rmtree(folder)
    sync(final.parent)


@contextmanager
def _only_builder(shelf: Path, id: str) -> Iterator[bool]:
    """Wait while another run builds the same artefact, so that no work is done twice.

    The kernel drops the lock when its holder dies. Where no lock keeps the runs of all nodes apart, both build, and the
    first rename wins: slower, never wrong.

    Yields:
        Whether no other run builds it.
    """
    path = shelf / f".{id}"
    with held(path, f"another run is making {shelf.name} {id}") as locked:
        try:
            yield locked
        finally:
            path.unlink(missing_ok=True)  # before the release: whoever waited for a removed file takes a new one
