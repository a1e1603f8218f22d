"""TorchServe's entry into the model archive: hands each batch to the predictor, and each item its own status."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import faiss
import images  # type: ignore[import-not-found]  # only in the archive, where all modules lie side by side
import payload  # type: ignore[import-not-found]
import torch
from predictor import Predictor  # type: ignore[import-not-found]


class Handler:
    """Not derived from TorchServe's BaseHandler, which would bring only its imports."""

    def initialize(self, context: Any) -> None:
        """Load the model, with one thread a worker."""
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        self.predictor = Predictor(Path(context.system_properties["model_dir"]), images, payload)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Bodies of answers in the order of the batch."""
        requests = [request(item, context.get_all_request_header(number)) for number, item in enumerate(data)]
        answers = self.predictor.answer(requests)
        for number, answer in enumerate(answers):
            status = HTTPStatus(answer.status)
            context.set_response_status(status.value, status.phrase, number)
            context.set_response_content_type(number, "application/json")
        return [answer.json for answer in answers]


def request(item: Mapping[str, bytes], properties: Mapping[str, Any]) -> Any:
    """The payload.Request of one item of TorchServe's batch.

    In it lie side by side the body as `body` or the fields of a form, and what the query of some paths says; in the
    properties HTTP's headers as the client wrote them, and a mapping for each key of the item.
    """
    headers = {name.lower(): value for name, value in properties.items() if isinstance(value, str)}
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    parameters = {"polarity": headers["x-polarity"]} if "x-polarity" in headers else {}
    if kind.startswith("multipart/"):
        return payload.Request(form=item, parameters=parameters)
    others = {name: value for name, value in item.items() if name != "body"}
    if kind == "application/x-www-form-urlencoded":
        return payload.Request(content_type=kind)  # its fields are what Netty made of whatever it was
    return payload.Request(item.get("body", b""), kind, None, parameters | others)
