"""The metrics of what was reviewed follow what review wrote."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from contract.loop import measured
from contract.loop.labels import Measured
from serving.collect.measured_metrics import MeasuredMetrics


def told(folder: Path) -> list[str]:
    registry = CollectorRegistry()
    registry.register(MeasuredMetrics(folder))
    return [text for text in generate_latest(registry).decode().splitlines() if not text.startswith("#")]


def test_the_accuracy_follows_the_file(tmp_path: Path) -> None:
    assert told(tmp_path) == []
    measured.write(tmp_path, {"two": Measured(0, 0, 4), "one": Measured(1, 2, 1)})
    assert told(tmp_path) == [
        'serving_measured_accuracy{version="one"} 0.5',
        'serving_reviewed_images{result="right",version="one"} 1.0',
        'serving_reviewed_images{result="wrong",version="one"} 1.0',
        'serving_reviewed_images{result="skipped",version="one"} 1.0',
        'serving_reviewed_images{result="right",version="two"} 0.0',
        'serving_reviewed_images{result="wrong",version="two"} 0.0',
        'serving_reviewed_images{result="skipped",version="two"} 4.0',
    ]
    measured.write(tmp_path, {"one": Measured(2, 3, 1)})
    assert told(tmp_path)[1] == 'serving_reviewed_images{result="right",version="one"} 2.0'


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"one": 1}', '{"one": {"right": "x"}}', '{"one": {"left": 1}}', "1"])
def test_a_damaged_file_tells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / measured.FILE).write_text(text)
    assert told(tmp_path) == []
