"""HTTP requests of serving, with httpx: over TCP, or over a Unix socket; reads and writes no files.

Proxies of the environment are ignored: the server is on this machine, or in the same cluster, or at an address that
the user gave.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Response(NamedTuple):
    """An HTTP response: status, reason phrase, and decoded body."""

    status: int
    reason: str
    body: bytes


def send(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    unix_socket: Path | None = None,
) -> Response:
    """Send one request on a connection of its own; redirects are not followed.

    Args:
        method: The HTTP method.
        url: The address; for `https` the system's certificates are trusted.
        body: The request body; none if not given.
        headers: Headers to add; no Content-Type is sent unless it is among them.
        timeout: Seconds for connecting, and for each read or write.
        unix_socket: A socket to connect to instead of the host and port in `url`.

    Returns:
        The response, whatever its status.

    Raises:
        TimeoutError: No answer in time.
        ConnectionError: No connection, or the answer is not HTTP.
    """
    import httpx  # not at the top: it takes 0.1 s, which --help and the probe do not need, and start spends beside Java

    try:
        # Loading the system's certificates takes 20 ms: only for https.
        secure = httpx.URL(url).scheme == "https"
        context = ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        transport = httpx.HTTPTransport(verify=context, trust_env=False, uds=str(unix_socket) if unix_socket else None)
        with httpx.Client(transport=transport, trust_env=False, timeout=timeout) as client:
            response = client.request(method, url, content=body, headers=headers)
    except httpx.TimeoutException as error:
        raise TimeoutError(str(error) or "timed out") from error
    except httpx.NetworkError as error:
        raise ConnectionError(str(error) or repr(error)) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConnectionError(f"the answer is not HTTP, or the address not a URL: {error}") from error
    return Response(response.status_code, response.reason_phrase, response.content)


def send_local(
    address: Path | int,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> Response:
    """As `send`, to an address that only this machine can reach.

    Args:
        address: The path of a Unix socket, or a port of the loopback address.
        method: The HTTP method.
        path: The path with its query, percent-encoded.
        body: The request body; none if not given.
        headers: Headers to add.
        timeout: Seconds for connecting, and for each read or write.

    Returns:
        The response, whatever its status.
    """
    unix_socket, port = (address, "") if isinstance(address, Path) else (None, f":{address}")
    url = f"http://127.0.0.1{port}{path}"
    return send(method, url, body=body, headers=headers, timeout=timeout, unix_socket=unix_socket)
