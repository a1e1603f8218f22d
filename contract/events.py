"""The events of a step: what it says while it runs, as one line each of its standard output.

A line is the word `event` and a JSON object. In Kubernetes these lines are in the pod's log; on one machine the
pipeline's command shows them. The keys of the JSON stay as they are, since pods of an earlier version may be running: a
new key has a default.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Started:
    """A step has started."""

    step: str


@dataclass(frozen=True)
class Progress:
    """How far a step is with something; `why` says what it waits for."""

    doing: str
    done: int
    total: int
    unit: str
    step: str = ""
    why: str = ""


@dataclass(frozen=True)
class Epoch:
    """An epoch of training has ended: its mean loss, and the accuracy on the validation split, from 0 to 1."""

    epoch: int
    epochs: int
    loss: float
    validation_accuracy: float
    step: str = ""


@dataclass(frozen=True)
class Resumed:
    """Training goes on after this epoch, the last one of a run that was killed."""

    epoch: int
    step: str = ""


@dataclass(frozen=True)
class Waiting:
    """A step waits, and for what."""

    message: str
    step: str = ""


@dataclass(frozen=True)
class Warned:
    """Something that the user should know and that fails nothing."""

    message: str
    step: str = ""


@dataclass(frozen=True)
class Failed:
    """A step has failed, and why."""

    error: str
    step: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the pipeline's conditions ask, and the reason in words; `better` is true only if every rule is kept."""

    accuracy: float
    worst_label: str | None
    worst_accuracy: float
    better: bool
    reason: str
    interval: list[float] = field(default_factory=list)  # 95 % confidence, of the accuracy: from and to
    rules: Mapping[str, bool] = field(default_factory=dict)  # whether each is kept, by name
    unknown: str = ""  # which images are called unknown, in words
    lacking: str = ""  # what the network lacks, in words


@dataclass(frozen=True)
class Finished:
    """A step has ended well: what it made in words, whether that was there before, and what it leaves to others."""

    step: str
    made: str = ""
    unchanged: bool = False
    id: str = ""  # of what it made
    ids: Mapping[str, str] = field(default_factory=dict)  # preprocess: of the splits
    shards: int | None = None  # decode: how many shards of the source this is about
    images: int | None = None  # decode: how many it decoded
    verdict: Verdict | None = None  # analyse
    classes: list[str] = field(default_factory=list)  # analyse: of the confusion matrix, as far as it can be read
    confusion: list[list[int]] = field(default_factory=list)  # analyse: a row for each true class
    confused: list[list[Any]] = field(default_factory=list)  # analyse: pairs, most first: true label, answer, images
    advice: list[str] = field(default_factory=list)  # analyse: what would help, in sentences
    data: str = ""  # analyse: the images in each split, and what is new, in words
    report: str = ""  # analyse: the path of the report page
    version: str = ""  # deploy
    mar: str = ""  # deploy: the path of the archive that is served


@dataclass(frozen=True)
class Settled:
    """An earlier run of the same code, parameters and data has done all work: how this run ends, word and reason."""

    outcome: str
    step: str = ""


Event = Started | Progress | Epoch | Resumed | Waiting | Warned | Failed | Finished | Settled

_KINDS: dict[str, type[Any]] = {
    "started": Started,
    "progress": Progress,
    "epoch": Epoch,
    "resumed": Resumed,
    "waiting": Waiting,
    "warning": Warned,
    "failed": Failed,
    "finished": Finished,
    "settled": Settled,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_WORD = "event"  # Kubeflow's reader of archived logs returns a line blank that is a JSON object and nothing else
_OBJECT = re.compile(r'\{\s*"')
_DECODER = json.JSONDecoder()


def line(event: Event) -> str:
    """The event as a line, without the newline."""
    return f"{_WORD} {to_json(event)}"


def to_json(event: Event) -> str:
    """The event as a JSON object; fields that say nothing are left out."""
    return json.dumps({"event": _NAMES[type(event)], **facts(event)})


def emit(event: Event) -> None:
    """Write one event to standard output, for whoever watches: a person, the pipeline's command, or a pod's log."""
    print(line(event), flush=True)


def joined(before: Finished | None, event: Finished) -> Finished:
    """What a step has made: of one with a task for each shard of the source, what all of them made.

    Args:
        before: What was made so far; None if this is the first event.
        event: The next event of the same step.

    Returns:
        The event, or both as one.
    """
    if before is None or not event.shards:
        return event
    shards, images = (before.shards or 0) + event.shards, (before.images or 0) + (event.images or 0)
    return dataclasses.replace(
        event,
        made=f"{images} images in {shards} shards",
        unchanged=before.unchanged and event.unchanged,
        shards=shards,
        images=images,
    )


def facts(event: Event) -> dict[str, Any]:
    """The fields of an event that say something, as JSON values: numbers, truth values, and what is not empty."""
    return {key: value for key, value in dataclasses.asdict(event).items() if value or isinstance(value, int | float)}


def parse(text: str) -> Event | None:
    """The event in a line of a log.

    Args:
        text: The line. Other text may stand before and after the JSON object, such as a time or a launcher's words.

    Returns:
        The event; None if the line has none, has one of an unknown kind, or has one that lacks a field.
    """
    start = 0
    while '"event"' in text and (found := _OBJECT.search(text, start)):
        try:
            content, start = _DECODER.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            start = found.end()
            continue
        if "event" in content:
            return _event(content)
    return None


def _event(content: dict[str, Any]) -> Event | None:
    kind = _KINDS.get(content["event"]) if isinstance(content["event"], str) else None
    made: Event | None = _made(kind, content) if kind else None
    return made


def _made(kind: type[Any], content: Mapping[str, Any]) -> Any:
    """An instance of the dataclass; None if a field is missing or has a value of another type."""
    values = {}
    for name, hint in get_type_hints(kind).items():
        if name not in content:
            continue
        value = content[name]
        if Verdict in get_args(hint):
            value = _made(Verdict, value) if isinstance(value, dict) else None
        if not _fits(value, hint):
            return None
        values[name] = value
    try:
        return kind(**values)
    except TypeError:
        return None


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, get_origin(hint) or hint)
