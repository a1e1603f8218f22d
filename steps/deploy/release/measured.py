"""The accuracy of versions, measured on reviewed images, beside that of their verdicts: reads labels and verdicts."""

import json

from contract.errors import InputError
from contract.loop.labels import Labels
from contract.pointer import DAMAGE, Record
from steps.common.statistics.interval import Interval, wilson
from steps.common.volumes import data_volume, model_volume


class Measurements:
    """What was measured of each version, from the labels on the data volume as they are now."""

    def __init__(self) -> None:
        self._labels = Labels(data_volume())
        try:
            self._labels.refresh()
        except InputError:  # it cannot be read here: nothing was measured, as far as anybody here can tell
            self._labels = Labels(data_volume())

    def text(self, version: str) -> str:
        """The measured accuracy of a version with its interval and the number of images; empty if there is none."""
        found = self._labels.measured(version)
        interval = wilson(found.right, found.images)
        return f"{found.accuracy:.4f} ({interval}) of {found.images}" if found.images else ""

    def note(self, record: Record) -> str:
        """Say that a version is better or worse than its verdict, if the two intervals have nothing in common."""
        found, judged = self._labels.measured(record.version), _judged(record)
        if judged is None or not found.images:
            return ""
        measured = wilson(found.right, found.images)
        if measured.low <= judged.high and judged.low <= measured.high:
            return ""
        relation = "below" if measured.high < judged.low else "above"
        return (
            f"{record.version}: the measured accuracy {found.accuracy:.4f} ({measured}) is {relation} that of its "
            f"verdict ({judged}), and chance does not explain it: what is sent differs from the test images"
        )


def _judged(record: Record) -> Interval | None:
    """The interval of a version's accuracy on its test images; None if the verdict is gone."""
    try:
        text = (model_volume() / "verdict" / str(record.verdict) / "verdict.json").read_text()
        return Interval(**json.loads(text)["interval"])
    except (OSError, *DAMAGE):
        return None
