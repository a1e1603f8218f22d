"""Patch of TorchServe's HttpRequestHandler: a malformed form is answered with 409, which no prediction is otherwise.

Unpatched, TorchServe answers it with 500 (Netty's DecoderException). The patch lets this exception take the place of
one that only the management API raises, for a version that is there already. The door answers 400 in place of 409,
and of 403, which is TorchServe's answer to a form with an unknown charset.
"""

from serving.torchserve.class_patch import ClassPatch, constant

REQUEST_HANDLER = ClassPatch(
    "org/pytorch/serve/http/HttpRequestHandler.class",
    "4284484a3cbe3c227cec2578dcb44b9ae9c4f1b8cffbccec26e36490803cea31",
    {constant("org/pytorch/serve/http/ConflictStatusException"): constant("io/netty/handler/codec/DecoderException")},
)
