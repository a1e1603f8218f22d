"""The commands of the store of collected images: what is in it, and its removal. Reads and removes; writes nothing."""

import argparse
import json
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from contract.errors import InputError, ProjectError
from contract.loop import collected as store
from contract.loop.collected import Collected
from contract.words import counted

_MB = 1_000_000
_ALL = "all"


def collected(arguments: argparse.Namespace) -> int:
    """Print what was kept: how many images, of which answers and versions, why, since when, and how large.

    Args:
        arguments: `volumes` and `json` of the command line.

    Returns:
        0.

    Raises:
        InputError: The store cannot be read.
    """
    folder = _folder(arguments.volumes)
    records = sorted(store.read_all(folder), key=lambda record: record.time)
    if arguments.json:
        print(json.dumps({"folder": str(folder), **_counts(records), "answers": _answers(records)}, indent=1))
        return 0
    if not records:
        print(f"no images in {folder}: serving.collect in params.yaml keeps some, and is off by default")
        return 0
    head = ("answer", "images", *reversed(store.REASONS), "drawn", "since (UTC)")
    found = {**_answers(records), _ALL: _counts(records)}
    rows = [head, *((name, *_cells(found[name])) for name in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        aligned = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        print("  ".join([f"{name:<{widths[0]}}", *aligned]))
    images, versions = counted(len(records), "image"), counted(len({record.version for record in records}), "version")
    size = sum(record.disk_bytes for record in records) / _MB
    print(f"{images} of {versions}, {size:.1f} MB in {folder}")
    return 0


def forget(arguments: argparse.Namespace) -> int:
    """Remove the images of a request, or those kept before a time.

    Args:
        arguments: `volumes`, and `request` or `before` of the command line.

    Returns:
        0.

    Raises:
        InputError: Not exactly one of the two is given, the time cannot be read, or the store cannot be read.
        ProjectError: An image cannot be removed.
    """
    if bool(arguments.request) == bool(arguments.before):
        raise InputError("say what is to be forgotten: make forget REQUEST=id, or make forget BEFORE=2026-11-26")
    before = _time(arguments.before) if arguments.before else ""
    folder = _folder(arguments.volumes)
    count = 0
    for record in store.read_all(folder):
        if arguments.request in record.requests or record.time < before:
            try:
                count += store.remove(folder, record.digest)
            except OSError as error:
                raise ProjectError(
                    f"{counted(count, 'image')} removed; {error.filename} cannot be: {error.strerror}"
                ) from error
    print(f"{counted(count, 'image')} removed from {folder}")
    return 0


def _folder(volumes: Path | None) -> Path:
    from contract.environment import Environment  # imported late: --help needs none of it

    folder = (volumes or Environment().volumes) / store.FOLDER
    if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"{folder} cannot be read: only the user who serves may, so run this as that user")
    return folder


def _answers(records: Sequence[Collected]) -> dict[str, dict[str, object]]:
    """The counts of each answer, the most frequent first."""
    labels = [label for label, _ in Counter(record.label for record in records).most_common()]
    return {label: _counts([record for record in records if record.label == label]) for label in labels}


def _counts(records: Sequence[Collected]) -> dict[str, object]:
    reasons = Counter(record.reason for record in records)
    return {
        "images": len(records),
        **{reason: reasons[reason] for reason in reversed(store.REASONS)},
        "drawn": sum(record.random for record in records),
        "since": records[0].time if records else None,
        "bytes": sum(record.disk_bytes for record in records),
    }


def _cells(counts: dict[str, object]) -> list[str]:
    shown = [str(counts[name]) for name in ("images", *reversed(store.REASONS), "drawn")]
    return [*shown, str(counts["since"])[:16].replace("T", " ")]


def _time(text: str) -> str:
    try:
        given = datetime.fromisoformat(text)
        utc = given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(f"BEFORE is {text!r} ({error}): give a date such as 2026-11-26, in UTC") from None
    return utc.isoformat(timespec="milliseconds")
