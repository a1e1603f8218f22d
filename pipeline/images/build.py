"""The images of the steps and of serving: builds what the engine lacks, and pushes what the registry lacks.

An image's tag is the digest of its sources, so an image that exists is the right one and is never built again.
"""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from rich.console import Console

from pipeline.git import GitError, git
from pipeline.images.docker import Docker
from pipeline.images.progress import Work
from pipeline.images.tag import NAMES, SERVING, build_arguments, dockerfile, tag
from pipeline.settings import Project, SettingsError
from steps.common.digest import STEPS


def references(project: Project) -> dict[str, str]:
    """The full name of each image, as `docker pull` wants it."""
    return {name: f"{project.registry}/{project.name}-{name}:{tag(name)}" for name in NAMES}


def needed(project: Project) -> tuple[str, ...]:
    """The images that a run on Kubeflow needs: each step's, and serving's if deploy rolls it out."""
    return (*STEPS, SERVING) if project.kubeflow.serving_namespace else STEPS


def build_images(project: Project, names: Iterable[str], console: Console) -> Work:
    """Build those of the images that the engine lacks, showing progress; gives what was done."""
    docker, images, work = Docker(), references(project), Work(console)
    for name in _in_order(names):
        _ensure(docker, images, name, work)
    return work


def push_images(project: Project, names: Iterable[str], console: Console) -> Work:
    """Push those of the images that the registry lacks, building first what is not here either."""
    from pipeline.images.registry import Registry  # brings packages that only it needs

    registry, images, work = Registry(project.registry), references(project), Work(console)
    wanted, held = _in_order(names), [name for name in NAMES if registry.has(images[name])]
    docker = None if set(wanted) <= set(held) else Docker()
    for name in wanted:
        if docker is None or name in held:
            work.note(name, images[name], "there")
            continue
        _ensure(docker, images, name, work, held)
        with work.doing(name, images[name], "pushed") as say:
            docker.push(images[name], say)
    return work


def _ensure(docker: Docker, images: Mapping[str, str], name: str, work: Work, held: Sequence[str] = ()) -> None:
    """Have the image in the engine; what the registry holds lends its layers, so that they are not made again."""
    image = images[name]
    if (size := docker.size(image)) is not None:
        work.note(name, image, "there", size)
        return
    arguments = build_arguments(name)
    if name == "deploy":
        arguments["SERVING_IMAGE"] = images[SERVING]
        if SERVING in held and docker.size(images[SERVING]) is None:
            with work.doing(SERVING, images[SERVING], "pulled") as say:
                docker.pull(images[SERVING], say)
        _ensure(docker, images, SERVING, work)
    with work.doing(name, image, "built") as say:
        docker.build(
            image,
            file=dockerfile(name),
            target=name,
            arguments=arguments,
            labels=_labels(name),
            caches=[images[other] for other in held],
            on_line=say,
        )
    work.note(name, image, "built", docker.size(image))


def _in_order(names: Iterable[str]) -> list[str]:
    wanted = set(names)
    if unknown := wanted - set(NAMES):
        raise SettingsError(f"no image is called {', '.join(sorted(unknown))}; the images are {', '.join(NAMES)}")
    return [name for name in NAMES if name in wanted]


def _labels(name: str) -> dict[str, str]:
    """Where an image comes from, by the names that registries show."""
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
