"""Logs Docker in to the project's registry: reads REGISTRY_USER and REGISTRY_PASSWORD."""

import os
import subprocess

from pipeline.images.docker import Docker, DockerError
from pipeline.settings import Project, SettingsError


def login(project: Project) -> str:
    """Log in; without REGISTRY_USER and REGISTRY_PASSWORD, do nothing.

    Args:
        project: The project, which names the registry.

    Returns:
        A sentence with what was done.

    Raises:
        SettingsError: Only one of the two variables is set.
        DockerError: The registry rejects the login.
        DockerMissingError: There is no Docker.
    """
    user, password = (os.environ.get(f"REGISTRY_{part}") for part in ("USER", "PASSWORD"))
    host = project.registry.partition("/")[0]
    if not user and not password:
        return f"{host}: no login, since neither REGISTRY_USER nor REGISTRY_PASSWORD is set"
    if not user or not password:
        raise SettingsError("REGISTRY_USER and REGISTRY_PASSWORD: only one is set; set both, or neither")
    Docker()
    command = ["docker", "login", host, "--username", user, "--password-stdin"]
    done = subprocess.run(command, input=password, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DockerError(f"{host} rejects the login of {user}: {done.stderr.strip().splitlines()[-1]}")
    return f"{host}: logged in as {user}"
