"""Measures drift: reads the served version's archive and the collected images, writes `drift.json` beside these."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contract.environment import Environment
from contract.errors import InputError
from contract.loop import collected
from contract.loop import drift as record
from contract.pointer import Pointer
from steps.common.errors import StepError
from steps.common.files import volume_trouble
from steps.common.pointer import read_pointer
from steps.common.volumes import deploy_volume
from steps.drift.compare import Comparison, compare
from steps.drift.parameters import Drift
from steps.drift.sample import Sample, reference, served

COLLECTED, METRICS = "collected", "metrics"


@dataclass(frozen=True)
class Measured:
    """A comparison, what was compared, and its record."""

    comparison: Comparison
    test: Sample
    served: Sample
    record: record.Drift


def collect_folder() -> Path:
    """Where the server keeps images, beside the volumes."""
    return Environment().volumes / collected.FOLDER


def measure(parameters: Drift, otherwise: Callable[[Pointer], Sample]) -> Measured:
    """Compare what the served version answered with what analyse saw on test.

    Args:
        parameters: The section `drift` of `params.yaml`.
        otherwise: Gives the sample where no image of the version was collected at random.

    Returns:
        The comparison, which `keep` writes.

    Raises:
        InputError: Nothing is served.
        StepError: The pointer or the archive cannot be read.
    """
    pointer = read_pointer()
    if pointer is None:
        raise InputError("nothing is served: make run deploys a model, and make serve serves it")
    test, now, source = reference(deploy_volume(), pointer), datetime.now(UTC), COLLECTED
    sample, since = served(collected.read_all(collect_folder()), pointer.version, parameters.days, now)
    if not sample.images:
        sample, source = otherwise(pointer), METRICS
    found = compare(test, sample, parameters)
    written = record.Drift(
        at=now.isoformat(timespec="seconds"),
        version=pointer.version,
        word=str(found.word),
        why=found.why,
        images=sample.images,
        source=source,
        since=since.isoformat(timespec="seconds") if since else None,
        effects={finding.name: round(finding.effect, 4) for finding in found.findings},
    )
    return Measured(found, test, sample, written)


def keep(measured: Measured) -> None:
    """Write a comparison, for the server's metrics.

    Args:
        measured: The comparison.

    Raises:
        StepError: The folder of the collected images cannot be written.
    """
    folder = collect_folder()
    try:
        record.write(folder, measured.record)
    except OSError as error:
        raise StepError(volume_trouble(error, folder) or f"{folder} cannot be written ({error})") from error
