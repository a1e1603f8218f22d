"""Prometheus's metrics: the door's, the workers', TorchServe's own, and the model being served.

Reads the files that the workers write, see serving/model/telemetry.py.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from serving.log import Log


class Monitor:
    """All metrics of a server.

    Attributes:
        shadow: The version that is shadowed, or was last; with `state` and `reason`.
    """

    def __init__(self, log: Log) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._model = Gauge("serving_model_info", "The model served", ["name", "version"], registry=self._registry)
        self._switches = Counter(
            "serving_switches", "Changes to another version, by how they ended", ["result"], registry=self._registry
        )
        self._repairs = Counter(
            "serving_repairs",
            "What was done about workers that were gone for good, by how it ended",
            ["action", "result"],
            registry=self._registry,
        )
        for result in ("switched", "failed"):
            self._switches.labels(result)
        self._shadowed = Counter(
            "serving_shadowed", "Versions that were shadowed, by the verdict", ["result"], registry=self._registry
        )
        for result in ("passed", "refused"):
            self._shadowed.labels(result)
        self._figures = Gauge(
            "serving_shadow_figure", "Figures of the last shadowing", ["version", "figure"], registry=self._registry
        )
        self.shadow: dict[str, str] | None = None
        lost = Gauge("serving_output_lines_dropped", "Lines of the log that could not be written", registry=None)
        lost.set_function(lambda: log.dropped)
        self._registry.register(lost)
        self._workers: Collector | None = None
        self._torchserve: Callable[[], bytes] = bytes

    def set_model(self, name: str, version: str) -> None:
        """Set the name and version of the model being served."""
        self._model.clear()
        self._model.labels(name, version).set(1)

    def count_switch(self, succeeded: bool) -> None:
        """Count a switch to another version."""
        self._switches.labels("switched" if succeeded else "failed").inc()

    def start_shadow(self, version: str) -> None:
        """Say that a version is being shadowed."""
        self.shadow = {"version": version, "state": "shadowed", "reason": ""}

    def fail_shadow(self, version: str, error: str) -> None:
        """Say that a version cannot be shadowed, and why."""
        self.shadow = {"version": version, "state": "failed", "reason": error.partition("\n")[0]}

    def stop_shadow(self) -> None:
        """Say that the shadowing ended without a verdict."""
        self.shadow = None

    def judge_shadow(self, version: str, passed: bool, reason: str, figures: Mapping[str, float]) -> None:
        """Count a verdict on a version that was shadowed.

        Args:
            version: The version.
            passed: Whether it may answer.
            reason: Why, in words.
            figures: What was judged, by name.
        """
        result = "passed" if passed else "refused"
        self.shadow = {"version": version, "state": result, "reason": reason}
        self._shadowed.labels(result).inc()
        self._figures.clear()
        for name, value in figures.items():
            self._figures.labels(version, name).set(value)

    def count_repair(self, action: str, succeeded: bool) -> None:
        """Count a repair: `reload` of the version, or `restart` of TorchServe."""
        self._repairs.labels(action, "repaired" if succeeded else "failed").inc()

    def add(self, collector: Collector) -> None:
        """Add metrics of the door."""
        self._registry.register(collector)

    def set_torchserve(self, folder: Path, own: Callable[[], bytes]) -> None:
        """Take the metrics of a TorchServe, instead of those of the one before.

        Args:
            folder: Where its workers write their metrics.
            own: Returns TorchServe's own metrics in Prometheus's text format.
        """
        if self._workers:
            self._registry.unregister(self._workers)
        self._workers = MultiProcessCollector(self._registry, path=str(folder))  # type: ignore[no-untyped-call]
        self._torchserve = own

    def render(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry) + self._torchserve()
