"""The pointer to the current version, and the records of versions: their types, and their form on the deploy volume.

`current.json` is the pointer: the record of the version that serves, and the versions taken out of service by a
rollback. `versions/<version>.json` is the record of one version; a pod that MODEL_VERSION pins reads it.
Both carry a `schema` number. Files without one, which earlier versions of this project wrote, are read as well.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

SCHEMA = 1
MODEL_STORE, BACKUP = "model-store", "backup"
THUMBNAILS = "thumbnails.webp", "thumbnails.json"  # in the archive: the gallery's pictures, and their layout
# What the JSON of a damaged file raises.
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def pointer_path(volume: Path) -> Path:
    """The pointer's file on the deploy volume."""
    return volume / "current.json"


def lock_path(volume: Path) -> Path:
    """The file that whoever changes what is served holds a lock on (flock)."""
    return volume / ".lock"


def record_path(volume: Path, version: str) -> Path:
    """The file of a version's record on the deploy volume."""
    return volume / "versions" / f"{version}.json"


@dataclass(frozen=True)
class Note:
    """A version that a rollback took out of service, and when; its network and index are not deployed again."""

    version: str
    network: str
    index: str
    at: str

    @classmethod
    def parsed(cls, content: Mapping[str, Any]) -> Self:
        """The note in JSON; one of `DAMAGE` if it is damaged."""
        return cls(*(str(content[each.name]) for each in fields(cls)))


@dataclass(frozen=True, kw_only=True)
class Record:
    """A version: its archive, the artefacts it is made of, and what is known of its quality."""

    name: str
    version: str
    mar: str
    sha256: str = ""
    network: str = ""
    index: str = ""
    image: str | None = None
    deployed_at: str | None = None
    accuracy: float | None = None
    worst_class: Mapping[str, Any] | None = None
    test: str | None = None
    dataset: str | None = None
    verdict: str | None = None
    prediction: Mapping[str, Any] | None = None
    shadow: Mapping[str, Any] | None = None  # limits and the version before, until the version was shadowed

    @classmethod
    def parsed(cls, content: Mapping[str, Any], needs: Iterable[str] = ()) -> Self:
        """Read a record from JSON; one of `DAMAGE` if it is damaged.

        Args:
            content: the JSON object; keys that are not known are left out.
            needs: keys that must be there, besides name, version and mar.

        Returns:
            The record.

        Raises:
            ValueError: a later version of this project wrote it.
        """
        if (schema := content.get("schema", 0)) not in range(SCHEMA + 1):
            raise ValueError(f"its schema is {schema!r} and this project reads up to {SCHEMA}: update the project")
        texts = {"name", "version", "mar", *needs}
        values = {each.name: content.get(each.name, each.default) for each in fields(Record)}
        return cls(**values | {key: str(content[key]) for key in texts})

    def content(self) -> dict[str, Any]:
        """The record as a JSON object, without its schema and what is not known."""
        return {key: value for each in fields(Record) if (value := getattr(self, (key := each.name))) not in (None, "")}


@dataclass(frozen=True, kw_only=True)
class Pointer(Record):
    """What `current.json` says: the current version, and the versions taken out of service."""

    rolled_back: tuple[Note, ...] = field(default=())

    @classmethod
    def parsed(cls, content: Mapping[str, Any], needs: Iterable[str] = ()) -> Self:
        """The pointer in JSON; arguments and errors are those of `Record.parsed`."""
        record = super().parsed(content, needs)
        return cls.to(record, (Note.parsed(note) for note in content.get("rolled_back") or ()))

    @classmethod
    def to(cls, record: Record, rolled_back: Iterable[Note] = ()) -> Self:
        """The pointer to this version."""
        return cls(**{each.name: getattr(record, each.name) for each in fields(Record)}, rolled_back=tuple(rolled_back))

    @property
    def record(self) -> Record:
        """The record of the current version."""
        return Record(**{each.name: getattr(self, each.name) for each in fields(Record)})

    def content(self) -> dict[str, Any]:
        """The pointer as a JSON object, without its schema and what is not known."""
        return {**super().content(), "rolled_back": [vars(note) for note in self.rolled_back]}

    def why_out_of_service(self, network: str, index: str, version: str = "") -> str | None:
        """Say why a model must not be deployed.

        The current network and index always may be, since a version of them that was rolled back changes nothing.

        Args:
            network: id of its network.
            index: id of its index.
            version: of it, if it has one yet.

        Returns:
            The reason in words; None if it may be deployed.
        """
        for note in self.rolled_back:
            same = (note.network, note.index) == (network, index) != (self.network, self.index)
            if same or note.version == version:
                out = note.version
                return f"{out} was rolled back on {note.at}: make rollback VERSION={out} puts it back"
        return None


def as_file(record: Record) -> bytes:
    """What the file of a record, or of the pointer, holds."""
    return json.dumps({"schema": SCHEMA, **record.content()}, indent=2, allow_nan=False).encode() + b"\n"
