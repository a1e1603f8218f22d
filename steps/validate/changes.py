"""What changed since the last data that were found sound: reads and replaces `<data volume>/last-data.json`."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from steps.common.files import write_atomically
from steps.common.volumes import data_volume


@dataclass(frozen=True)
class Counts:
    """The source of some data, and the number of images of each class, over all splits."""

    source: str
    classes: dict[str, int]


def last() -> Counts | None:
    """The counts of the last data that were found sound; None if there are none that can be read."""
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
        return Counts(str(found["source"]), {str(label): int(count) for label, count in found["classes"].items()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def keep(counts: Counts) -> None:
    """Make these counts the last ones."""
    if counts != last():
        text = json.dumps(asdict(counts), indent=2, ensure_ascii=False) + "\n"
        write_atomically(_path(), io.BytesIO(text.encode()))


def table(before: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    """A line for each class of which there are fewer images than before, with both counts; none if there is no such."""
    fewer = {label: count for label, count in before.items() if now.get(label, 0) < count}
    if not fewer:
        return []
    width = max(len("class"), *map(len, fewer))
    rows = [f"{label:<{width}}  {count:>6}  {now.get(label, 0):>6}" for label, count in sorted(fewer.items())]
    return [f"{'class':<{width}}  {'before':>6}  {'now':>6}", *rows]


def check(before: Mapping[str, int], now: Mapping[str, int], max_shrink: float, allowed: Sequence[str]) -> list[str]:
    """A line for each class that vanished, or shrank by more than this share, and is not allowed to."""
    broken = []
    for label, count in sorted(before.items()):
        left = now.get(label, 0)
        if label in allowed or (left and left >= count * (1 - max_shrink)):
            continue
        what = f"shrank by more than validate.max_shrink ({max_shrink:g})" if left else "vanished"
        broken.append(f"class {label!r} {what}: {count} images before, {left} now")
    return broken


def _path() -> Path:
    return data_volume() / "last-data.json"
