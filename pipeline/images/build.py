"""Builds the images that the engine lacks, and pushes the images that the registry lacks.

An image's tag is the digest of its sources, so an image that exists is never built again.
"""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from rich.console import Console

from pipeline.git import GitError, git
from pipeline.images.docker import Docker
from pipeline.images.progress import ImageProgress
from pipeline.images.tag import NAMES, SERVING, build_arguments, dockerfile, tag
from pipeline.settings import Project, SettingsError
from steps.registry import STEP_NAMES, TASKS


def references(project: Project) -> dict[str, str]:
    """The full name of each image, by its short name: `<registry>/<project>-<name>:<tag>`."""
    return {name: f"{project.registry}/{project.name}-{name}:{tag(name)}" for name in NAMES}


def needed(project: Project) -> tuple[str, ...]:
    """The names of the images that a run on Kubeflow needs: each step, and serving if deploy rolls it out."""
    return (*STEP_NAMES, SERVING) if project.kubeflow.serving_namespace else STEP_NAMES


def build_images(project: Project, names: Iterable[str], console: Console) -> ImageProgress:
    """Build the images that the engine lacks.

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
    docker, images, progress = Docker(), references(project), ImageProgress(console)
    for name in _in_order(names):
        _ensure(docker, images, name, progress)
    return progress


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

    registry, images, progress = Registry(project.registry), references(project), ImageProgress(console)
    wanted, held = _in_order(names), [name for name in NAMES if registry.has(images[name])]
    docker = None if set(wanted) <= set(held) else Docker()
    for name in wanted:
        if docker is None or name in held:
            progress.record(name, images[name], "there")
            continue
        _ensure(docker, images, name, progress, held)
        with progress.working(name, images[name], "pushed") as show:
            docker.push(images[name], show)
    return progress


def _ensure(
    docker: Docker, images: Mapping[str, str], name: str, progress: ImageProgress, held: Sequence[str] = ()
) -> None:
    """Build an image unless the engine has it; layers of the images `held` by the registry are reused."""
    image = images[name]
    if (size := docker.size(image)) is not None:
        progress.record(name, image, "there", size)
        return
    arguments = build_arguments(name)
    if name != SERVING and TASKS[name].on_serving:
        arguments["SERVING_IMAGE"] = images[SERVING]
        if SERVING in held and docker.size(images[SERVING]) is None:
            with progress.working(SERVING, images[SERVING], "pulled") as show:
                docker.pull(images[SERVING], show)
        _ensure(docker, images, SERVING, progress)
    with progress.working(name, image, "built") as show:
        docker.build(
            image,
            file=dockerfile(name),
            target=name,
            arguments=arguments,
            labels=_labels(name),
            caches=[images[other] for other in held],
            on_line=show,
        )
    progress.record(name, image, "built", docker.size(image))


def _in_order(names: Iterable[str]) -> list[str]:
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
