"""Logs Docker in to the project's registry: reads REGISTRY_USER and REGISTRY_PASSWORD."""

import os

from pipeline.images.docker import Docker
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
    # A secret that was read from a file often ends with a line break.
    user, password = ((os.environ.get(f"REGISTRY_{part}") or "").strip() for part in ("USER", "PASSWORD"))
    host = project.registry.partition("/")[0]
    if not user and not password:
        return f"{host}: no login, since neither REGISTRY_USER nor REGISTRY_PASSWORD is set"
    if not user or not password:
        raise SettingsError("REGISTRY_USER and REGISTRY_PASSWORD: only one is set; set both, or neither")
    Docker().login(host, user, password)
    return f"{host}: logged in as {user}"
