"""Downloads a file to a folder: checked by SHA-256, and resumed after a broken transfer. Reads IDX files."""

import gzip
import os
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.events import Progress, Waiting, emit
from steps.common.errors import StepError

_CHUNK_BYTES = 1 << 16  # at most lost when a transfer breaks
_TIMEOUT_SECONDS = 30
# Seconds before the next tries of a transfer that broke: Kubeflow does not try a failed step again.
PAUSES = (1.0, 5.0, 20.0)
_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


def fetch(name: str, sha256: str, base_url: str, folder: Path) -> Path:
    """Download a file, unless the folder has it already.

    Args:
        name: The file's name, in the folder and at the end of its URL.
        sha256: Its SHA-256, in hexadecimal.
        base_url: The URL of the folder that it is downloaded from.
        folder: Where it is kept. An unfinished download stays there as `<name>.part`.

    Returns:
        The file's path.

    Raises:
        StepError: if the download fails, or the file has another SHA-256.
    """
    import pooch
    import requests

    url = base_url.rstrip("/") + "/" + name
    pauses = iter(PAUSES)
    while True:
        try:
            return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder, downloader=_resume))
        except (requests.RequestException, ValueError) as error:
            pause = next(pauses, None) if _may_pass(error) else None
            if pause is None:
                raise StepError(
                    f"{url} could not be fetched ({error}): run again to go on where it broke off, name another mirror "
                    f"in data.mnist_url, or put the file into {folder}"
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


def _resume(url: str, output_file: str, _: Any) -> None:
    """Download for pooch: keep what arrives in `<file>.part`, and ask for the rest of it alone."""
    import requests

    name = url.rsplit("/", 1)[-1]
    part = Path(output_file).parent / f"{name}.part"
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
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
    if done < total:
        raise requests.ConnectionError(f"{done} of {total} bytes arrived")
    os.replace(part, output_file)


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
