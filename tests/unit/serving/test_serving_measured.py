"""The metrics of what was reviewed follow the file of labels."""

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from contract import files
from contract.loop.labels import Action, Before, Line, labels_path
from serving.measured import Measured


def line(number: int, action: Action, label: str = "") -> bytes:
    digest, before = f"d{number}", Before("4", "one")
    at = "2026-11-26T06:00:00+00:00"
    made = Line(id=digest, at=at, by="me", action=action, digest=digest, label=label, before=before, passed=(digest,))
    return made.encoded()


def told(registry: CollectorRegistry) -> list[str]:
    return [text for text in generate_latest(registry).decode().splitlines() if not text.startswith("#")]


def test_the_accuracy_follows_the_labels(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(Measured(tmp_path))
    assert told(registry) == []
    files.append(labels_path(tmp_path), line(1, Action.LABEL, "4") + line(2, Action.LABEL, "9") + line(3, Action.SKIP))
    assert told(registry) == [
        'serving_measured_accuracy{version="one"} 0.5',
        'serving_reviewed_images{result="right",version="one"} 1.0',
        'serving_reviewed_images{result="wrong",version="one"} 1.0',
        'serving_reviewed_images{result="skipped",version="one"} 1.0',
    ]
    files.append(labels_path(tmp_path), line(4, Action.LABEL, "4"))
    assert told(registry)[1] == 'serving_reviewed_images{result="right",version="one"} 2.0'
    labels_path(tmp_path).unlink()
    labels_path(tmp_path).mkdir()  # it cannot be read
    assert told(registry) == []
