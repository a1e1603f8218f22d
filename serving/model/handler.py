"""TorchServe's entry point in the model archive: passes each batch to the predictor and sets a status for each item."""

import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import collector  # type: ignore[import-not-found]  # in the archive all modules are in one folder
import deadline  # type: ignore[import-not-found]
import decode  # type: ignore[import-not-found]
import faiss
import payload  # type: ignore[import-not-found]
import telemetry  # type: ignore[import-not-found]
import worker_loop  # type: ignore[import-not-found]
from predictor import Predictor  # type: ignore[import-not-found]

# The header of a request that is asked again since a worker died with it; only the door may set it.
REPEATED = "x-repeated"
_ID_LENGTH = 128  # characters of a client's own request id


class Handler:
    """The handler class. It does not derive from TorchServe's BaseHandler, which adds only imports."""

    def initialize(self, context: Any) -> None:
        """Load the model with one thread per worker; `context` is TorchServe's."""
        faiss.omp_set_num_threads(1)
        self.predictor = Predictor(Path(context.system_properties["model_dir"]), decode, payload, deadline)
        self.telemetry = telemetry.Telemetry(self.predictor.version)
        self.collector = collector.start(self.predictor, payload)
        deadline.install()
        worker_loop.patch(before_waiting=self.telemetry.log)
        # TorchServe logs each batch and its timings through Java; the telemetry has them already.
        logging.getLogger().setLevel(logging.WARNING)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer one batch.

        Args:
            data: TorchServe's items, one for each request: field names and their bytes.
            context: TorchServe's context; it gets the status and the content type of each item.

        Returns:
            The response bodies, in the order of the batch.
        """
        began = time.perf_counter()
        headers = [_headers(context.get_all_request_header(number)) for number in range(len(data))]
        repeated = [number for number, each in enumerate(headers) if REPEATED in each]
        requests = [request(*item) for item in zip(data, headers, strict=True)]
        answers = self.predictor.answer(requests, repeated)
        for number, answer in enumerate(answers):
            status = HTTPStatus(answer.status)
            context.set_response_status(status.value, status.phrase, number)
            context.set_response_content_type(number, "application/json")
        ids = [(context.get_request_id(i), each.get("x-request-id", "")[:_ID_LENGTH]) for i, each in enumerate(headers)]
        kinds = [_kind(each) for each in headers]
        self.telemetry.record(answers, ids, time.perf_counter() - began, kinds)
        if self.collector:
            self.collector.offer(requests, answers, [client or own for own, client in ids], kinds)
        return [answer.json for answer in answers]


def _headers(properties: Mapping[str, Any]) -> dict[str, str]:
    """The HTTP headers, names in lower case. TorchServe mixes them with one mapping for each field of the item."""
    return {name.lower(): value for name, value in properties.items() if isinstance(value, str)}


def _kind(headers: Mapping[str, str]) -> str:
    """Whose request it is; clients cannot send these headers through the door, but for `x-probe`."""
    if "x-probe" in headers:
        return str(telemetry.PROBE)
    return str(telemetry.SHADOW) if "x-shadow" in headers else ""


def request(item: Mapping[str, bytes], headers: Mapping[str, str]) -> Any:
    """Convert one item of TorchServe's batch to a request.

    Args:
        item: The body under `body`, or the fields of a form; on some paths also the query's parameters.
        headers: The HTTP headers, names in lower case.

    Returns:
        The `payload.Request`.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    parameters = {"polarity": headers["x-polarity"]} if "x-polarity" in headers else {}
    if kind.startswith("multipart/"):
        return payload.Request(form=item, parameters=parameters)
    others = {name: value for name, value in item.items() if name != "body"}
    if kind == "application/x-www-form-urlencoded":
        return payload.Request(content_type=kind)  # Netty parsed the body as fields; they mean nothing
    return payload.Request(item.get("body", b""), kind, None, parameters | others)
