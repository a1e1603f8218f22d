"""TorchServe's entry into the model archive: hands each batch to the predictor, and each item its own status."""

import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import decode  # type: ignore[import-not-found]  # only in the archive, where all modules lie side by side
import faiss
import payload  # type: ignore[import-not-found]
import socket_reads  # type: ignore[import-not-found]
import telemetry  # type: ignore[import-not-found]
from predictor import Predictor  # type: ignore[import-not-found]

_ID_LENGTH = 128  # of what a client calls its request


class Handler:
    """Not derived from TorchServe's BaseHandler, which would bring only its imports."""

    def initialize(self, context: Any) -> None:
        """Load the model, with one thread a worker."""
        faiss.omp_set_num_threads(1)
        self.predictor = Predictor(Path(context.system_properties["model_dir"]), decode, payload)
        self.telemetry = telemetry.Telemetry(self.predictor.version)
        socket_reads.read_in_pieces()
        # TorchServe logs each batch, and what it measures of it, through Java: the telemetry knows it already.
        logging.getLogger().setLevel(logging.WARNING)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Bodies of answers in the order of the batch."""
        began = time.perf_counter()
        headers = [_headers(context.get_all_request_header(number)) for number in range(len(data))]
        answers = self.predictor.answer([request(*item) for item in zip(data, headers, strict=True)])
        for number, answer in enumerate(answers):
            status = HTTPStatus(answer.status)
            context.set_response_status(status.value, status.phrase, number)
            context.set_response_content_type(number, "application/json")
        ids = [(context.get_request_id(i), each.get("x-request-id", "")[:_ID_LENGTH]) for i, each in enumerate(headers)]
        self.telemetry.record(answers, ids, time.perf_counter() - began, ["x-probe" in each for each in headers])
        return [answer.json for answer in answers]


def _headers(properties: Mapping[str, Any]) -> dict[str, str]:
    """HTTP's headers, their names in lower case; among the properties there is a mapping for each key of the item."""
    return {name.lower(): value for name, value in properties.items() if isinstance(value, str)}


def request(item: Mapping[str, bytes], headers: Mapping[str, str]) -> Any:
    """The payload.Request of one item of TorchServe's batch, and its headers.

    In the item lie side by side the body as `body` or the fields of a form, and what the query of some paths says.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    parameters = {"polarity": headers["x-polarity"]} if "x-polarity" in headers else {}
    if kind.startswith("multipart/"):
        return payload.Request(form=item, parameters=parameters)
    others = {name: value for name, value in item.items() if name != "body"}
    if kind == "application/x-www-form-urlencoded":
        return payload.Request(content_type=kind)  # its fields are what Netty made of whatever it was
    return payload.Request(item.get("body", b""), kind, None, parameters | others)
