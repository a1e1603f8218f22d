"""`python -m benchmarks [NAME ...]`: measures, and prints a table for each benchmark."""

import argparse
import os
import platform
import sys

from rich.console import Console
from rich.table import Table

from benchmarks import images, index, runs, serving, training, unknown, verdicts
from contract.paths import ROOT
from pipeline.images.docker import Docker, DockerMissingError
from pipeline.settings import load_params

BENCHMARKS = {
    "training": lambda: training.measure(load_params(ROOT / "params.yaml")),
    "unknown": lambda: unknown.measure(load_params(ROOT / "params.yaml")),
    "verdicts": verdicts.measure,
    "index": index.measure,
    "runs": runs.measure,
    "serving": serving.measure,
    "images": images.measure,
}


def main() -> int:
    """Run the named benchmarks, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or list(BENCHMARKS)
    console = Console()
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}", highlight=False)
    for name in names:
        if name == "images" and (missing := _docker_missing()):
            console.print(f"{name}: {missing}", highlight=False, soft_wrap=True)
            continue
        table = Table("measured", "value", title=name, title_justify="left", box=None)
        for row in BENCHMARKS[name]():
            table.add_row(*row)
        console.print(table)
    return 0


def _docker_missing() -> str:
    """Why Docker cannot be used here, or nothing."""
    try:
        Docker()
    except DockerMissingError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    sys.exit(main())
