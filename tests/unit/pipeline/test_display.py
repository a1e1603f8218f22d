"""What `make run` shows of a run."""

import io

from rich.console import Console

from contract.events import Finished
from pipeline.local.display import RunDisplay


def test_no_column_of_the_table_is_lost_however_narrow_the_terminal() -> None:
    console = Console(file=io.StringIO(), record=True, width=50)
    display = RunDisplay(console)
    made = "tf_efficientnet_lite0.in1k, 27 epochs, batches of 32, mirrored, 93.75% on validation"
    display.finished["train"], display.seconds["train"] = Finished("train", made), 93.6
    console.print(display.table())
    lines = console.export_text().splitlines()
    [first] = [number for number, line in enumerate(lines) if line.startswith("train ")]
    assert lines[first].split()[:2] == ["train", "93.6"]
    rest = [lines[first].split("93.6")[1], *(line for line in lines[first + 1 :] if line.startswith(" "))]
    assert " ".join(" ".join(rest).split()) == made
