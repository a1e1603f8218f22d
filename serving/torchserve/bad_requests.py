"""Patch of TorchServe's HttpRequestHandler: a malformed form is answered with 408, which nothing else is.

Unpatched, TorchServe answers it with 500 (Netty's DecoderException). The patch lets this exception take the place of
one that cannot occur here, since no version is registered synchronously. The door makes of 408 a 400 in its own form.
"""

from serving.torchserve.class_patch import ClassPatch, constant

REQUEST_HANDLER = ClassPatch(
    "org/pytorch/serve/http/HttpRequestHandler.class",
    "4284484a3cbe3c227cec2578dcb44b9ae9c4f1b8cffbccec26e36490803cea31",
    {constant("org/pytorch/serve/http/RequestTimeoutException"): constant("io/netty/handler/codec/DecoderException")},
)
