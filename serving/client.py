"""Asks a running TorchServe for predictions, over HTTP; reads and writes no files."""

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit


def predict(
    url: str, image: bytes, timeout: float = 60.0, *, polarity: str | None = None
) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the JSON that `url` answers for one image file; OSError if nobody answers there.

    `polarity` says what the image is if not what the model was trained on: dark-on-light or light-on-dark. An answer
    that is no JSON object, as a proxy may give, becomes `{"message": <its text or reason>}`.
    """
    parts = urlsplit(url)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("PUT", parts.path, body=image, headers={"X-Polarity": polarity} if polarity else {})
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


def answers(url: str, timeout: float) -> bool:
    """Whether anything at this address speaks HTTP, whatever it says."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("GET", "/ping")
        connection.getresponse()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return True
