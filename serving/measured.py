"""Prometheus's metrics of what was reviewed: reads `<data volume>/labels.jsonl`, where this server can."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from contract.loop.labels import Labels


class Measured(Collector):
    """The accuracy of each version, measured on reviewed images that were drawn at random. Each look reads new lines.

    Args:
        volume: The data volume; nothing is told where it is not there.
    """

    def __init__(self, volume: Path) -> None:
        self._labels = Labels(volume)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics as they are now.

        Yields:
            The accuracy, and the images that it rests on.
        """
        try:
            self._labels.refresh()
        except OSError:
            return
        accuracy = GaugeMetricFamily(
            "serving_measured_accuracy",
            "Share of reviewed random images that were answered rightly",
            labels=["version"],
        )
        images = GaugeMetricFamily(
            "serving_reviewed_images", "Reviewed random images, by the answer", labels=["version", "result"]
        )
        for version in sorted(self._labels.versions()):
            found = self._labels.measured(version)
            if found.images:
                accuracy.add_metric([version], found.accuracy)
            counts = {"right": found.right, "wrong": found.images - found.right, "skipped": found.skipped}
            for result, count in counts.items():
                images.add_metric([version, result], count)
        yield accuracy
        yield images
