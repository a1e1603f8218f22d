"""Asks an image registry for images, by the OCI distribution API; reads Docker's own login."""

import re
from http import HTTPStatus

import requests
from docker import auth

from contract.errors import InputError

_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
_SECONDS = 20
_DOCKER_HUB = "registry-1.docker.io"


class RegistryError(InputError):
    """The registry gives no answer, or refuses; the message says what to do."""


class Registry:
    """A registry, by the first part of its images' names: `ghcr.io/owner`, or `localhost:5000`."""

    def __init__(self, prefix: str) -> None:
        """Prepare the session; nothing is sent yet.

        Args:
            prefix: The first part of the images' names.
        """
        self._host = prefix.partition("/")[0]
        self._address = _DOCKER_HUB if self._host in ("docker.io", "index.docker.io") else self._host
        # As Docker: plain HTTP on the loopback address only.
        scheme = "http" if re.fullmatch(r"(localhost|127\.[\d.]+)(:\d+)?", self._host) else "https"
        self._url = f"{scheme}://{self._address}/v2/"
        self._session = requests.Session()
        self._session.headers["Accept"] = _MANIFESTS

    def has(self, image: str) -> bool:
        """Ask whether the registry holds an image.

        Args:
            image: The full name of the image, with its tag.

        Returns:
            Whether it does.

        Raises:
            RegistryError: The registry does not answer, refuses the login, or fails.
        """
        repository, _, tag = image.removeprefix(f"{self._host}/").rpartition(":")
        url = f"{self._url}{repository}/manifests/{tag}"
        try:
            answer = self._session.head(url, timeout=_SECONDS)
            if answer.status_code == HTTPStatus.UNAUTHORIZED:
                self._log_in(answer.headers.get("WWW-Authenticate", ""))
                answer = self._session.head(url, timeout=_SECONDS)
        except requests.RequestException as error:
            raise RegistryError(
                f"the registry {self._host} does not answer ({error}): start it, or set another `registry` in "
                "project.yaml"
            ) from error
        if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise RegistryError(
                f"the registry {self._host} denies access to {image} (status {answer.status_code}): log in with docker "
                f"login {self._host}, as a user who may read and write there"
            )
        if answer.status_code not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
            raise RegistryError(f"the registry {self._host} answers {url} with status {answer.status_code}: try again")
        return answer.status_code == HTTPStatus.OK

    def _log_in(self, challenge: str) -> None:
        """Answer the registry's challenge: with Docker's login, or with a token from its token server."""
        login = auth.load_config().resolve_authconfig(self._host) or {}
        user = (login["username"], login["password"]) if "username" in login and "password" in login else None
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() != "bearer":
            self._session.auth = user
            return
        parameters = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        answer = requests.get(parameters.pop("realm", ""), params=parameters, auth=user, timeout=_SECONDS)
        if answer.ok:
            content = answer.json()
            self._session.headers["Authorization"] = f"Bearer {content.get('token') or content.get('access_token')}"
