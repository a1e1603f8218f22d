"""Patch of TorchServe's HttpRequestHandler: malformed requests are answered with 400.

Unpatched, TorchServe returns 500 for three client errors: malformed multipart (Netty's DecoderException), empty
boundary, and target without a slash (IndexOutOfBoundsException). The patch adds both exceptions to those that are
answered with 400. It replaces two that cannot occur here: archives are never downloaded, nor registered synchronously.
"""

import struct

from serving.torchserve.class_patch import ClassPatch, constant

# Rows of channelRead0's exception table: from, to, handler, class. Handler 145 answers 408, handler 99 answers 400.
_ANSWERED_408 = struct.pack(">4H", 0, 73, 145, 110)
_ANSWERED_400 = struct.pack(">4H", 0, 73, 99, 110)
_REPLACED_EXCEPTIONS = {
    "org/pytorch/serve/archive/DownloadArchiveException": "io/netty/handler/codec/DecoderException",
    "org/pytorch/serve/http/RequestTimeoutException": "java/lang/IndexOutOfBoundsException",
}

REQUEST_HANDLER = ClassPatch(
    "org/pytorch/serve/http/HttpRequestHandler.class",
    "4284484a3cbe3c227cec2578dcb44b9ae9c4f1b8cffbccec26e36490803cea31",
    {_ANSWERED_408: _ANSWERED_400}
    | {constant(unused): constant(wanted) for unused, wanted in _REPLACED_EXCEPTIONS.items()},
)
