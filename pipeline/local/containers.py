"""Runs a pipeline in containers with `kfp.local`; bind mounts take the place of the claims.

A container is restricted as in the cluster: a fixed user, a read-only root file system, no capabilities.
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

_USER_IMAGES = Path("data", "images")  # the steps only read them


def run_in_containers(
    pipeline: Callable[..., Any],
    arguments: dict[str, Any],
    output: TextIO,
    *,
    volumes: list[Path],
    steps: Mapping[str, Step],
    online: Collection[str],
) -> None:
    """Run the pipeline's steps in containers of their images.

    Args:
        pipeline: The pipeline, as `build_pipeline` returns it.
        arguments: Its arguments.
        output: Where the output of the steps and of kfp goes.
        volumes: The folders of the volumes; a step's volumes are mounted at `/<their name>`.
        steps: The step of each image.
        online: The names of the steps whose containers have a network.

    Raises:
        RuntimeError: A step failed.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _containers_waited_for(steps, online):
        root = Path(folder)
        root.chmod(0o777)  # the containers' user writes the outputs of the steps there
        runner = local.DockerRunner(
            user=USER,
            read_only=True,
            tmpfs={"/tmp": "mode=1777"},  # noqa: S108 - the container's own
            mounts=[Mount(f"/{path.name}", str(path), type="bind") for path in volumes],
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            init=True,  # reaps the processes that a step leaves
        )
        run_with(runner, root, pipeline, arguments, output)


def give_to_containers(volumes: list[Path]) -> None:
    """Let the containers' user write the volumes; as root, change the owner of their files.

    Args:
        volumes: The folders of the volumes.

    Raises:
        SettingsError: The containers' user cannot write a volume, and only root can change that.
    """
    foreign = {volume: [path for path in _below(volume) if path.lstat().st_uid != UID] for volume in volumes}
    if os.getuid() == 0:
        for path in (path for paths in foreign.values() for path in paths):
            os.chown(path, UID, GID, follow_symlinks=False)
    elif closed := [volume for volume, paths in foreign.items() if any(map(_is_closed_folder, paths))]:
        raise SettingsError(
            f"the containers run as user {UID}, who cannot write {', '.join(map(str, closed))}: do "
            f"`sudo chown -R {USER} {shlex.join(map(str, closed))}`, or choose another folder with VOLUMES=/elsewhere"
        )


def _is_closed_folder(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISDIR(mode) and not mode & stat.S_IWOTH


def _below(volume: Path) -> Iterator[Path]:
    yield volume
    for folder, folders, files in os.walk(volume):
        if Path(folder) == volume:
            folders[:] = [name for name in folders if Path(volume.name, name) != _USER_IMAGES]
        yield from (Path(folder, name) for name in (*folders, *files))


@contextlib.contextmanager
def _containers_waited_for(steps: Mapping[str, Step], online: Collection[str]) -> Iterator[None]:
    """Take the exit status of each container from Docker, and remove the container.

    kfp 2.17.0 lets the engine remove a container at its end, and takes a container that is gone for a success.
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
    name = f"step-{uuid.uuid4().hex}"  # set before it exists, so that an interrupted run can remove it
    try:
        container = client.containers.run(image, command, name=name, volumes=volumes, detach=True, **options)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for chunk in container.logs(stream=True):
            print(decoder.decode(chunk), end="")
        status: int = container.wait()["StatusCode"]
    finally:
        with contextlib.suppress(NotFound):
            client.api.remove_container(name, force=True)
    return status
