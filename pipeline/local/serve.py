"""Serves the model that the pointer names in the serving image: reads the deploy volume, writes nothing."""

import os
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from pipeline.images.build import build_images, references
from pipeline.images.docker import USER, Docker
from pipeline.images.platforms import here
from pipeline.images.tag import SERVING
from pipeline.settings import Project
from serving.front.configuration import Address, reserve
from serving.pointer import check_archive, read_pointer

_LOG = "/tmp/torchserve.log"  # noqa: S108 - in the container, whose output is for the user


def serve(project: Project, volumes: Path, port: int, console: Console) -> NoReturn:
    """Check model and port, build the image if it is missing, and replace this process by `docker run`.

    Args:
        project: The project, which names the image.
        volumes: The folder of the volumes.
        port: The port on the loopback address.
        console: Where the progress of building is shown.

    Raises:
        PointerError: There is no model to serve.
        AddressError: The port cannot be used.
        DockerMissingError: There is no Docker.
        DockerError: The image could not be built.
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
    command += ["--publish", f"127.0.0.1:{port}:{port}", "--health-cmd", f"python3 -m serving probe --port {port}"]
    image = references(project, here())[SERVING]
    os.execvp(program, [*command, image, "python3", "-m", "serving", *start])  # noqa: S606
