"""The health check of containers, `python -m serving probe`: readiness, or with --live liveness.

It uses the standard library's HTTP client: the kubelet runs it every few seconds, and httpx would double its time.
"""

import argparse
import os
import sys
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from serving import client
from serving.canary import Canary, read_canary
from serving.golden import Golden, GoldenError

_LEAST_SECONDS = 0.1  # a timeout of 0 would make the socket non-blocking


def probe(arguments: argparse.Namespace) -> int:
    """Probe the server on this machine.

    Readiness: the canary is answered as the version being served should. Liveness: any answer, or TorchServe's /ping
    is OK.

    Args:
        arguments: `port`, `live`, and `timeout` in seconds.

    Returns:
        0 if it is ready (live), otherwise 1.
    """
    port, deadline = arguments.port, time.monotonic() + arguments.timeout
    canary = read_canary(port)
    if arguments.live:
        return _report(port, "live", _is_live(canary, port, deadline))
    ready = _is_ready(canary, deadline)
    # A switch began or ended meanwhile: the answer was compared with the wrong versions, so ask again.
    while not ready and (now := read_canary(port)) != canary:
        canary = now
        ready = _is_ready(canary, deadline)
    return _report(port, "ready", ready)


def _report(port: int, state: str, passed: bool) -> int:
    print(f"port {port} is {'' if passed else 'not '}{state}")
    return 0 if passed else 1


def _is_live(canary: Canary | None, port: int, deadline: float) -> bool:
    # During a switch /ping is not OK until the workers of the new version are ready.
    return _ping(port, _remaining(deadline)) or (
        canary is not None
        and any(each.ask_canary(canary.url, _remaining(deadline), _predict) is not None for each in canary.versions)
    )


def _is_ready(canary: Canary | None, deadline: float) -> bool:
    return canary is not None and any(_answers_right(each, canary.url, deadline) for each in canary.versions)


def _answers_right(golden: Golden, url: str, deadline: float) -> bool:
    try:
        right = golden.is_answered(url, _remaining(deadline), _predict)
    except GoldenError as error:
        print(error, file=sys.stderr)
        return False
    return right and os.environ.get("MODEL_VERSION") in (None, "", golden.version)


def _remaining(deadline: float) -> float:
    return max(deadline - time.monotonic(), _LEAST_SECONDS)


def _ping(port: int, timeout: float) -> bool:
    """Whether TorchServe's /ping is OK: its workers run. It answers at once, even with a full queue."""
    try:
        return _request("GET", f"http://127.0.0.1:{port}/ping", timeout)[0] == HTTPStatus.OK
    except OSError:
        return False


def _predict(url: str, image: bytes, timeout: float) -> client.Answer:
    """As `client.predict` for a health check."""
    status, reason, body = _request("PUT", url, timeout, image, {client.PROBE: "1"})
    return status, client.read_answer(body, reason)


def _request(
    method: str, url: str, timeout: float, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, str, bytes]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request(method, parts.path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.reason, response.read()
    except HTTPException as error:
        raise ConnectionError(f"{url} does not answer in HTTP: {error!r}") from error
    finally:
        connection.close()
