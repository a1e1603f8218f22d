"""Collect and preprocess data: reads a source, writes four splits to `<data volume>/dataset/<id>/`.

`train` and `validation` fit the network, `gallery` is what the index holds, `test` is only ever scored. Each split
has its own id, from the contents and labels of its images and their format: new gallery images change the gallery's id
alone. If a source has no gallery, the training split is the gallery, under the same id. The pixels that splits share
are appended to `<data volume>/pixels/`.
"""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from contract.events import Warned, emit
from steps.common import progress
from steps.common.code.deciding import deciding_code
from steps.common.digest import digest
from steps.common.images.places import KIND
from steps.common.parameters import ImageFormat, Pretrained, typed
from steps.common.store import Artefact, find, holds_only_older, produce
from steps.common.volumes import data_volume
from steps.preprocess.parameters import Data
from steps.preprocess.sources.source import fingerprint
from steps.preprocess.sources.weights import Weights, automatic, named
from steps.preprocess.unchanged import Outcome, Unchanged

if TYPE_CHECKING:
    from steps.preprocess.collect import Collected
    from steps.preprocess.sources.source import Parts

STEP = "preprocess"
# What decides a split, beside its images and their format.
PIXELS = ("steps.preprocess.render", "steps.common.images.dataset")
_ANEW = "the volumes hold results of an earlier version of this program: this run makes everything anew"


class Before(NamedTuple):
    """The splits that the source led to, None if it is not as it was; where that is remembered, and its fingerprint.

    `parts` is what the source gave, if it had to be read.
    """

    made: "dict[str, Artefact] | None"
    remembered: Unchanged
    known: str | None
    parts: "Parts | None"


@typed
def preprocess(parameters: Data) -> dict[str, str]:
    """Read the source, draw the splits, and decode their images.

    Args:
        parameters: The section `data` of `params.yaml`.

    Returns:
        The ids of the splits `train`, `validation`, `gallery` and `test`, by these names.

    Raises:
        StepError: if the source cannot be read, or more than `max_unreadable` images cannot be decoded.
    """
    with progress.running(STEP):
        return _finish(_splits_of(parameters))


@typed
def prepare(parameters: Data, training: Pretrained) -> tuple[dict[str, str], Weights]:
    """Likewise, and fetch the pretrained weights that train needs: first, if a backbone is named.

    Args:
        parameters: The section `data` of `params.yaml`.
        training: The section `train`.

    Returns:
        The ids of the splits, and the weights.

    Raises:
        StepError: As `preprocess` does; or the weights of a backbone that is named cannot be had.
    """
    with progress.running(STEP):
        weights = named(training)
        made = _splits_of(parameters)
        return _finish(made), weights or weights_of(training, parameters, made)


def before(parameters: Data) -> Before:
    """See whether the source is as it was, without a look at each image.

    Args:
        parameters: The section `data` of `params.yaml`.

    Returns:
        What is known of it.

    Raises:
        StepError: The source cannot be read.
    """
    source = parameters.chosen_source()
    code = deciding_code(*PIXELS)
    remembered = Unchanged(
        data_volume() / "cache/unchanged.json", [parameters.model_dump(), code.digest, code.libraries]
    )
    parts = None
    known = source.fingerprint()
    if known is None:
        parts = source.read()
        known = fingerprint(parts)
    return Before(_as_before(remembered, known) if known else None, remembered, known, parts)


def ids_of(made: dict[str, Artefact]) -> dict[str, str]:
    """The ids of splits, by their names."""
    return {split: artefact.id for split, artefact in made.items()}


def weights_of(training: Pretrained, parameters: Data, made: dict[str, Artefact]) -> Weights:
    """The weights that `auto` stands for with these splits; StepError if they are others than they should be."""
    return automatic(training, parameters.source, **made["train"].manifest["parameters"])


def _splits_of(parameters: Data) -> dict[str, Artefact]:
    """The splits of the source, made or found."""
    found = before(parameters)
    if found.made is not None:
        return found.made
    parts = found.parts or parameters.chosen_source().read()
    return _make(parameters, parts, found.remembered, found.known)


def _finish(made: dict[str, Artefact]) -> dict[str, str]:
    """Say what was made, and return the ids."""
    ids = ids_of(made)
    progress.finished(
        STEP,
        made=", ".join(f"{artefact.facts['images']} {split}" for split, artefact in made.items()),
        unchanged=all(artefact.unchanged for artefact in made.values()),
        ids=ids,
    )
    return ids


def _as_before(remembered: Unchanged, known: str) -> dict[str, Artefact] | None:
    """The splits that a source with this fingerprint led to, if they and their pixels are there."""
    outcome = remembered.outcome(known)
    if outcome is None or _stamps(outcome.stamps) != outcome.stamps:
        return None
    found = {split: find(data_volume(), KIND, id) for split, id in outcome.splits.items()}
    made = {split: artefact for split, artefact in found.items() if artefact}
    if len(made) < len(found):
        return None
    for line in outcome.warnings:
        emit(Warned(line, STEP))
    return made


def _stamps(paths: "dict[str, Any] | list[Path]") -> dict[str, Any]:
    """What tells whether files are as they were: by their paths below the data volume, size and inode."""
    found: dict[str, Any] = {}
    for path in paths:
        try:
            looked = os.stat(data_volume() / path)
        except OSError:
            found[str(path)] = None
        else:
            found[str(path)] = [looked.st_size, looked.st_ino]
    return found


def _make(parameters: Data, parts: "Parts", remembered: Unchanged, known: str | None) -> dict[str, Artefact]:
    """Make the splits that are not there, and remember what the source led to."""
    from steps.preprocess.collect import collect, ledger, shards
    from steps.preprocess.sources.auto_format import resolved

    if holds_only_older(data_volume(), KIND):
        emit(Warned(_ANEW, STEP))
    image_format = resolved(parameters, parts["train"], parameters.max_pixels)
    store = shards(image_format)
    with store.appending() as appender:  # until the splits are there: what they share is in use from then on
        collected = collect(parameters, image_format, parts, appender)
        for line in collected.warnings:
            emit(Warned(line, STEP))
        made = _splits(image_format, collected, store.folder.name)
        store.release()
        if known:
            paths = [ledger(parameters).path, *store.files()]
            stamps = _stamps([path.relative_to(data_volume()) for path in paths])
            remembered.keep(known, Outcome(ids_of(made), list(collected.warnings), stamps))
    return made


def _splits(image_format: ImageFormat, collected: "Collected", pixels: str) -> dict[str, Artefact]:
    from steps.common.images.dataset import Rows, write_split
    from steps.preprocess.plan import Planned, rows

    below = {
        name: os.path.relpath(part.files.folder, data_volume()) + "/"
        for name, part in collected.parts.items()
        if part.files
    }

    def build(planned: list[Planned], folder: Path) -> dict[str, Any]:
        from steps.preprocess.sources.originals import original

        known = Rows(
            names=[one.item.name for one in planned],
            keys=[one.item.key for one in planned],
            groups=[one.group for one in planned],
            originals=[
                below[one.item.part] + one.item.name
                if one.item.part in below
                else original(collected.parts[one.item.part], one.item.row, image_format)
                for one in planned
            ],
        )
        write_split(folder, [one.item.label for one in planned], known, pixels)
        return {"images": len(planned)}

    made: dict[str, Artefact] = {}
    of: dict[int, Artefact] = {}
    for split, planned in rows(collected.planned).items():
        made[split] = of.get(id(planned)) or produce(
            data_volume(),
            KIND,
            STEP,
            parameters=image_format.deciding(),
            inputs={"images": digest([[one.item.key, one.item.label] for one in planned])},
            code=PIXELS,
            build=partial(build, planned),
        )
        of[id(planned)] = made[split]
    return made
