"""The Docker engine, by its command line: builds, pulls and pushes images."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from contract.errors import InputError, ProjectError
from contract.paths import ROOT

UID = GID = 1000  # the user of every container, as in the Dockerfiles
USER = f"{UID}:{GID}"
_REMEDY = (
    "Install Docker as https://docs.docker.com/engine/install/ says (on Debian or Ubuntu: sudo apt-get install "
    "docker.io), start it, let this user use it (group docker), and run this again. `make run` and `make serve` "
    "without RUNNER=docker need none."
)


class DockerMissingError(InputError):
    """Docker is not installed, or its engine does not answer; the message says how to get it."""


class DockerError(ProjectError):
    """A Docker command failed; the message ends with its output."""


class Docker:
    """A running Docker engine."""

    def __init__(self) -> None:
        """Find the engine.

        Raises:
            DockerMissingError: Docker is not installed, or its engine does not answer.
        """
        if shutil.which("docker") is None:
            raise DockerMissingError(f"Docker is needed, and there is no command `docker` here. {_REMEDY}")
        done = self._docker("version", "--format", "{{.Client.Version}}")
        if done.returncode:
            raise DockerMissingError(
                f"Docker is needed, and its engine does not answer ({done.stderr.strip().splitlines()[-1]}). {_REMEDY}"
            )
        self._client_version = done.stdout.strip()

    def size(self, image: str) -> int | None:
        """The size of an image in bytes; None if the engine does not have it."""
        done = self._docker("image", "inspect", "--format", "{{.Size}}", image)
        return int(done.stdout) if done.returncode == 0 else None

    def build(
        self,
        image: str,
        *,
        file: str,
        target: str,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
        caches: Iterable[str],
        on_line: Callable[[str], None],
    ) -> None:
        """Build an image from the root of the repository.

        Args:
            image: The full name of the image.
            file: The Dockerfile, relative to the root.
            target: The stage to build.
            arguments: The build arguments.
            labels: The labels of the image.
            caches: Images in a registry whose layers BuildKit may reuse.
            on_line: Called with each line of the output.

        Raises:
            DockerError: The build failed.
        """
        command = ["build", "--file", str(ROOT / file), "--target", target, "--tag", image]
        if self._has_buildkit:
            command += ["--progress", "plain", "--build-arg", "BUILDKIT_INLINE_CACHE=1"]
            command += [word for image in caches for word in ("--cache-from", image)]
        else:
            command += ["--force-rm"]  # else the container of a failed step stays
        command += _options("--build-arg", arguments) + _options("--label", labels) + [str(ROOT)]
        self._follow(command, on_line)

    def pull(self, image: str, on_line: Callable[[str], None]) -> None:
        """Pull an image, calling `on_line` with each line of the output; DockerError if that fails."""
        self._follow(["pull", image], on_line)

    def push(self, image: str, on_line: Callable[[str], None]) -> None:
        """Push an image, calling `on_line` with each line of the output; DockerError if that fails."""
        self._follow(["push", image], on_line)

    @cached_property
    def _has_buildkit(self) -> bool:
        """Whether `docker build` can use BuildKit, for which Docker 23 and later need the plugin buildx."""
        return self._docker("buildx", "version").returncode == 0 or int(self._client_version.split(".")[0]) < 23

    def _docker(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["docker", *words], capture_output=True, text=True, check=False)  # noqa: S607

    def _follow(self, words: list[str], on_line: Callable[[str], None]) -> None:
        # The builder named default is the engine's own: another one does not have the base images built here.
        environment = {"DOCKER_BUILDKIT": str(int(self._has_buildkit)), "BUILDX_BUILDER": "default"}
        output: list[str] = []
        with subprocess.Popen(
            ["docker", *words],  # noqa: S607
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                if line := line.strip():
                    output.append(line)
                    on_line(line)
        if process.returncode:
            raise DockerError(f"docker {words[0]} failed:\n" + "\n".join(output[-15:]))


def _options(option: str, values: Mapping[str, str]) -> list[str]:
    pairs: Iterable[tuple[str, str]] = values.items()
    return [word for key, value in pairs for word in (option, f"{key}={value}")]
