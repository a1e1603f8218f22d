"""Client of the prediction API; reads and writes no files."""

import json
from typing import Any

from serving.connection import send

PROBE = "X-Probe"  # header of a health check's request

Answer = tuple[int, dict[str, Any]]  # HTTP status and JSON body


def predict(
    url: str, image: bytes, timeout: float = 60.0, *, polarity: str | None = None, probe: bool = False
) -> Answer:
    """Ask a running server for a prediction; `OSError` if it does not answer, or not in time.

    Args:
        url: The address for predictions, with the model's name.
        image: The bytes of an image file.
        timeout: Seconds for connecting, and for each read or write.
        polarity: `dark-on-light` or `light-on-dark`, if not the polarity that the model was trained on.
        probe: Whether this is a health check, which is not counted among the predictions.

    Returns:
        HTTP status and JSON. A body that is not a JSON object, from a proxy for example, becomes
        `{"message": <the body, or the reason phrase>}`.
    """
    headers = ({"X-Polarity": polarity} if polarity else {}) | ({PROBE: "1"} if probe else {})
    response = send("PUT", url, body=image, headers=headers, timeout=timeout)
    return response.status, read_answer(response.body, response.reason)


def read_answer(body: bytes, reason: str) -> dict[str, Any]:
    """The JSON object in a response body; if there is none, the body or the reason phrase as its `message`."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"message": body.decode(errors="replace") or reason}
