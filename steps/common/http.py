"""HTTP requests to servers of others: Kubeflow, registries, webhooks; reads the environment.

One policy for all: certificates and proxies as curl takes them from the environment, retries for what may succeed
later, and no secret in a message or a log. A redirect to another host carries no credentials.
"""

import html
import ipaddress
import logging
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

import httpx
import truststore
from httpx_retries import Retry, RetryTransport

from contract.errors import InputError

# The statuses of a server that may do later what it does not do now.
LATER = (
    *(HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS),
    *(HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY),
    *(HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT),
)
LONGEST_WAIT_SECONDS = 60.0  # for a Retry-After, too
_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")

for _name in ("httpx", "httpcore"):  # at lower levels they log addresses and headers
    logging.getLogger(_name).setLevel(logging.WARNING)


class AddressError(InputError):
    """An address, a secret or a setting of the environment cannot be used; the message holds no secret."""


class NoAnswerError(InputError):
    """A server does not answer; the message is the cause, without a secret."""


class ForeignAnswerError(InputError):
    """What answers is not the server; the message is what it is."""


class Http:
    """A client with credentials, for one server."""

    def __init__(
        self,
        *,
        token: str | None = None,
        login: tuple[str, str] | None = None,
        retries: int = 4,
        backoff: float = 1.0,
        seconds: float = 30.0,
        repeated: tuple[str, ...] = ("GET", "HEAD"),
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            token: A bearer token.
            login: User and password, unless there is a token.
            retries: How often a request is repeated that fails or is answered with one of `LATER`.
            backoff: Seconds before the first repetition; doubled for each further one. `Retry-After` takes precedence.
            seconds: The most to wait for an answer.
            repeated: The methods whose requests are repeated.

        Raises:
            AddressError: The certificates that the environment names cannot be read.
        """
        retry = _Retry(
            total=retries,
            allowed_methods=repeated,
            status_forcelist=LATER,
            backoff_factor=backoff / 2,  # doubled before the first wait
            backoff_jitter=0.25,
            max_backoff_wait=LONGEST_WAIT_SECONDS,
        )
        self._client = httpx.Client(
            transport=RetryTransport(transport=_Routes(certificates()), retry=retry),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            auth=None if token or not login else httpx.BasicAuth(*login),
            timeout=httpx.Timeout(seconds, connect=min(seconds, 10)),
            trust_env=False,  # neither .netrc, which would replace the token, nor proxies, which _Routes chooses
            max_redirects=5,
        )

    def request(self, method: str, url: str, **content: Any) -> httpx.Response:
        """Send a request. A GET or HEAD follows redirects; another method's redirect is the answer.

        Args:
            method: The method.
            url: The address.
            content: As `httpx.Client.request` takes it.

        Returns:
            The answer, whatever its status.

        Raises:
            NoAnswerError: There is no answer.
        """
        try:
            return self._client.request(method, url, follow_redirects=method in ("GET", "HEAD"), **content)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise NoAnswerError(_cause(error)) from error


def content(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer.

    Args:
        answer: The answer of a server that answers with JSON objects.

    Returns:
        The object.

    Raises:
        ForeignAnswerError: The answer is something else, or comes from elsewhere.
    """
    with suppress(ValueError):
        if not is_elsewhere(answer) and isinstance(found := answer.json(), dict):
            return found
    raise ForeignAnswerError(described(answer))


def is_elsewhere(answer: httpx.Response) -> bool:
    """Whether an answer is a redirect, or the answer of another server that a redirect leads to."""
    asked = (answer.history or [answer])[0].request.url
    return answer.has_redirect_location or _server(answer.url) != _server(asked)


def described(answer: httpx.Response) -> str:
    """What an answer is: a page with its title, or its type, and where a redirect led.

    Args:
        answer: The answer of a server that is not the expected one.

    Returns:
        A part of a sentence, such as "the page 'Log in' of https://login.example/auth".
    """
    kind = answer.headers.get("Content-Type", "").partition(";")[0] or "no content"
    title = re.search(r"<title[^>]*>(.*?)</title", answer.text, re.DOTALL | re.IGNORECASE) if "html" in kind else None
    words = " ".join(html.unescape(title[1]).split())[:80] if title else ""
    what = f"the page {words!r}" if words else f"{kind} (status {answer.status_code})"
    if answer.has_redirect_location:
        return f"a redirect to {shown(str(answer.url.join(answer.headers['Location'])))}"
    return f"{what} of {shown(str(answer.url))}" if answer.history else what


def shown(url: str) -> str:
    """An address without user, password, query and fragment, for messages."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def secret(name: str, text: str | None) -> str | None:
    """A secret without the white space around it, such as the line break at the end of a file.

    Args:
        name: Its name, for the message.
        text: The secret.

    Returns:
        The secret; None if nothing is left of it.

    Raises:
        AddressError: It has a character within that no header can hold.
    """
    bare = (text or "").strip()
    if not re.fullmatch(r"[!-~]*", bare):
        raise AddressError(f"{name} has a space or another character within that no token has: copy it anew")
    return bare or None


def parted(name: str, text: str) -> tuple[str, tuple[str, str] | None]:
    """An address without user and password, and both of them.

    Args:
        name: The name of the address, for the message.
        text: The address.

    Returns:
        The address, without white space around it and a slash at its end; user and password, or None.

    Raises:
        AddressError: It is no address of a web server.
    """
    bare = text.strip()
    try:
        parts = urlsplit(bare)
        host, port = parts.hostname, parts.port
        httpx.URL(bare)
    except (ValueError, httpx.InvalidURL):
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or re.search(r"\s", bare):
        told = re.sub(r"[^/]*@", "", bare)
        raise AddressError(f"{name} is {told!r}; it must be an address such as https://kubeflow.example")
    place = f"[{host}]" if ":" in host else host
    address = urlunsplit((parts.scheme, place if port is None else f"{place}:{port}", parts.path.rstrip("/"), "", ""))
    login = (unquote(parts.username or ""), unquote(parts.password or "")) if "@" in parts.netloc else None
    return address, login


def certificates() -> ssl.SSLContext:
    """The certificates to trust: those that the environment names, or else the system's.

    Returns:
        A context for connections.

    Raises:
        AddressError: A variable names what cannot be read.
    """
    return _context(tuple((name, path) for name in _CERTIFICATES if (path := os.environ.get(name))))


@cache
def _context(named: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    """The context for what the environment names; one for all clients, since to read a system's takes 0.1 s."""
    if not named:
        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, path in named:
        try:
            if os.path.isdir(path):
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise AddressError(f"{name} is {path!r}, of which no certificates can be read ({error})") from error
    return context


class _Retry(Retry):
    """Repeats nothing that fails for its certificate."""

    def is_retryable_exception(self, exception: Exception) -> bool:
        return super().is_retryable_exception(exception) and not any(
            isinstance(e, ssl.SSLError) for e in _chain(exception)
        )


class _Routes(httpx.BaseTransport):
    """Sends each request by the proxy that the environment names for its address, or directly."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._routes: dict[str | None, httpx.HTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        proxy = _proxy(request.url)
        if proxy not in self._routes:
            try:
                self._routes[proxy] = httpx.HTTPTransport(verify=self._context, proxy=proxy, trust_env=False)
            except ValueError as error:
                raise AddressError(f"the proxy of {request.url.scheme} in the environment is no address") from error
        return self._routes[proxy].handle_request(request)

    def close(self) -> None:
        for route in self._routes.values():
            route.close()


def _proxy(url: httpx.URL) -> str | None:
    """The proxy for an address, from HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; None if NO_PROXY names its host."""
    proxies = getproxies_environment()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found or proxy_bypass(url.netloc.decode()):
        return None
    for word in proxies.get("no", "").replace(",", " ").split():
        with suppress(ValueError):
            if ipaddress.ip_address(url.host) in ipaddress.ip_network(word, strict=False):
                return None
    return found if "://" in found else f"http://{found}"


def _server(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _cause(error: BaseException) -> str:
    """The cause of a failed request, in words without an address, which may hold a secret."""
    if known := next((each for each in _chain(error) if isinstance(each, ssl.SSLCertVerificationError)), None):
        return f"its certificate is not trusted: {known.verify_message}; SSL_CERT_FILE names those to trust"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ProxyError):
        return f"the proxy refuses: {error}"
    if isinstance(error, httpx.TooManyRedirects):
        return "it leads in a circle"
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return "no address or no request of the web"
    return re.sub(r"^\[[^\]]*\] ", "", str(error)) or type(error).__name__
