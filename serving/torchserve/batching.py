"""Patch of TorchServe's Model: a batch is all requests that wait, and is never delayed.

TorchServe closes a batch when `maxDelay <= 0`. So a delay of 0 makes batches of at most two, and any other delay adds
latency when there is only one client. The patch changes the comparison to `maxDelay < 0`: a delay of 0 takes all
waiting requests, up to the batch size. Requests queue while a batch is computed, so batches grow with the load.
"""

from serving.torchserve.class_patch import ClassPatch

DELAY_MILLISECONDS = 0

# In pollBatch: lload maxDelay, lconst_0, lcmp, then ifgt (continue if greater), which becomes ifge.
_IFGT = bytes.fromhex("160609949d")
_IFGE = bytes.fromhex("160609949c")

MODEL = ClassPatch(
    "org/pytorch/serve/wlm/Model.class",
    "7c5523f1fe77fe79aa32665469e17725e70518692abcf4987989ef72f10d4cff",
    {_IFGT: _IFGE},
)
