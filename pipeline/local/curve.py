"""The learning curve: trains on 25, 50 and 75 % of the training split, and says whether more images would help.

Judged by the validation split alone. Each network, and each part of the split, is in the store, so that a call that is
ended goes on with the next one.
"""

import contextlib
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.local.display import EventLog, RunDisplay
from pipeline.settings import Params
from steps.analyse.advice.findings import Share, learning_curve
from steps.common.errors import StepError
from steps.common.images.dataset import KIND, open_split
from steps.common.images.part import part_of
from steps.common.statistics.interval import wilson
from steps.common.store import read
from steps.common.volumes import data_volume, model_volume
from steps.preprocess.preprocess import prepare
from steps.train.train import train

SHARES = (0.25, 0.5, 0.75, 1.0)


def curve(params: Params, volumes: Path, console: Console) -> None:
    """Train on parts of the training split, and print the accuracy of each network on the validation split.

    Args:
        params: `params.yaml`.
        volumes: The folder of the volumes.
        console: Where progress and the table are printed.

    Raises:
        StepError: The source cannot be read, training fails, or there are no validation images.
    """
    os.environ["VOLUMES"] = str(volumes.absolute())
    points: list[tuple[int, Share]] = []
    table = Table("share", "training images", "accuracy on validation", "from", "to", box=None, pad_edge=False)
    with RunDisplay(console) as display, open(os.devnull, "w") as nowhere:
        output = EventLog(nowhere, display.on_event)
        with contextlib.redirect_stdout(output):
            splits, weights = prepare(params.data, params.train)
        count = len(open_split(data_volume() / KIND / splits["validation"]))
        if not count:
            raise StepError("a learning curve is judged on validation images: raise data.validation_fraction")
        for share in SHARES:
            with contextlib.redirect_stdout(output):
                part = part_of(splits["train"], share)
                images = len(open_split(data_volume() / KIND / part))
                console.print(f"{share:.0%}: {images} training images", markup=False, highlight=False)
                network = train(part, splits["validation"], params.train, weights.id)
            accuracy = float(read(model_volume(), "network", network).facts["validation_accuracy"])
            found = Share(round(accuracy * count), count)
            interval = wilson(found.right, found.images)
            points.append((images, found))
            table.add_row(
                f"{share:.0%}", f"{images}", f"{found.value:.4f}", f"{interval.low:.4f}", f"{interval.high:.4f}"
            )
    console.print()
    console.print(table)
    console.print()
    console.print(learning_curve(points).text, markup=False, highlight=False, soft_wrap=True)
