"""Serves the model that the pointer names in the serving image: reads the deploy volume.

The server writes nothing but images that clients send, if they are kept.
"""

import os
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from contract.loop.collected import FOLDER
from contract.loop.collecting import VARIABLE
from pipeline.images.build import build_images, references
from pipeline.images.docker import USER, Docker
from pipeline.images.platforms import here
from pipeline.images.tag import SERVING
from pipeline.settings import Project
from serving.front.configuration import Address, reserve
from serving.pointer import check_archive, read_pointer

_LOG = "/tmp/torchserve.log"  # noqa: S108 - in the container, whose output is for the user


def serve(project: Project, volumes: Path, port: int, console: Console, collect: str) -> NoReturn:
    """Check model and port, build the image if it is missing, and replace this process by `docker run`.

    Args:
        project: The project, which names the image.
        volumes: The folder of the volumes.
        port: The port on the loopback address.
        console: Where the progress of building is shown.
        collect: The limits of the images that are kept, as `Limits.text` has them; empty to keep none.

    Raises:
        PointerError: There is no model to serve.
        AddressError: The port cannot be used.
        DockerMissingError: There is no Docker.
        DockerError: The image could not be built.
        SettingsError: Images are kept, and the container's user cannot write their folder.
    """
    volume = volumes.absolute() / "deploy-model"
    check_archive(read_pointer(volume))
    port = reserve(Address(port=port), "--port").port
    build_images(project, [SERVING], console)
    start = ["start", "--host", "0.0.0.0", "--port", str(port), "--log", _LOG]  # noqa: S104 - of the container
    program = Docker().program
    command = [program, "run", "--rm", "--init", "--read-only", "--user", USER]
    # Java unpacks native libraries there, and cannot load them from a mount without exec.
    command += ["--tmpfs", "/tmp:exec"]  # noqa: S108
    command += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    command += ["--mount", f'type=bind,"source={volume}",target=/deploy-model,readonly']
    if collect:
        kept = _kept(volumes.absolute() / FOLDER)
        command += ["--mount", f'type=bind,"source={kept}",target=/{FOLDER}', "--env", f"{VARIABLE}={collect}"]
    command += ["--publish", f"127.0.0.1:{port}:{port}", "--health-cmd", f"python3 -m serving probe --port {port}"]
    image = references(project, here())[SERVING]
    os.execvp(program, [*command, image, "python3", "-m", "serving", *start])  # noqa: S606


def _kept(folder: Path) -> Path:
    """The folder of images that are kept, which the container's user can write."""
    from pipeline.local.containers import give_to_containers  # imports kfp

    folder.mkdir(mode=0o700, exist_ok=True)
    give_to_containers([folder])
    return folder
