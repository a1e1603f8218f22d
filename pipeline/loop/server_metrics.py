"""Reads the metrics of a running server as a sample of its answers to all requests.

They are coarser than collected images: distances come as a histogram, those of features not at all, and an image that
was sent a thousand times counts a thousand times.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from contract.errors import InputError
from contract.pointer import Pointer
from steps.common.http import Http, NoAnswerError, shown
from steps.drift.sample import Buckets, Sample

_SECONDS = 10.0


def served_by(url: str, pointer: Pointer) -> Sample:
    """What a server answered since its start.

    Args:
        url: The address of its metrics.
        pointer: The version that it must serve.

    Returns:
        The sample.

    Raises:
        InputError: Nothing usable answers.
    """
    nothing = f"no image of version {pointer.version} was collected at random (serving.collect in params.yaml), and"
    try:
        answer = Http(seconds=_SECONDS, retries=0).request("GET", url)
    except NoAnswerError as error:
        raise InputError(f"{nothing} no server answers at {shown(url)} ({error}): start one with make serve") from error
    if not answer.is_success or not (found := _families(answer.text)):
        raise InputError(f"{nothing} {shown(url)} has no metrics of a server: give their address with METRICS=")
    versions = [labels["version"] for labels, _ in found.get("serving_model_info", ())]
    switches = sum(value for labels, value in found.get("serving_switches_total", ()) if labels["result"] == "switched")
    if versions != [pointer.version] or switches:
        raise InputError(
            f"{nothing} the metrics at {shown(url)} are of other versions, too: start the server anew, or let it "
            "collect images"
        )
    return _sample(found)


Values = list[tuple[Mapping[str, str], float]]


def _families(text: str) -> dict[str, Values]:
    """The values of each metric, with their labels; nothing if the text has none of a server."""
    found = defaultdict[str, Values](list)
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name].append((sample.labels, sample.value))
    except ValueError:
        return {}
    return dict(found) if "serving_model_info" in found else {}


def _sample(found: Mapping[str, Values]) -> Sample:
    answers = Counter({labels["label"]: int(value) for labels, value in found.get("serving_predictions_total", ())})
    return Sample(+answers, _buckets(found.get("serving_nearest_distance_bucket", ())))


def _buckets(values: Iterable[tuple[Mapping[str, str], float]]) -> Buckets:
    """The histogram, whose values are cumulative in Prometheus's format."""
    ordered = sorted((float(re.sub(r"^\+", "", labels["le"])), value) for labels, value in values)
    edges = tuple(edge for edge, _ in ordered if np.isfinite(edge))
    counts = tuple(int(count) for count in np.diff([0.0, *(value for _, value in ordered)]))
    return Buckets(edges, counts or (0,))
