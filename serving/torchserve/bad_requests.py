"""Lets TorchServe answer a malformed request with 400 and not 500: one class of its jar, a handler changed.

TorchServe takes for errors of its own what is thrown where a form cannot be taken apart (Netty's DecoderException),
where a boundary is empty, and where a target has no slash (IndexOutOfBoundsException). They take the places of
two that need none here, among what is a bad request: nothing is downloaded, and nothing registered synchronously.
"""

import struct

from serving.torchserve.class_patch import ChangedClass, constant

# In the table of what channelRead0 catches: from, to, handler, class. Handler 145 answers 408, 99 answers 400.
_IS_LATE = struct.pack(">4H", 0, 73, 145, 110)
_IS_BAD = struct.pack(">4H", 0, 73, 99, 110)
_CAUGHT = {
    "org/pytorch/serve/archive/DownloadArchiveException": "io/netty/handler/codec/DecoderException",
    "org/pytorch/serve/http/RequestTimeoutException": "java/lang/IndexOutOfBoundsException",
}

REQUEST_HANDLER = ChangedClass(
    "org/pytorch/serve/http/HttpRequestHandler.class",
    "4284484a3cbe3c227cec2578dcb44b9ae9c4f1b8cffbccec26e36490803cea31",
    {_IS_LATE: _IS_BAD} | {constant(unused): constant(wanted) for unused, wanted in _CAUGHT.items()},
)
