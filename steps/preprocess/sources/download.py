"""Downloads a file to a folder: checked by SHA-256, and resumed after a broken transfer. Reads IDX files."""

import gzip
import os
import re
import time
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contract.events import Progress, Waiting, emit
from steps.common.digest import file_sha256
from steps.common.errors import StepError
from steps.common.locks import held

if TYPE_CHECKING:
    from requests import Response

_CHUNK_BYTES = 1 << 16  # at most lost when a transfer breaks
_TIMEOUT_SECONDS = 30
_SOON_SECONDS = 10
# Seconds before the next tries of a transfer that broke: Kubeflow does not try a failed step again.
PAUSES = (1.0, 5.0, 20.0)
_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


class NotFetchedError(StepError):
    """A file could not be fetched, and nothing is wrong with what is there."""


def fetch(url: str, path: Path, sha256: str, remedy: str, *, patient: bool = True) -> Path:
    """Download a file, unless it is there already.

    Args:
        url: Where it is downloaded from.
        path: Where it is kept. An unfinished download stays beside it as `<name>.part`.
        sha256: Its SHA-256, in hexadecimal; if this is empty, the one that the server names, if it does.
        remedy: What to do if it cannot be had.
        patient: Whether to try again a server that was not reached; a transfer that broke goes on in any case.

    Returns:
        The file's path.

    Raises:
        NotFetchedError: The download fails.
        StepError: The file has another SHA-256.
    """
    import pooch
    import requests

    known = f"sha256:{sha256}" if sha256 else None
    pauses = iter(PAUSES)
    part = path.with_name(f"{path.name}.part")
    timeout = (_TIMEOUT_SECONDS if patient else _SOON_SECONDS, _TIMEOUT_SECONDS)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without locks two runs at once may spoil each other's part, which the checksum shows.
    with held(path.with_name(f".{path.name}.lock"), f"another run is fetching {path.name}"):
        while True:
            try:
                downloader = partial(_resume, part, timeout)
                return Path(pooch.retrieve(url, known, fname=path.name, path=path.parent, downloader=downloader))
            except (requests.RequestException, ValueError) as error:
                may_pass = _may_pass(error) and (patient or part.exists())
                pause = next(pauses, None) if may_pass else None
                if pause is None:
                    failed = NotFetchedError if isinstance(error, requests.RequestException) else StepError
                    raise failed(
                        f"{url} could not be fetched ({error}): run again to go on where it broke off, {remedy}"
                    ) from error
                emit(Waiting(f"{url} could not be fetched ({error}): once more in {pause:g} s", "preprocess"))
                time.sleep(pause)


def _may_pass(error: Exception) -> bool:
    """Whether the next try may succeed: the connection broke, or the server says later."""
    import requests

    if isinstance(error, requests.HTTPError):
        return error.response is not None and (
            error.response.status_code in _LATER or error.response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
        )
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def _resume(part: Path, timeout: tuple[float, float], url: str, output_file: str, _: Any) -> None:
    """Download for pooch: keep what arrives in a partial file, and ask for the rest of it alone."""
    import requests

    name = part.name.removesuffix(".part")
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # it is complete or damaged; the checksum is not known here
            raise requests.ConnectionError(f"the partial file of {have} bytes did not fit and was removed")
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        done = have if resumed else 0
        total = done + int(response.headers.get("Content-Length", 0))
        with part.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_content(_CHUNK_BYTES):
                done += file.write(chunk)
                emit(Progress(f"fetch {name}", done, total, "bytes", "preprocess"))
        named = _named_sha256([*response.history, response])
    if done < total:
        raise requests.ConnectionError(f"{done} of {total} bytes arrived")
    if named and (found := file_sha256(part)) != named:
        part.unlink()
        raise ValueError(f"its SHA-256 is {found}, and the server names {named}")
    os.replace(part, output_file)


def _named_sha256(answers: "Sequence[Response]") -> str | None:
    """The SHA-256 that a server names for a file it keeps elsewhere, as Hugging Face does before it redirects."""
    found = (answer.headers.get("X-Linked-ETag", "").strip('"') for answer in answers)
    return next((tag for tag in found if re.fullmatch(r"[0-9a-f]{64}", tag)), None)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a compressed IDX file of unsigned bytes: a header with the shape, big-endian, then the values.

    Args:
        path: The file, compressed by gzip.

    Returns:
        The values, uint8, in the shape that the header gives.

    Raises:
        StepError: if the values are no unsigned bytes.
    """
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise StepError(f"{path} is not an IDX file of bytes: delete it and run again")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
