"""Lets TorchServe answer a malformed form with 400 and not 500: writes one class of its jar anew, a handler changed.

Netty's DecoderException, for a form that it cannot take apart, is caught by TorchServe as an error of its own. It takes
the place of WorkflowNotFoundException, which nothing throws where there are no workflows, among what is a bad request.
"""

import hashlib
import struct
import zipfile
from pathlib import Path

from serving.batching import UnknownClassError

CLASS = "org/pytorch/serve/http/HttpRequestHandler.class"

# As of batching.py's class: this is the last version.
_SHA256 = "4284484a3cbe3c227cec2578dcb44b9ae9c4f1b8cffbccec26e36490803cea31"
_UNUSED = b"org/pytorch/serve/archive/workflow/WorkflowNotFoundException"
_WANTED = b"io/netty/handler/codec/DecoderException"
# In the table of what channelRead0 catches: from, to, handler, class. Handler 76 answers 404, 99 answers 400.
_IS_MISSING = struct.pack(">4H", 0, 73, 76, 74)
_IS_BAD = struct.pack(">4H", 0, 73, 99, 74)


def write_class(jar: Path, folder: Path) -> None:
    """Write the class below `folder`, which then stands before the jar on Java's class path."""
    with zipfile.ZipFile(jar) as archive:
        original = archive.read(CLASS)
    if hashlib.sha256(original).hexdigest() != _SHA256:
        raise UnknownClassError(f"{jar} is not of TorchServe 0.12.0: install the version in serving/requirements.txt")
    path = folder / CLASS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(original.replace(_constant(_UNUSED), _constant(_WANTED)).replace(_IS_MISSING, _IS_BAD))


def _constant(text: bytes) -> bytes:
    """A class file's constant that holds a text: nothing else in the file says where a constant stands."""
    return struct.pack(">BH", 1, len(text)) + text
