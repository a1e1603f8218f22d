"""Predicts the label of the nearest neighbour: reads network, index, labels and model.json of an unpacked archive.

Part of the model archive; independent of TorchServe.
"""

import json
import logging
from collections.abc import Collection, Sequence
from itertools import islice
from math import isnan
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import faiss
import numpy as np
import onnxruntime
from numpy.typing import NDArray

UNKNOWN = "unknown"
_JSON_UNKNOWN = json.dumps(UNKNOWN)

INTERNAL = "internal-error"
_LATE = "too-slow-to-decode"
_STATUS = {"too-many-pixels": 413, "too-many-instances": 413, "wrong-type": 415, INTERNAL: 500}
_BAD_REQUEST = 400
# For archives from before these settings existed.
_DEFAULTS = {"polarity": "light-on-dark", "unknown_distance": None, "max_instances": 64}
_DEFAULTS |= {"unknown_features_distance": None}
_PACKED = (b"one", b"many")
# Images in one pass of the network: bounds the memory of a batch.
_PASS = 64

# Of one image: label, distance of the nearest neighbour (None without one), what made it unknown, the distance of its
# features (None if the network gives none), and the prediction as JSON.
Prediction = tuple[str, float | None, tuple[str, ...], float | None, str]


class Answer(NamedTuple):
    """An HTTP status and a JSON body; for the metrics the broken rule, or of each image what is told here.

    That is the label, the distance of the nearest neighbour, None if the index found none, and the names of the
    distances that made it unknown. `by_features` has the distance of each image's features, None if not known.
    """

    status: int
    json: bytes
    rule: str | None = None
    predictions: Sequence[tuple[str, float | None, tuple[str, ...]]] = ()
    by_features: Sequence[float | None] = ()


class Images(NamedTuple):
    """The decoded images of a request, uint8 [H, W, C]; `many` if they are answered with `predictions`."""

    pixels: list[NDArray[np.uint8]]
    many: bool


class Predictor:
    """A network, its index and its labels, loaded from the folder of an unpacked archive.

    Args:
        folder: The unpacked archive.
        decode: Its module of that name.
        payload: Its module of that name.
        deadline: Its module of that name.

    Attributes:
        name: The model's name.
        version: Its version.
        thresholds: Above which an image is unknown: of the distance, and of that of features; None for no limit.
        max_instances: The most images in one request.

    Raises:
        ValueError: Index and labels have different lengths.
    """

    def __init__(self, folder: Path, decode: ModuleType, payload: ModuleType, deadline: ModuleType) -> None:
        self._decoding, self._payload, self._deadline = decode, payload, deadline
        model: dict[str, Any] = _DEFAULTS | json.loads((folder / "model.json").read_text())
        labels = json.loads((folder / "labels.json").read_text())
        # One text for each class, shared by all of its images; the JSON is serialised once, not for each answer.
        as_json = [json.dumps(label) for label in labels["classes"]]
        self._labels: list[str] = [labels["classes"][number] for number in labels["gallery"]]
        self._json_labels = [as_json[number] for number in labels["gallery"]]
        self._network = _load_network(folder / "network.onnx")
        [self._input] = [each.name for each in self._network.get_inputs()]
        # Memory-mapped, so that all workers share one copy of vectors and graph.
        self._index = faiss.read_index(str(folder / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
        if self._index.ntotal != len(self._labels):
            raise ValueError(f"{folder}: {self._index.ntotal} vectors in the index, {len(self._labels)} labels")
        self.name: str = model["name"]
        self.version: str = model["version"]
        self.max_instances: int = model["max_instances"]
        self._shape = (model["image_size"], model["channels"])
        self._max_pixels = model["max_pixels"]
        self._polarity = model["polarity"]
        self._neighbours = min(model["neighbours"], len(self._labels))
        self.thresholds = (model["unknown_distance"], model["unknown_features_distance"])
        self._limits_of_unknown = [np.inf if limit is None else limit for limit in self.thresholds]
        self._json_model = json.dumps({key: model[key] for key in ("name", "version")})
        # Warm-up: the first prediction is many times slower than the next.
        size, channels = self._shape
        self._predict([np.zeros((size, size, channels), np.uint8)])

    def answer(self, requests: Sequence[Any], repeated: Collection[int] = ()) -> list[Answer]:
        """Answer a batch; the images of all requests are predicted together.

        A request whose images take too much time to decode ends this process, and the others of the batch with it.
        Whoever asked asks again, and says so: a repeated request is decoded in a process of its own.

        Args:
            requests: One `payload.Request` each.
            repeated: The numbers of those that were asked before, in a batch whose worker died.

        Returns:
            One answer each, in their order. An invalid request gets its own error; one bad image among several fails
            its whole request. Whatever else goes wrong is an internal error of its request alone, and is logged.
        """
        try:
            read = [self._read_in_time(request, number in repeated) for number, request in enumerate(requests)]
        finally:
            self._deadline.stop()
        images = [image for each in read if isinstance(each, Images) for image in each.pixels]
        try:
            predictions = iter(self._predict(images))
        except Exception:
            if len(requests) == 1:
                return [_internal("predict")]
            alone = [self.answer([one], [0] if number in repeated else []) for number, one in enumerate(requests)]
            return [answer for [answer] in alone]
        return [
            each if isinstance(each, Answer) else _success(list(islice(predictions, len(each.pixels))), each.many)
            for each in read
        ]

    def _read_in_time(self, request: Any, repeated: bool) -> Images | Answer:
        if repeated:
            return self._read_alone(request)
        self._deadline.start()
        return self._read(request)

    def _read(self, request: Any) -> Images | Answer:
        """The decoded images of a request, or the answer to a request whose images cannot be decoded."""
        try:
            payload = self._payload.read(request, self.max_instances)
            return Images(self._decode(payload), payload.many)
        except (self._payload.Rejected, self._decoding.BadImage) as error:
            return _error(error.rule, str(error))
        except Exception:  # no memory, or a defect
            return _internal("read")

    def _read_alone(self, request: Any) -> Images | Answer:
        """Likewise, in a process of its own."""
        try:
            head, _, rest = self._deadline.run_alone(lambda: _packed(self._read(request))).partition(b"\n")
        except self._deadline.Late:
            seconds = self._deadline.CPU_SECONDS
            return _error(_LATE, f"{_LATE}: it takes more than {seconds:g} s; save the image anew, as PNG for example.")
        except Exception:
            return _internal("read")
        if head not in _PACKED:
            rule = head.decode()
            return Answer(_STATUS.get(rule, _BAD_REQUEST), rest, rule)
        size, channels = self._shape
        return Images(list(np.frombuffer(rest, np.uint8).reshape(-1, size, size, channels)), head == _PACKED[1])

    def _decode(self, payload: Any) -> list[NDArray[np.uint8]]:
        """Decode the images of a request, uint8 [H, W, C] each; the limit of pixels is for all of them together."""
        size, channels = self._shape
        allowed = self._max_pixels
        opened: list[Any] = []
        decoded: list[NDArray[np.uint8]] = []
        try:
            for data, _ in payload.images:  # check all headers before decoding any pixels
                opened.append(self._decoding.read_header(data, allowed))
                allowed -= opened[-1].width * opened[-1].height
            for image, (_, polarity) in zip(opened, payload.images, strict=True):
                pixels = self._decoding.pixels(image, size=size, channels=channels)
                decoded.append(pixels if polarity in (None, self._polarity) else 255 - pixels)
        except self._decoding.BadImage as error:
            if not payload.many:
                raise
            number = len(decoded) if len(opened) == len(payload.images) else len(opened)
            rule, found = error.rule, str(error).removeprefix(f"{error.rule}: ")
            if rule == "too-many-pixels" and number:
                found = f"with it there are more than {self._max_pixels} pixels together; send several requests."
            raise self._payload.Rejected(rule, f"instance {number}: {found}") from error
        return decoded

    def _predict(self, images: list[NDArray[np.uint8]]) -> list[Prediction]:
        """Predict images uint8 [H, W, C]."""
        found: list[Prediction] = []
        for start in range(0, len(images), _PASS):
            batch = np.stack(images[start : start + _PASS])
            embeddings, *of_features = self._network.run(None, {self._input: batch})
            similarities, rows = self._index.search(embeddings, self._neighbours)
            # The network of an older archive gives no distances of features.
            by_features = of_features[0].tolist() if of_features else [None] * len(batch)
            found += map(self._describe, similarities.tolist(), rows.tolist(), by_features)
        return found

    def _describe(self, similarities: list[float], rows: list[int], by_features: float | None) -> Prediction:
        """The prediction of an image, by its neighbours. Numbers of Python: arrays of a few take longer."""
        labels = self._json_labels
        # Cosines, apart from rounding errors; an approximate index gives row -1 where it found none.
        cosines = [(min(max(each, -1.0), 1.0), row) for each, row in zip(similarities, rows, strict=True)]
        near = [(_shown(1 - cosine), _shown(cosine), row) for cosine, row in cosines if row >= 0 and not isnan(cosine)]
        neighbours = [
            f'{{"label": {labels[row]}, "distance": {distance}, "similarity": {similarity}, "index": {row}}}'
            for distance, similarity, row in near
        ]
        limit, limit_of_features = self._limits_of_unknown
        reasons: tuple[str, ...] = () if near and 1 - cosines[0][0] <= limit else ("distance",)
        if by_features is not None:
            if not by_features <= limit_of_features:  # NaN, too, is unknown
                reasons += ("features_distance",)
            by_features = None if isnan(by_features) else _shown(max(by_features, 0.0))
        label = UNKNOWN if reasons else self._labels[rows[0]]
        distance, similarity = near[0][:2] if near else (None, None)
        prediction = (
            f'{{"label": {_JSON_UNKNOWN if reasons else labels[rows[0]]}, "unknown": {"true" if reasons else "false"}, '
            f'"unknown_by": {json.dumps(reasons) if reasons else "[]"}, "distance": {_or_null(distance)}, '
            f'"similarity": {_or_null(similarity)}, "features_distance": {_or_null(by_features)}, '
            f'"neighbours": [{", ".join(neighbours)}], "model": {self._json_model}}}'
        )
        return label, distance, reasons, by_features, prediction


def _shown(number: float) -> float:
    """The number with six digits after the point, as NumPy rounds: `round` to digits takes ten times longer."""
    return round(number * 1e6) / 1e6


def _or_null(number: float | None) -> float | str:
    return "null" if number is None else number


def _packed(read: Images | Answer) -> bytes:
    """What was read, as bytes: a line with the rule or the kind, then the error or the pixels."""
    if isinstance(read, Answer):
        return f"{read.rule}\n".encode() + read.json
    return _PACKED[read.many] + b"\n" + b"".join(pixels.tobytes() for pixels in read.pixels)


def _success(predictions: list[Prediction], many: bool) -> Answer:
    body = f'{{"predictions": [{", ".join(each[4] for each in predictions)}]}}' if many else predictions[0][4]
    return Answer(
        200, f"{body}\n".encode(), None, [each[:3] for each in predictions], [each[3] for each in predictions]
    )


def _error(rule: str, message: str) -> Answer:
    status = _STATUS.get(rule, _BAD_REQUEST)
    error = {"status": status, "rule": rule, "message": message}
    return Answer(status, json.dumps({"error": error}).encode() + b"\n", rule)


def _internal(verb: str) -> Answer:
    """The answer to a request that failed through no fault of its client, from within the handling of the exception."""
    logging.getLogger(__name__).exception(f"{INTERNAL}: cannot {verb} a request")
    return _error(INTERNAL, f"{INTERNAL}: the server failed, not the request; its log says why. Try again later.")


def _load_network(path: Path) -> onnxruntime.InferenceSession:
    """The network, running in one thread: of images uint8 [N, H, W, C] it gives embeddings float32 [N, D]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
