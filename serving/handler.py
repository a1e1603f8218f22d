"""TorchServe's entry into the model archive: hands each batch to the predictor, and each item its own status."""

from http import HTTPStatus
from pathlib import Path
from typing import Any

import faiss
import torch
from images import decode  # type: ignore[import-not-found]  # only in the archive, where all modules lie side by side
from predictor import Predictor  # type: ignore[import-not-found]


class Handler:
    """Not derived from TorchServe's BaseHandler, which would bring only its imports."""

    def initialize(self, context: Any) -> None:
        """Load the model, with one thread a worker."""
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        self.predictor = Predictor(Path(context.system_properties["model_dir"]), decode)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[dict[str, Any]]:
        """Answers in the order of the batch; an image is the body, or the first field of a form."""
        bodies = [item["body"] if "body" in item else next(iter(item.values()), None) for item in data]
        answers: list[dict[str, Any]] = self.predictor.answer(bodies)
        for number, answer in enumerate(answers):
            status = HTTPStatus(answer["error"]["status"] if "error" in answer else 200)
            context.set_response_status(status.value, status.phrase, number)
            context.set_response_content_type(number, "application/json")
        return answers
