"""The golden predictions of a model archive: what a server must answer to be serving that version."""

import base64
import json
import zipfile
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import NoneType
from typing import Any

from contract.errors import ProjectError
from serving import client

DISTANCE_TOLERANCE = 1e-4  # a batch of another size adds up floats in another order, and so does ONNX Runtime

_SHOWN = 500  # characters of an answer


class GoldenError(ProjectError):
    """An archive has no golden predictions that can be read, or a server does not repeat them."""


@dataclass(frozen=True)
class Item:
    """An image file, and the label and distance that it must get; `true_label` is what it shows."""

    image: bytes
    true_label: str
    label: str
    distance: float | None


@dataclass(frozen=True)
class Golden:
    """A version's golden predictions; the first is its canary."""

    version: str
    items: tuple[Item, ...]

    def ask_canary(self, url: str, timeout: float = 60.0) -> dict[str, Any] | None:
        """What is answered for the canary; None if that is an error or nothing."""
        try:
            status, answer = client.predict(url, self.items[0].image, timeout, probe=True)
        except OSError:
            return None
        return answer if status == HTTPStatus.OK else None

    def canary(self, url: str, timeout: float = 60.0) -> bool:
        """Whether the canary is answered yet; GoldenError if it is answered wrong or by another version."""
        if (answer := self.ask_canary(url, timeout)) is None:
            return False
        self.compare(self.items[0], HTTPStatus.OK, answer)
        return True

    def check(self, url: str) -> list[dict[str, Any]]:
        """The answers to all of them; GoldenError at the first that is wrong."""
        answers = []
        for item in self.items:
            try:
                status, answer = client.predict(url, item.image, probe=True)
            except OSError as error:
                raise GoldenError(f"{url} does not answer ({error})") from error
            self.compare(item, status, answer)
            answers.append(answer)
        return answers

    def compare(self, item: Item, status: int, answer: dict[str, Any]) -> None:
        """GoldenError unless this is the answer that this version gave the item."""
        wanted = (HTTPStatus.OK, item.label, self.version)
        got = (status, answer.get("label"), (answer.get("model") or {}).get("version"))
        if got != wanted or not _close(answer.get("distance"), item.distance):
            raise GoldenError(
                f"it answers {json.dumps(answer)[:_SHOWN]} with status {status} where version {self.version} found "
                f"{item.label!r} at distance {item.distance}"
            )


def read_golden(mar: Path) -> Golden:
    """The golden predictions in an archive; GoldenError if it has none."""
    try:
        with zipfile.ZipFile(mar) as archive:
            version = _take(json.loads(archive.read("model.json")), "version", str)
            items = json.loads(archive.read("golden.json"))
        return Golden(version, tuple(_item(each) for each in items) or _nothing())
    except Exception as error:  # zipfile raises what its decompressors do, too
        raise GoldenError(f"{mar} is no archive of this project ({error!r}): build it with make run") from error


def _item(content: dict[str, Any]) -> Item:
    true_label, label = _take(content, "expected", str), _take(content, "label", str)
    distance = _take(content, "distance", int, float, NoneType)
    return Item(base64.b64decode(content["image"]), true_label, label, distance)


def _take(content: dict[str, Any], key: str, *kinds: type) -> Any:
    if not isinstance(content[key], kinds):
        raise TypeError(f"{key} is {content[key]!r}")
    return content[key]


def _nothing() -> tuple[Item, ...]:
    raise ValueError("golden.json is empty")


def _close(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) <= DISTANCE_TOLERANCE
