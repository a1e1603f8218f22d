"""The processors that images are for: reads the project, and PLATFORMS of the environment.

An image's tag names its platforms where they are not the default, so an image of one is never taken for another's.
"""

import os
import platform
from collections.abc import Iterable
from typing import get_args

from pipeline.settings import DEFAULT_PLATFORM, Platform, Project, SettingsError

_MACHINES = {"aarch64": "arm64", "arm64": "arm64"}


def of_cluster(project: Project) -> tuple[str, ...]:
    """The platforms of the images that a cluster pulls.

    Args:
        project: The project.

    Returns:
        Those of PLATFORMS, separated by commas, or else `kubeflow.platforms` of project.yaml; in order, each once.

    Raises:
        SettingsError: There are no images for such a platform.
    """
    given = [each.strip() for each in os.environ.get("PLATFORMS", "").split(",") if each.strip()]
    if unknown := [each for each in given if each not in get_args(Platform)]:
        raise SettingsError(f"PLATFORMS: has {unknown[0]!r}; it must be a list of {', '.join(get_args(Platform))}")
    return tuple(sorted(set(given or project.kubeflow.platforms)))


def here() -> tuple[str, ...]:
    """The platform of the images that run on this machine."""
    return (f"linux/{_MACHINES.get(platform.machine().lower(), 'amd64')}",)


def suffix(platforms: Iterable[str]) -> str:
    """What a tag ends with: nothing for the default platform, else `-` and each processor, such as `-arm64`."""
    if set(platforms) == {DEFAULT_PLATFORM}:
        return ""
    return "".join(f"-{each.removeprefix('linux/')}" for each in platforms)
