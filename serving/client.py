"""Asks a running TorchServe for predictions, over HTTP; reads and writes no files."""

import json
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

PROBE = "X-Probe"  # the header of a health check's request


def predict(
    url: str, image: bytes, timeout: float = 60.0, *, polarity: str | None = None, probe: bool = False
) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the JSON that `url` answers for one image file; OSError if nobody answers there.

    `polarity` says what the image is if not what the model was trained on: dark-on-light or light-on-dark. A probe is
    not counted among the predictions. An answer that is no JSON object, as a proxy may give, becomes
    `{"message": <its text or reason>}`.
    """
    parts = urlsplit(url)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    headers = ({"X-Polarity": polarity} if polarity else {}) | ({PROBE: "1"} if probe else {})
    connection = connect(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("PUT", parts.path, body=image, headers=headers)
        response = connection.getresponse()
        body = response.read()
    except HTTPException as error:
        raise ConnectionError(f"{url} does not answer as HTTP: {error!r}") from error
    finally:
        connection.close()
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        answer = {"message": body.decode(errors="replace") or response.reason}
    return response.status, answer


def is_alive(url: str, timeout: float) -> bool:
    """Whether TorchServe at this address says that its workers live: at once, however many requests wait."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
