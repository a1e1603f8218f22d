"""Prometheus's metrics of drift: reads `drift.json`, which `make drift` or the CronJob writes."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from contract.loop import drift


class DriftMetrics(Collector):
    """The last comparison of what is served with test, as long as it is about the version that is served.

    Args:
        folder: The folder of the collected images.
        version: Gives the version that is served.
    """

    def __init__(self, folder: Path, version: Callable[[], str]) -> None:
        self._folder, self._version = folder, version

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing, so that the file is not read when this is registered."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics; none without a comparison of the version that is served."""
        found = drift.read(self._folder)
        if found is None or found.version != self._version():
            return
        yield GaugeMetricFamily("serving_drift", "What is to be done: 0 none, 1 watch, 2 retrain", found.level)
        yield GaugeMetricFamily("serving_drift_images", "Served images that were compared", found.images)
        at = datetime.fromisoformat(found.at).timestamp()
        yield GaugeMetricFamily("serving_drift_timestamp_seconds", "When they were compared", at)
        effects = GaugeMetricFamily("serving_drift_effect", "Size of a difference to test", labels=["test"])
        for name, effect in sorted(found.effects.items()):
            effects.add_metric([name], effect)
        yield effects
