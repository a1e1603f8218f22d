"""Builds the images that the engine lacks, and pushes the images that the registry lacks.

An image's tag is the digest of its sources, so an image that exists is never built again.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.console import Console

from pipeline.git import GitError, git
from pipeline.images.docker import Docker
from pipeline.images.platforms import here, of_cluster, suffix
from pipeline.images.progress import ImageProgress
from pipeline.images.tag import NAMES, SERVING, build_arguments, dockerfile, tag
from pipeline.settings import Project, SettingsError
from steps.registry import STEP_NAMES, TASKS

if TYPE_CHECKING:
    from pipeline.images.registry import Registry


def references(project: Project, platforms: Sequence[str] | None = None) -> dict[str, str]:
    """The full name of each image.

    Args:
        project: The project, which names registry and images.
        platforms: Of the images; None for those of the cluster.

    Returns:
        `<registry>/<project>-<name>:<tag>`, by the image's short name.

    Raises:
        SettingsError: PLATFORMS or TORCH of the environment is wrong.
    """
    ending = suffix(of_cluster(project) if platforms is None else platforms)
    return {name: f"{project.registry}/{project.name}-{name}:{tag(name)}{ending}" for name in NAMES}


def needed(project: Project) -> tuple[str, ...]:
    """The names of the images that a run on Kubeflow needs: each step, and serving if deploy rolls it out."""
    return (*STEP_NAMES, SERVING) if project.kubeflow.serving_namespace else STEP_NAMES


def build_images(project: Project, names: Iterable[str], console: Console) -> ImageProgress:
    """Build the images that the engine lacks, for this machine.

    Args:
        project: The project, which names the images.
        names: Steps, or serving.
        console: Where progress is shown.

    Returns:
        What was done with each image.

    Raises:
        DockerMissingError: There is no engine.
        DockerError: A build failed.
        SettingsError: A name is unknown.
    """
    work = _Work(Docker(), references(project, here()), ImageProgress(console))
    for name in in_order(names):
        work.ensure(name)
    return work.progress


def push_images(project: Project, names: Iterable[str], console: Console) -> ImageProgress:
    """Push the images that the registry lacks, built first where the engine lacks them, too.

    Args:
        project: The project, which names registry and images.
        names: Steps, or serving.
        console: Where progress is shown.

    Returns:
        What was done with each image.

    Raises:
        RegistryError: The registry gives no answer.
        DockerMissingError: Docker is needed, and there is none.
        DockerError: A build or push failed.
        SettingsError: A name is unknown.
    """
    from pipeline.images.registry import Registry  # slow to import

    platforms, progress = of_cluster(project), ImageProgress(console)
    images = references(project, platforms)
    wanted, held = in_order(names), _held(Registry(project.registry), images, NAMES)
    if len(platforms) > 1:
        # An image that is built on another one pulls it from the registry.
        wanted = in_order([*wanted, *(SERVING for name in wanted if _is_on_serving(name))])
    work = None if set(wanted) <= set(held) else _Work(Docker(), images, progress, held, platforms)
    for name in wanted:
        if work is None or name in held:
            progress.record(name, images[name], "there")
        else:
            work.push(name)
    return progress


def missing(project: Project, *, retries: int = 3, seconds: float = 20.0) -> list[str]:
    """The images of a run that the registry lacks.

    Args:
        project: The project, which names registry and images.
        retries: How often a request is repeated that fails.
        seconds: The most to wait for an answer.

    Returns:
        Their short names, in the order of building.

    Raises:
        RegistryError: The registry gives no answer.
    """
    from pipeline.images.registry import Registry  # slow to import

    wanted = in_order(needed(project))
    held = _held(Registry(project.registry, retries=retries, seconds=seconds), references(project), wanted)
    return [name for name in wanted if name not in held]


def _held(registry: "Registry", images: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Those of the images that the registry has; all are asked for at once."""
    with ThreadPoolExecutor() as pool:
        there = pool.map(lambda name: registry.has(images[name]), names)
        return [name for name, is_there in zip(names, there, strict=True) if is_there]


@dataclass(frozen=True)
class _Work:
    """The building and pushing of images by an engine; layers of the images `held` by the registry are reused."""

    docker: Docker
    images: Mapping[str, str]
    progress: ImageProgress
    held: Sequence[str] = ()
    platforms: Sequence[str] = ()  # empty for that of the engine

    def push(self, name: str) -> None:
        """Push an image, built first unless the engine has it."""
        if len(self.platforms) > 1:
            self._build_and_push(name)
            return
        self.ensure(name)
        with self.progress.working(name, self.images[name], "pushed") as show:
            self.docker.push(self.images[name], show)

    def ensure(self, name: str) -> None:
        """Build an image unless the engine has it."""
        image = self.images[name]
        if (size := self.docker.size(image)) is not None:
            self.progress.record(name, image, "there", size)
            return
        if _is_on_serving(name):
            if SERVING in self.held and self.docker.size(self.images[SERVING]) is None:
                with self.progress.working(SERVING, self.images[SERVING], "pulled") as show:
                    self.docker.pull(self.images[SERVING], show)
            self.ensure(SERVING)
        others = [each for each in self.platforms if each not in here()]
        caches = [self.images[other] for other in self.held]
        with self.progress.working(name, image, "built") as show:
            self.docker.build(image, **self._source(name), caches=caches, on_line=show, platform="".join(others))
        self.progress.record(name, image, "built", self.docker.size(image))

    def _build_and_push(self, name: str) -> None:
        with self.progress.working(name, self.images[name], "pushed") as show:
            self.docker.build_and_push(self.images[name], **self._source(name), platforms=self.platforms, on_line=show)

    def _source(self, name: str) -> dict[str, Any]:
        arguments = build_arguments(name)
        if _is_on_serving(name):
            arguments["SERVING_IMAGE"] = self.images[SERVING]
        return {"file": dockerfile(name), "target": name, "arguments": arguments, "labels": _labels(name)}


def _is_on_serving(name: str) -> bool:
    return name != SERVING and TASKS[name].on_serving


def in_order(names: Iterable[str]) -> list[str]:
    """The names in the order of building; SettingsError if there is no such image."""
    wanted = set(names)
    if unknown := wanted - set(NAMES):
        raise SettingsError(f"no image is called {', '.join(sorted(unknown))}; the images are {', '.join(NAMES)}")
    return [name for name in NAMES if name in wanted]


def _labels(name: str) -> dict[str, str]:
    """The labels of an image's origin, as the OCI image specification names them."""
    labels = {
        "title": name,
        "version": tag(name),
        "revision": _git_or_unknown("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
        "source": _without_credentials(_git_or_unknown("remote", "get-url", "origin")),
    }
    return {f"org.opencontainers.image.{key}": value for key, value in labels.items()}


def _git_or_unknown(*words: str) -> str:
    try:
        return git(*words)
    except GitError:
        return "unknown"


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.scheme else url
