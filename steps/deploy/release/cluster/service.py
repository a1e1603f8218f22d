"""Asks the Service for golden predictions, until each pod has returned the expected ones, with probability 1 - 1e-4."""

import json
import math
import time
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from itertools import cycle, islice

from contract.events import Progress, emit
from contract.pointer import Pointer
from serving.client import predict, read_answer
from serving.connection import send
from serving.golden import Golden, GoldenError, Item
from steps.common.errors import StepError

ASK_SECONDS = 120.0  # during which pods of the version before may answer, since endpoints are updated late
PAUSE_SECONDS = 1.0
SHADOW_MARGIN_SECONDS = 120.0  # for pods that started late, and for copies on their way
_PODS = {"refused": "refuses it", "failed": "cannot load it"}
_QUIET = 10  # answers in a row of pods that shadow nothing
_REQUEST_SECONDS = 30
_MISSED = 1e-4  # the probability that a pod is never asked


def ask(url: str, golden: Golden, pods: int) -> None:
    """Ask until as many answers in a row are right as reach every pod with probability 1 - 1e-4.

    Args:
        url: where the Service answers predictions of the model.
        golden: the version, its images and the answers expected.
        pods: the number of pods behind the Service.

    Raises:
        StepError: an answer of the version is wrong, or after ASK_SECONDS another version or none still answers.
    """
    # Each request has a connection of its own, so any pod may get it.
    enough = math.ceil(math.log(_MISSED / pods) / math.log(1 - 1 / pods)) if pods > 1 else 1
    count = max(enough, len(golden.items))
    emit(Progress("asking the Service", 0, count, "golden predictions"))
    end = time.monotonic() + ASK_SECONDS
    while trouble := next(_troubles(url, golden, islice(cycle(golden.items), count)), None):
        if time.monotonic() > end:
            raise StepError(f"after {ASK_SECONDS:g} s {url} still {trouble}")
        time.sleep(PAUSE_SECONDS)


def until_shadowed(url: str, pointer: Pointer) -> str:
    """Wait while pods shadow a version, as long as its limits say.

    A pod of the new version answers with the version before until its share of the requests was judged.

    Args:
        url: where the Service answers what state the model has.
        pointer: the version, with its limits.

    Returns:
        The verdict of a pod, with its figures, in words; nothing if none told.

    Raises:
        StepError: a pod refuses the version; the message has the figures.
    """
    shadow = pointer.shadow or {}
    end = time.monotonic() + float(shadow["seconds"]) + SHADOW_MARGIN_SECONDS
    quiet, said = 0, ""
    emit(Progress("shadowing", 0, int(shadow["seconds"]), "seconds"))
    while quiet < _QUIET and time.monotonic() < end:
        try:
            response = send("GET", url, timeout=_REQUEST_SECONDS)
            answer = read_answer(response.body, response.reason)
            found = answer.get("shadow") or {}
        except OSError:
            found = {"state": "shadowed"}
        if found.get("version") == pointer.version and found.get("state") in ("refused", "failed"):
            raise StepError(f"a pod {_PODS[found['state']]}: {found.get('reason')}")
        if found.get("version") == pointer.version and found.get("state") == "passed":
            said = str(found.get("reason"))
        quiet = 0 if found.get("state") == "shadowed" else quiet + 1
        time.sleep(PAUSE_SECONDS)
    return said


def _troubles(url: str, golden: Golden, items: Iterable[Item]) -> Iterator[str]:
    """What is still wrong and may pass; StepError for what does not."""
    for item in items:
        try:
            status, answer = predict(url, item.image, timeout=_REQUEST_SECONDS)
        except OSError as error:
            yield f"does not answer ({error})"
            continue
        by = (answer.get("model") or {}).get("version")
        if status != HTTPStatus.OK:
            yield f"answers {status}: {json.dumps(answer)[:300]}"
        elif by != golden.version:
            yield f"answers with version {by}, not {golden.version}"
        else:
            try:
                golden.compare(item, status, answer)
            except GoldenError as error:
                raise StepError(f"a pod of the new version does not serve it: {error}") from error
