"""Fetches MNIST's four files to `<data volume>/downloads/`: checked by SHA-256, resumed where they broke off."""

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.events import Progress
from steps.common.errors import StepError
from steps.common.events import emit

# SHA-256 of the files as their authors published them.
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_CHUNK_BYTES = 1 << 16  # what a broken transfer may lose
_TIMEOUT_SECONDS = 30


def fetch(name: str, sha256: str, base_url: str, folder: Path) -> Path:
    """The file `name`, fetched if it is not there; StepError saying what to do if it cannot be had."""
    import pooch
    import requests

    url = base_url.rstrip("/") + "/" + name
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder, downloader=_resume))
    except (requests.RequestException, ValueError) as error:
        raise StepError(
            f"{url} could not be fetched ({error}): run again to go on where it broke off, name another mirror in "
            f"data.mnist_url, or put the file into {folder}"
        ) from error


def _resume(url: str, output_file: str, _: Any) -> None:
    """A pooch downloader that keeps what it got in `<file>.part` and asks only for the rest."""
    import requests

    name = url.rsplit("/", 1)[-1]
    part = Path(output_file).parent / f"{name}.part"
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # it is whole, or wrong: the checksum cannot tell from here
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
    """An IDX file of unsigned bytes: a big-endian header of the shape, then the values (MNIST's own description)."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise StepError(f"{path} is no IDX file of bytes: delete it and run again")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
