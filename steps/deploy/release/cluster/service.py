"""Asks the Service for golden predictions, until each pod has returned the expected ones, with probability 1 - 1e-4."""

import json
import math
import time
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from itertools import cycle, islice

from contract.events import Progress, emit
from serving.client import predict
from serving.golden import Golden, GoldenError, Item
from steps.common.errors import StepError

ASK_SECONDS = 120.0  # during which pods of the version before may answer, since endpoints are updated late
PAUSE_SECONDS = 1.0
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
