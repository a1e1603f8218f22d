"""Lets TorchServe answer a malformed request with 400 and not 500: writes one class of its jar anew, a handler changed.

TorchServe takes for errors of its own what is thrown where a form cannot be taken apart (Netty's DecoderException),
where a boundary is empty, and where a target has no slash (IndexOutOfBoundsException). They take the places of
two that need none here, among what is a bad request: nothing is downloaded, and nothing registered synchronously.
"""

import hashlib
import struct
import zipfile
from pathlib import Path

from serving.batching import UnknownClassError

CLASS = "org/pytorch/serve/http/HttpRequestHandler.class"

# As of batching.py's class: this is the last version.
_SHA256 = "4284484a3cbe3c227cec2578dcb44b9ae9c4f1b8cffbccec26e36490803cea31"
_CHANGED = {
    b"org/pytorch/serve/archive/DownloadArchiveException": b"io/netty/handler/codec/DecoderException",
    b"org/pytorch/serve/http/RequestTimeoutException": b"java/lang/IndexOutOfBoundsException",
}
# In the table of what channelRead0 catches: from, to, handler, class. Handler 145 answers 408, 99 answers 400.
_IS_LATE = struct.pack(">4H", 0, 73, 145, 110)
_IS_BAD = struct.pack(">4H", 0, 73, 99, 110)


def write_class(jar: Path, folder: Path) -> None:
    """Write the class below `folder`, which then stands before the jar on Java's class path."""
    with zipfile.ZipFile(jar) as archive:
        original = archive.read(CLASS)
    if hashlib.sha256(original).hexdigest() != _SHA256:
        raise UnknownClassError(f"{jar} is not of TorchServe 0.12.0: install the version in serving/requirements.txt")
    path = folder / CLASS
    path.parent.mkdir(parents=True, exist_ok=True)
    changed = original.replace(_IS_LATE, _IS_BAD)
    for unused, wanted in _CHANGED.items():
        changed = changed.replace(_constant(unused), _constant(wanted))
    path.write_bytes(changed)


def _constant(text: bytes) -> bytes:
    """A class file's constant that holds a text: nothing else in the file says where a constant stands."""
    return struct.pack(">BH", 1, len(text)) + text
