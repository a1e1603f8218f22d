"""The health check of containers: asks the server on this machine for a prediction whose answer is known."""

import argparse
import os
import sys
import time

from serving import canary, client
from serving.canary import Left
from serving.golden import Golden, GoldenError


def probe(arguments: argparse.Namespace) -> int:
    """Give 0 if the server on this machine answers a prediction as the version that it serves should, and 1 if not.

    Live is one that answers at all; or whose workers live, and be they too busy to answer in time.
    """
    deadline = time.monotonic() + arguments.timeout
    left = canary.find(arguments.port)
    if arguments.live:
        return _tell(arguments.port, _is_live(left, arguments.port, deadline))
    well = _is_well(left, deadline)
    # Asked again if a switch began or ended in the meantime: the answer was held against versions of before.
    while not well and (now := canary.find(arguments.port)) != left:
        left = now
        well = _is_well(left, deadline)
    return _tell(arguments.port, well)


def _tell(port: int, well: bool) -> int:
    print(f"port {port} {'answers' if well else 'does not answer as it should'}")
    return 0 if well else 1


def _is_live(left: Left | None, port: int, deadline: float) -> bool:
    if client.is_alive(f"http://127.0.0.1:{port}", _until(deadline)):
        return True
    url, goldens = left or ("", ())  # during a switch TorchServe is not well until the new version's workers are
    return any(each.ask_canary(url, _until(deadline)) is not None for each in goldens)


def _is_well(left: Left | None, deadline: float) -> bool:
    url, goldens = left or ("", ())
    return any(_answers_well(each, url, deadline) for each in goldens)


def _answers_well(golden: Golden, url: str, deadline: float) -> bool:
    try:
        well = golden.canary(url, _until(deadline))
    except GoldenError as error:
        print(error, file=sys.stderr)
        return False
    return well and os.environ.get("MODEL_VERSION") in (None, "", golden.version)


def _until(deadline: float) -> float:
    """The seconds left, and never none: a socket would take that for no waiting at all."""
    return max(deadline - time.monotonic(), 0.1)
