"""Collect and preprocess data: reads a source, writes four splits to `<data volume>/dataset/<id>/`.

`train` and `validation` fit the network, `gallery` is what the index holds, `test` is only ever scored. Each split
has its own id, from the contents and labels of its images and their format: new gallery images change the gallery's id
alone. If a source has no gallery, the training split is the gallery, under the same id.
"""

from functools import partial

from contract.events import Warned, emit
from steps.common import progress
from steps.common.digest import digest
from steps.common.images.dataset import KIND, Rows
from steps.common.parameters import typed
from steps.common.store import Artefact, holds_only_older, produce
from steps.common.volumes import data_volume
from steps.preprocess.collect import collect, original
from steps.preprocess.parameters import Data
from steps.preprocess.plan import rows

STEP = "preprocess"
PIXELS = ("steps.preprocess.build",)  # what decides a split, beside its images and their format
_ANEW = "the volumes hold results of an earlier version of this program: this run makes everything anew"


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
        from steps.preprocess.build import build

        if holds_only_older(data_volume(), KIND):
            emit(Warned(_ANEW, STEP))
        collected = collect(parameters, remember=True)
        made: dict[str, Artefact] = {}
        for split, planned in rows(collected.planned).items():
            known = Rows(
                names=[one.item.name for one in planned],
                keys=[one.item.key for one in planned],
                groups=[one.group for one in planned],
                originals=[original(collected.parts[one.item.part], one.item.row) for one in planned],
            )
            made[split] = produce(
                data_volume(),
                KIND,
                STEP,
                parameters=parameters.image_format(),
                inputs={"images": digest([[one.item.key, one.item.label] for one in planned])},
                code=PIXELS,
                build=partial(
                    build,
                    split,
                    [(one.item.part, one.item.row) for one in planned],
                    collected.parts,
                    known,
                    image_size=parameters.image_size,
                    channels=parameters.channels,
                    max_pixels=parameters.max_pixels,
                ),
            )
        ids = {split: artefact.id for split, artefact in made.items()}
        progress.finished(
            STEP,
            made=", ".join(f"{artefact.facts['images']} {split}" for split, artefact in made.items()),
            unchanged=all(artefact.unchanged for artefact in made.values()),
            ids=ids,
        )
        return ids
