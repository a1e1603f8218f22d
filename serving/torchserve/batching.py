"""Lets TorchServe batch what waits, and wait for nothing: one class of its jar, a comparison changed.

TorchServe closes a batch when its delay is used up, `maxDelay <= 0`: a delay of 0 makes batches of two at most, and any
other is one that a lone client waits out. With `maxDelay < 0` a delay of 0 takes all that waits, up to the batch size;
while one batch is computed the next one gathers, so batches grow with the load and nobody waits for company.
"""

from serving.torchserve.class_patch import ChangedClass

DELAY_MILLISECONDS = 0

# In pollBatch: lload maxDelay, lconst_0, lcmp, then "if greater, go on", which becomes "if not less, go on".
_IF_GREATER = bytes.fromhex("160609949d")
_IF_NOT_LESS = bytes.fromhex("160609949c")

MODEL = ChangedClass(
    "org/pytorch/serve/wlm/Model.class",
    "7c5523f1fe77fe79aa32665469e17725e70518692abcf4987989ef72f10d4cff",
    {_IF_GREATER: _IF_NOT_LESS},
)
