"""Asks an image registry for images, by the OCI distribution API; reads Docker's own login.

What needs more than a user and a password, such as a credential helper or an identity token, is left to the engine.
"""

import base64
import re
import warnings
from http import HTTPStatus
from typing import Any

import httpx
from docker import auth
from docker.errors import DockerException

from contract.errors import InputError
from pipeline.images.docker import Docker, DockerError, DockerMissingError, is_loopback
from steps.common.http import ForeignAnswerError, Http, NoAnswerError, content, described, is_elsewhere, shown

_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
_DOCKER_HUB = "registry-1.docker.io"
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class RegistryError(InputError):
    """The registry gives no answer, or refuses; the message says what to do."""


class Registry:
    """A registry, by the first part of its images' names: `ghcr.io/owner`, or `localhost:5000`."""

    def __init__(self, prefix: str, *, retries: int = 3, backoff: float = 0.3, seconds: float = 20.0) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            prefix: The first part of the images' names.
            retries: How often a request is repeated that fails.
            backoff: Seconds before the first repetition; doubled for each further one.
            seconds: The most to wait for an answer.

        Raises:
            AddressError: The certificates that the environment names cannot be read.
        """
        self._host = prefix.partition("/")[0]
        self._address = _DOCKER_HUB if self._host in ("docker.io", "index.docker.io") else self._host
        # As Docker: plain HTTP on the loopback address; elsewhere only where the engine is told so.
        self._scheme = "http" if is_loopback(self._host) else "https"
        self._login = _login(self._host)
        self._policy: dict[str, Any] = {"retries": retries, "backoff": backoff, "seconds": seconds}
        self._http = Http(**self._policy)

    def has(self, image: str) -> bool:
        """Ask whether the registry holds an image.

        Args:
            image: The full name of the image, with its tag.

        Returns:
            Whether it does.

        Raises:
            RegistryError: The registry does not answer, refuses the login, or fails.
        """
        answer = self._head(image, {})
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            answer = self._head(image, self._authorization(answer.headers.get("WWW-Authenticate", "")))
        if is_elsewhere(answer) or "html" in answer.headers.get("Content-Type", ""):
            raise self._foreign(described(answer))
        if answer.status_code in _DENIED:
            return self._asked_by_the_engine(image, answer.status_code)
        if answer.status_code not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
            raise RegistryError(
                f"the registry {self._host} answers for {image} with status {answer.status_code}: try again"
            )
        return answer.status_code == HTTPStatus.OK

    def _head(self, image: str, authorization: dict[str, str]) -> httpx.Response:
        repository, _, tag = image.removeprefix(f"{self._host}/").rpartition(":")
        where = f"://{self._address}/v2/{repository}/manifests/{tag}"
        try:
            return self._http.request("HEAD", self._scheme + where, headers={"Accept": _MANIFESTS, **authorization})
        except NoAnswerError as error:
            if self._scheme == "https" and self._is_insecure():
                self._scheme = "http"
                return self._head(image, authorization)
            raise RegistryError(
                f"the registry {self._host} does not answer ({error}): start it, or set another `registry` in "
                "project.yaml; one that speaks plain HTTP must be among the engine's insecure registries"
            ) from error

    def _is_insecure(self) -> bool:
        try:
            return Docker().is_insecure(self._host)
        except (DockerMissingError, DockerError):
            return False

    def _asked_by_the_engine(self, image: str, status: int) -> bool:
        """Ask by the engine's command line, which has helpers and tokens that this client has not."""
        why = f"status {status}"
        try:
            return Docker().is_in_registry(image)
        except DockerError as error:
            why = f"{why}; {error}"
        except DockerMissingError:
            pass
        raise RegistryError(
            f"the registry {self._host} denies access to {image} ({why}): log in with docker login {self._host}, as a "
            "user who may read and write there"
        )

    def _authorization(self, challenge: str) -> dict[str, str]:
        """The header that answers a registry's challenge: Docker's login, or a token of the registry's token server."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() != "bearer":
            text = base64.b64encode(":".join(self._login or ("", "")).encode()).decode()
            return {"Authorization": f"Basic {text}"} if self._login else {}
        parameters = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = parameters.pop("realm", "")
        if not realm.startswith(("https://", f"{self._scheme}://")):
            raise RegistryError(f"the registry {self._host} asks for the login at {shown(realm)!r}, which is not safe")
        try:
            answer = Http(login=self._login, **self._policy).request("GET", realm, params=parameters)
            given = content(answer) if answer.is_success else {}
        except NoAnswerError as error:
            raise RegistryError(
                f"the login server {shown(realm)} of the registry {self._host} does not answer ({error}): try again"
            ) from error
        except ForeignAnswerError as error:
            raise self._foreign(error) from error
        token = given.get("token") or given.get("access_token")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _foreign(self, what: object) -> RegistryError:
        return RegistryError(
            f"{self._host} is not a registry: it answers with {what}; set `registry` in project.yaml to the registry's "
            "own address"
        )


def _login(host: str) -> tuple[str, str] | None:
    """User and password of Docker's settings or of its credential helper; None if there are none that can be read."""
    try:
        with warnings.catch_warnings(action="ignore"):  # a helper that is not installed
            found = auth.load_config().resolve_authconfig(host) or {}
    except (DockerException, OSError, ValueError):  # the engine's command line may know more
        return None
    user, password = (found.get(key) or found.get(key.title()) for key in ("username", "password"))
    return (user, password) if user and password else None
