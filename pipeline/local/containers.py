"""Runs a pipeline by `kfp.local` in containers, on bind mounts that stand for the volumes' claims.

A container has what it has in the cluster: a fixed user, a root file system that cannot be written, no capability.
"""

import codecs
import contextlib
import os
import shlex
import stat
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from unittest import mock

from docker.client import DockerClient
from docker.errors import NotFound
from docker.types import Mount
from kfp import local
from kfp.local import docker_task_handler

from pipeline.images.docker import GID, UID, USER
from pipeline.local.subprocesses import run_with
from pipeline.settings import SettingsError
from steps.registry import Step

_FROM_THE_USER = Path("data", "images")  # only ever read


def run_in_containers(
    pipeline: Callable[..., Any],
    arguments: dict[str, Any],
    output: TextIO,
    *,
    volumes: list[Path],
    steps: Mapping[str, Step],
    online: Collection[str],
) -> None:
    """Run the pipeline's steps in their images.

    Args:
        pipeline: The pipeline.
        arguments: Its arguments.
        output: Where the output of the steps and of kfp goes.
        volumes: The folders of the volumes. A step has those of its entry, at the root, under their own names.
        steps: The step of each image.
        online: The names of the steps that need the network; the others have none.

    kfp raises RuntimeError if a step fails.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _exit_status(steps, online):
        root = Path(folder)
        root.chmod(0o777)  # a container's user writes there what a step returns
        runner = local.DockerRunner(
            user=USER,
            read_only=True,
            tmpfs={"/tmp": "mode=1777"},  # noqa: S108 - the container's own
            mounts=[Mount(f"/{path.name}", str(path), type="bind") for path in volumes],
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            init=True,  # ends what a step started and left
        )
        run_with(runner, root, pipeline, arguments, output)


def give_to_containers(volumes: list[Path]) -> None:
    """Let the containers' user write the volumes; SettingsError with the remedy where that takes another user."""
    foreign = {volume: [path for path in _below(volume) if path.lstat().st_uid != UID] for volume in volumes}
    if os.getuid() == 0:
        for path in (path for paths in foreign.values() for path in paths):
            os.chown(path, UID, GID, follow_symlinks=False)
    elif closed := [volume for volume, paths in foreign.items() if any(map(_is_closed_folder, paths))]:
        raise SettingsError(
            f"user id {UID}, whom the containers run as, cannot write {', '.join(map(str, closed))}: do "
            f"`sudo chown -R {USER} {shlex.join(map(str, closed))}`, or choose another folder with VOLUMES=/elsewhere"
        )


def _is_closed_folder(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISDIR(mode) and not mode & stat.S_IWOTH


def _below(volume: Path) -> Iterator[Path]:
    yield volume
    for folder, folders, files in os.walk(volume):
        if Path(folder) == volume:
            folders[:] = [name for name in folders if Path(volume.name, name) != _FROM_THE_USER]
        yield from (Path(folder, name) for name in (*folders, *files))


@contextlib.contextmanager
def _exit_status(steps: Mapping[str, Step], online: Collection[str]) -> Iterator[None]:
    """Know how each container ended, and leave none running.

    kfp 2.17.0 lets the engine remove a container that ended, and where it is gone before kfp asks, takes it for a
    success.
    """
    with mock.patch.object(docker_task_handler, "run_docker_container", partial(_run_container, steps, online)):
        yield


def _run_container(
    steps: Mapping[str, Step],
    online: Collection[str],
    client: DockerClient,
    image: str,
    command: list[str],
    volumes: dict[str, Any],
    *,
    mounts: list[Mount],
    **options: Any,
) -> int:
    step = steps[image]
    options["mounts"] = [mount for mount in mounts if mount["Target"] in step.mounts]
    options["network_mode"] = "bridge" if step.name in online else "none"
    name = f"step-{uuid.uuid4().hex}"  # known before it is there, so that an interrupted run can end it, too
    try:
        container = client.containers.run(image, command, name=name, volumes=volumes, detach=True, **options)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for piece in container.logs(stream=True):
            print(decoder.decode(piece), end="")
        status: int = container.wait()["StatusCode"]
    finally:
        with contextlib.suppress(NotFound):
            client.api.remove_container(name, force=True)
    return status
