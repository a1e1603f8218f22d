"""The Docker engine, through Docker's command line: reads and writes its images."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from contract.errors import InputError, ProjectError
from contract.paths import ROOT

UID = GID = 1000  # whom every container runs as; the Dockerfiles say the same
USER = f"{UID}:{GID}"
_HOW = (
    "Install Docker as https://docs.docker.com/engine/install/ says (on Debian or Ubuntu: sudo apt-get install "
    "docker.io), start it, let this user use it (group docker), and run this again. `make run` and `make serve` "
    "without RUNNER=docker need none."
)


class DockerMissingError(InputError):
    """There is no engine to work with; the message says why, and how to get it."""


class DockerError(ProjectError):
    """The engine could not do what was asked; the message says what it answered."""


class Docker:
    """A running engine; DockerMissingError if there is none."""

    def __init__(self) -> None:
        if shutil.which("docker") is None:
            raise DockerMissingError(f"Docker is needed, and there is no command `docker` here. {_HOW}")
        done = self._docker("version", "--format", "{{.Client.Version}}")
        if done.returncode:
            raise DockerMissingError(
                f"Docker is needed, and its engine does not answer ({done.stderr.strip().splitlines()[-1]}). {_HOW}"
            )
        self._client_version = done.stdout.strip()

    def size(self, image: str) -> int | None:
        """The bytes of an image; None if the engine has no such image."""
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
        """Build an image from the repository's root; what the builder says goes to `on_line`.

        Layers that the images `caches` of a registry have are taken from there, where BuildKit does the work.
        """
        command = ["build", "--file", str(ROOT / file), "--target", target, "--tag", image]
        if self._has_buildkit:
            command += ["--progress", "plain", "--build-arg", "BUILDKIT_INLINE_CACHE=1"]
            command += [word for image in caches for word in ("--cache-from", image)]
        else:
            command += ["--force-rm"]  # also the container of a step that failed
        command += _options("--build-arg", arguments) + _options("--label", labels) + [str(ROOT)]
        self._follow(command, on_line)

    def pull(self, image: str, on_line: Callable[[str], None]) -> None:
        """Fetch an image from the registry in its name."""
        self._follow(["pull", image], on_line)

    def push(self, image: str, on_line: Callable[[str], None]) -> None:
        """Push an image to the registry in its name."""
        self._follow(["push", image], on_line)

    @cached_property
    def _has_buildkit(self) -> bool:
        """Whether `docker build` can use BuildKit: newer command lines need a plugin for it, older ones do not."""
        return self._docker("buildx", "version").returncode == 0 or int(self._client_version.split(".")[0]) < 23

    def _docker(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["docker", *words], capture_output=True, text=True, check=False)  # noqa: S607

    def _follow(self, words: list[str], on_line: Callable[[str], None]) -> None:
        # Only the builder named default is the engine's own, which has the images that others are built on.
        environment = {"DOCKER_BUILDKIT": str(int(self._has_buildkit)), "BUILDX_BUILDER": "default"}
        said: list[str] = []
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
                    said.append(line)
                    on_line(line)
        if process.returncode:
            raise DockerError(f"docker {words[0]} failed:\n" + "\n".join(said[-15:]))


def _options(option: str, values: Mapping[str, str]) -> list[str]:
    pairs: Iterable[tuple[str, str]] = values.items()
    return [word for key, value in pairs for word in (option, f"{key}={value}")]
