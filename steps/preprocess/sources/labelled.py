"""A source with the images that got their labels in review: lists those that `<data volume>/labels.jsonl` names.

They lie in `<data volume>/images/`, where the source `folder` finds them by itself. To any other source they are added,
and nothing else in that folder is.
"""

import os
from functools import cached_property
from typing import TYPE_CHECKING

from steps.common.digest import digest
from steps.preprocess.sources.source import LABELLED, Files, Part, Parts, Source, fingerprint, some_of

if TYPE_CHECKING:
    from pathlib import Path

_PARTS = ("train", "gallery")


class WithLabelled:
    """A source, and the images that got their labels in review. They are listed once.

    Args:
        source: The source, an attribute too.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    @property
    def needs_network(self) -> bool:
        """Whether the source does."""
        return self.source.needs_network

    def fingerprint(self) -> str | None:
        """As `Source.fingerprint`; that of the source itself if no image has a label from review."""
        known = self.source.fingerprint()
        if known is None or not self._labelled:
            return known
        labelled = fingerprint(self._labelled)
        return labelled and digest([known, labelled])

    def read(self) -> Parts:
        """As `Source.read`, with the parts `labelled/train` and `labelled/gallery`, as far as they have images."""
        parts = self.source.read()
        if not self.source.lists_labelled:
            return {**parts, **self._labelled}
        return _parted(parts)

    @cached_property
    def _labelled(self) -> Parts:
        if self.source.lists_labelled:
            return {}
        return _listed()


def _listed() -> Parts:
    """The labelled images that are there, by part."""
    from steps.common.volumes import data_volume
    from steps.preprocess.sources.scan import STAT, now_on

    names = _names()
    if not names:
        return {}
    root, since = data_volume() / "images", now_on(data_volume())
    found: dict[str, list[tuple[str, os.stat_result]]] = {}
    for name in sorted(names):
        try:
            looked = os.stat(root / name)
        except OSError:
            continue  # somebody took it away
        found.setdefault(name.partition("/")[0], []).append((name, looked))
    return {
        f"{LABELLED}{part}": _part(
            root,
            [name for name, _ in those],
            b"".join(STAT.pack(one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino) for _, one in those),
            max(max(one.st_mtime_ns, one.st_ctime_ns) for _, one in those),
            since,
        )
        for part, those in found.items()
        if part in _PARTS
    }


def _parted(parts: Parts) -> Parts:
    """The parts of a source that lists labelled images itself, with those of its gallery in a part of their own."""
    gallery, names = parts.get("gallery"), _names()
    if gallery is None or gallery.files is None or names.isdisjoint(gallery.names):
        return parts
    found = {name: part for name, part in parts.items() if name != "gallery"}
    for part, is_labelled in (("gallery", False), (f"{LABELLED}gallery", True)):
        rows = [row for row, name in enumerate(gallery.names) if (name in names) is is_labelled]
        if rows:
            found[part] = some_of(gallery, rows)
    return found


def _part(root: "Path", names: list[str], stats: bytes, newest: int, since: int) -> Part:
    from steps.preprocess.sources.scan import label_of

    labels = [label_of(name.split("/")[1]) for name in names]
    return Part(labels, names, lambda row: (root / names[row]).read_bytes(), Files(root, stats, newest, since))


def _names() -> set[str]:
    from contract.loop.labels import Labels
    from steps.common.volumes import data_volume

    labels = Labels(data_volume())
    labels.refresh()
    return set(labels.files())
