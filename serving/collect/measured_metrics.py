"""Prometheus's metrics of what was reviewed: reads `measured.json` beside the collected images, which review writes."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from contract.loop import measured


class MeasuredMetrics(Collector):
    """The accuracy of each version, measured on reviewed images that were drawn at random.

    Args:
        folder: The folder of the collected images; nothing is told where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics as they are now.

        Yields:
            The accuracy, and the images that it rests on.
        """
        accuracy = GaugeMetricFamily(
            "serving_measured_accuracy",
            "Share of reviewed random images that were answered rightly",
            labels=["version"],
        )
        images = GaugeMetricFamily(
            "serving_reviewed_images", "Reviewed random images, by the answer", labels=["version", "result"]
        )
        for version, found in measured.read(self._folder).items():
            if found.images:
                accuracy.add_metric([version], found.accuracy)
            counts = {"right": found.right, "wrong": found.images - found.right, "skipped": found.skipped}
            for result, count in counts.items():
                images.add_metric([version, result], count)
        yield accuracy
        yield images
