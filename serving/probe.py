"""The health check of containers: asks the server on this machine for a prediction whose answer is known."""

import argparse
import os
import sys
import time
from http import HTTPStatus

from serving import canary, client
from serving.golden import Golden, GoldenError


def probe(arguments: argparse.Namespace) -> int:
    """Give 0 if the server on this machine answers a prediction as the version that it serves should, and 1 if not.

    Live is one that answers at all.
    """
    deadline = time.monotonic() + arguments.timeout
    left = canary.find(arguments.port)
    well = _is_well(left, arguments, deadline)
    # Asked again if a switch began or ended in the meantime: the answer was held against versions of before.
    while not well and (now := canary.find(arguments.port)) != left:
        left = now
        well = _is_well(left, arguments, deadline)
    url = left[0] if left else f"http://127.0.0.1:{arguments.port}"
    print(f"{url} {'answers' if well else 'does not answer as it should'}")
    return 0 if well else 1


def _is_well(left: tuple[str, tuple[Golden, ...]] | None, arguments: argparse.Namespace, deadline: float) -> bool:
    if left:
        url, goldens = left
        return any(_answers_well(each, url, arguments.live, deadline) for each in goldens)
    live: bool = arguments.live
    return live and client.answers(f"http://127.0.0.1:{arguments.port}", _until(deadline))


def _answers_well(golden: Golden, url: str, live: bool, deadline: float) -> bool:
    answer = golden.ask_canary(url, _until(deadline))
    if answer is None or live:
        return answer is not None
    try:
        golden.compare(golden.items[0], HTTPStatus.OK, answer)
    except GoldenError as error:
        print(error, file=sys.stderr)
        return False
    wanted = os.environ.get("MODEL_VERSION")
    return not wanted or golden.version == wanted


def _until(deadline: float) -> float:
    """The seconds left, and never none: a socket would take that for no waiting at all."""
    return max(deadline - time.monotonic(), 0.1)
