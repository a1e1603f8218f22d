"""The golden predictions in a model archive: test images with the answers that this version must give."""

import base64
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import NoneType
from typing import Any

from contract.errors import ProjectError
from serving import client

DISTANCE_TOLERANCE = 1e-4  # batches of other sizes, and ONNX Runtime, add floats in another order

_SHOWN = 500  # characters of an answer in an error

Ask = Callable[[str, bytes, float], client.Answer]  # sends an image to an address, with a timeout in seconds


class GoldenError(ProjectError):
    """An archive has no readable golden predictions, or a server gives another answer."""


@dataclass(frozen=True)
class Item:
    """An image file, the label and distances that the version must answer, and the image's true label.

    An older archive has no distance of features.
    """

    image: bytes
    true_label: str
    label: str
    distance: float | None
    features_distance: float | None = None


@dataclass(frozen=True)
class Golden:
    """A version's golden predictions; the first is its canary."""

    version: str
    items: tuple[Item, ...]

    def ask_canary(self, url: str, timeout: float = 60.0, ask: Ask | None = None) -> dict[str, Any] | None:
        """Send the canary to a server.

        Args:
            url: The address for predictions.
            timeout: Seconds.
            ask: The client; by default `client.predict`.

        Returns:
            The answer, right or wrong; None for an error status or no answer.
        """
        try:
            status, answer = (ask or _ask)(url, self.items[0].image, timeout)
        except OSError:
            return None
        return answer if status == HTTPStatus.OK else None

    def is_answered(self, url: str, timeout: float = 60.0, ask: Ask | None = None) -> bool:
        """Ask the canary and compare the answer; `GoldenError` if it is wrong, or of another version.

        Args:
            url: The address for predictions.
            timeout: Seconds.
            ask: The client; by default `client.predict`.

        Returns:
            Whether it was answered, and right; False for an error status or no answer.
        """
        if (answer := self.ask_canary(url, timeout, ask)) is None:
            return False
        self.compare(self.items[0], HTTPStatus.OK, answer)
        return True

    def check(self, url: str, ask: Ask | None = None) -> list[dict[str, Any]]:
        """Ask all golden predictions and compare the answers.

        Args:
            url: The address for predictions.
            ask: The client; by default `client.predict`.

        Returns:
            The answers, in the order of the items.

        Raises:
            GoldenError: At the first wrong answer, or no answer.
        """
        answers = []
        for item in self.items:
            try:
                status, answer = (ask or _ask)(url, item.image, 60.0)
            except OSError as error:
                raise GoldenError(f"{url} does not answer ({error})") from error
            self.compare(item, status, answer)
            answers.append(answer)
        return answers

    def compare(self, item: Item, status: int, answer: dict[str, Any]) -> None:
        """Compare an answer with the golden one; distances may differ by DISTANCE_TOLERANCE.

        Args:
            item: The golden prediction.
            status: The HTTP status.
            answer: The JSON body.

        Raises:
            GoldenError: They differ.
        """
        wanted = (HTTPStatus.OK, item.label, self.version)
        got = (status, answer.get("label"), (answer.get("model") or {}).get("version"))
        near = _close(answer.get("distance"), item.distance)
        if item.features_distance is not None:
            near &= _close(answer.get("features_distance"), item.features_distance)
        if got != wanted or not near:
            raise GoldenError(
                f"it answers {json.dumps(answer)[:_SHOWN]} with status {status} where version {self.version} found "
                f"{item.label!r} at distance {item.distance}, by features {item.features_distance}"
            )


def read_golden(mar: Path) -> Golden:
    """Read the golden predictions of an archive.

    Args:
        mar: The model archive.

    Returns:
        The golden predictions, at least one.

    Raises:
        GoldenError: The archive is unreadable, or has none.
    """
    try:
        with zipfile.ZipFile(mar) as archive:
            version = _take(json.loads(archive.read("model.json")), "version", str)
            items = json.loads(archive.read("golden.json"))
        return Golden(version, tuple(_item(each) for each in items) or _nothing())
    except Exception as error:  # zipfile passes on the errors of its decompressors
        raise GoldenError(f"{mar} is no archive of this project ({error!r}): build it with make run") from error


def _ask(url: str, image: bytes, timeout: float) -> client.Answer:
    return client.predict(url, image, timeout, probe=True)


def _item(content: dict[str, Any]) -> Item:
    true_label, label = _take(content, "expected", str), _take(content, "label", str)
    distance = _take(content, "distance", int, float, NoneType)
    by_features = _take({"features_distance": None, **content}, "features_distance", int, float, NoneType)
    return Item(base64.b64decode(content["image"]), true_label, label, distance, by_features)


def _take(content: dict[str, Any], key: str, *kinds: type) -> Any:
    if not isinstance(content[key], kinds):
        raise TypeError(f"{key} is {content[key]!r}")
    return content[key]


def _nothing() -> tuple[Item, ...]:
    raise ValueError("golden.json is empty")


def _close(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) <= DISTANCE_TOLERANCE
