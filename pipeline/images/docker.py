"""The container engine, Docker or Podman, by its command line: builds, pulls and pushes images."""

import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from contract.errors import InputError, ProjectError
from contract.paths import ROOT

UID = GID = 1000  # the user of every container, as in the Dockerfiles
USER = f"{UID}:{GID}"
_PROGRAMS = ("docker", "podman")
_REMEDY = (
    "Install Docker as https://docs.docker.com/engine/install/ says (on Debian or Ubuntu: sudo apt-get install "
    "docker.io), start it, let this user use it (group docker), and run this again; Podman will do, too. `make run` "
    "and `make serve` without RUNNER=docker need none."
)
_UNKNOWN = ("no such manifest", "manifest unknown", "name unknown", "not found")


class DockerMissingError(InputError):
    """There is neither a Docker nor a Podman that answers; the message says how to get one."""


class DockerError(ProjectError):
    """A command of the engine failed; the message ends with its output."""


class Docker:
    """A running engine: Docker, or Podman where there is no Docker."""

    def __init__(self) -> None:
        """Find the engine.

        Raises:
            DockerMissingError: None is installed, or none answers.
        """
        silent = ""
        for self.program in filter(shutil.which, _PROGRAMS):
            done = self._docker("version", "--format", "{{.Client.Version}}")
            if done.returncode == 0:
                self._client_version = done.stdout.strip()
                self._is_podman = "podman" in self._docker("--version").stdout  # perhaps under the name docker
                return
            silent = silent or (_last_line(done.stderr) or _last_line(done.stdout) or "it says nothing")
        if not silent:
            raise DockerMissingError(f"Docker is needed, and there is no command `docker` here. {_REMEDY}")
        raise DockerMissingError(f"Docker is needed, and its engine does not answer ({silent}). {_REMEDY}")

    def size(self, image: str) -> int | None:
        """The size of an image in bytes; None if the engine does not have it."""
        done = self._docker("image", "inspect", "--format", "{{.Size}}", image)
        return int(done.stdout) if done.returncode == 0 else None

    def is_in_registry(self, image: str) -> bool:
        """Ask an image's registry for it, with the engine's own logins, helpers and tokens.

        Args:
            image: The full name of the image.

        Returns:
            Whether the registry has it.

        Raises:
            DockerError: The registry refuses or does not answer.
        """
        done = self._docker("manifest", "inspect", image)
        if done.returncode == 0:
            return True
        if any(words in done.stderr.lower() for words in _UNKNOWN):
            return False
        raise DockerError(f"{self.program} manifest inspect failed: {_last_line(done.stderr)}")

    def is_insecure(self, host: str) -> bool:
        """Whether the engine is told that a registry speaks plain HTTP.

        Args:
            host: The registry's host, with its port.

        Returns:
            Whether it is, as far as the engine says.
        """
        with suppress(ValueError, AttributeError):
            if self._is_podman:
                known = json.loads(self._docker("info", "--format", "json").stdout).get("registries", {})
                return bool((known.get(host) or {}).get("Insecure"))
            known = json.loads(self._docker("info", "--format", "{{json .RegistryConfig}}").stdout)
            if host in known.get("IndexConfigs", {}):
                return not known["IndexConfigs"][host].get("Secure", True)
            address = ipaddress.ip_address(host.rpartition(":")[0] or host)
            return any(address in ipaddress.ip_network(each) for each in known.get("InsecureRegistryCIDRs") or ())
        return False

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
        platform: str = "",
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
            platform: Another platform than that of the engine, such as `linux/arm64`; empty for that of the engine.

        Raises:
            DockerError: The build failed.
        """
        command = ["build", *(["--platform", platform] if platform else [])]
        if self._is_podman:
            command += ["--force-rm", "--format", "docker"]  # the other format has no HEALTHCHECK
        elif self._has_buildkit:
            command += ["--progress", "plain", "--build-arg", "BUILDKIT_INLINE_CACHE=1"]
            command += [word for image in caches for word in ("--cache-from", image)]
        else:
            command += ["--force-rm"]  # else the container of a failed step stays
        self._follow([*command, *_source(image, file, target, arguments, labels)], on_line)

    def build_and_push(
        self,
        image: str,
        *,
        file: str,
        target: str,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
        platforms: Sequence[str],
        on_line: Callable[[str], None],
    ) -> None:
        """Build an image for several platforms and push it, as one list of manifests, by buildx.

        Args:
            image: The full name of the image.
            file: The Dockerfile, relative to the root.
            target: The stage to build.
            arguments: The build arguments.
            labels: The labels of the image.
            platforms: Such as `linux/amd64` and `linux/arm64`.
            on_line: Called with each line of the output.

        Raises:
            DockerError: There is no buildx, or the build or the push failed.
        """
        if self._is_podman or self._docker("buildx", "version").returncode:
            raise DockerError(
                f"images for {', '.join(platforms)} at once need Docker with its plugin buildx and a builder for them: "
                "docker buildx create --use; or push for one platform, PLATFORMS=linux/amd64 make push"
            )
        command = ["buildx", "build", "--push", "--platform", ",".join(platforms), "--progress", "plain"]
        self._follow([*command, *_source(image, file, target, arguments, labels)], on_line, {})

    def pull(self, image: str, on_line: Callable[[str], None]) -> None:
        """Pull an image, calling `on_line` with each line of the output; DockerError if that fails."""
        self._follow(["pull", *self._plain_http(image), image], on_line)

    def push(self, image: str, on_line: Callable[[str], None]) -> None:
        """Push an image, calling `on_line` with each line of the output; DockerError if that fails."""
        self._follow(["push", *self._plain_http(image), image], on_line)

    def login(self, host: str, user: str, password: str) -> None:
        """Log in to a registry.

        Args:
            host: The registry.
            user: The user.
            password: The password, which no message holds.

        Raises:
            DockerError: The registry rejects the login.
        """
        command = ["login", *self._plain_http(host), host, "--username", user, "--password-stdin"]
        done = self._docker(*command, text=password)
        if done.returncode:
            said = (_last_line(done.stderr) or "no reason").replace(password, "***")
            raise DockerError(f"{host} rejects the login of {user}: {said}")

    @cached_property
    def _has_buildkit(self) -> bool:
        """Whether `docker build` can use BuildKit, for which Docker 23 and later need the plugin buildx."""
        return self._docker("buildx", "version").returncode == 0 or int(self._client_version.split(".")[0]) < 23

    def _plain_http(self, image: str) -> list[str]:
        """The flag that Podman needs where Docker takes plain HTTP unasked: for the loopback address."""
        return ["--tls-verify=false"] if self._is_podman and is_loopback(image.partition("/")[0]) else []

    def _docker(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [self.program, *words]
        try:
            return subprocess.run(command, input=text, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:  # what has this name is no program
            return subprocess.CompletedProcess(command, 126, "", f"{self.program}: {error.strerror}")

    def _follow(
        self, words: list[str], on_line: Callable[[str], None], environment: Mapping[str, str] | None = None
    ) -> None:
        if environment is None and not self._is_podman:
            # The builder named default is the engine's own: another one does not have the base images built here.
            environment = {"DOCKER_BUILDKIT": str(int(self._has_buildkit)), "BUILDX_BUILDER": "default"}
        output: list[str] = []
        with subprocess.Popen(
            [self.program, *words],
            env={**os.environ, **(environment or {})},
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
            raise DockerError(f"{self.program} {words[0]} failed:\n" + "\n".join(output[-15:]))


def is_loopback(host: str) -> bool:
    """Whether a registry is on this machine, so that Docker takes it without encryption."""
    name = host.rpartition(":")[0] or host
    with suppress(ValueError):
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    return name == "localhost"


def _source(image: str, file: str, target: str, arguments: Mapping[str, str], labels: Mapping[str, str]) -> list[str]:
    """What an image is built of, and its name, as the last words of a build."""
    words = ["--file", str(ROOT / file), "--target", target, "--tag", image]
    return [*words, *_options("--build-arg", arguments), *_options("--label", labels), str(ROOT)]


def _options(option: str, values: Mapping[str, str]) -> list[str]:
    pairs: Iterable[tuple[str, str]] = values.items()
    return [word for key, value in pairs for word in (option, f"{key}={value}")]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1].strip()
