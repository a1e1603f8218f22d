"""`python -m benchmarks [NAME ...]`: measures, and prints a table for each benchmark."""

import argparse
import itertools
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import backbone, drift, images, index, pixels, runs, scale, serving, training, unknown, verdicts
from benchmarks.costs import constants, tables
from benchmarks.loop import review
from benchmarks.own import measure as own
from contract.paths import ROOT
from pipeline.images.docker import Docker, DockerMissingError
from pipeline.settings import load_params

BENCHMARKS = {
    "training": lambda: training.measure(load_params(ROOT / "params.yaml")),
    "verdicts": verdicts.measure,
    "index": index.measure,
    "runs": runs.measure,
    "serving": serving.measure,
    "backbone": backbone.measure,
    "images": images.measure,
}
# These print tables in Markdown, one after the other as they are measured.
PARTS: dict[str, Callable[[list[int]], Iterator[str]]] = {
    "sizes": scale.measure,
    "decoding": lambda _: scale.decoding(),
    "large": lambda _: scale.large_images(),
    "classes": lambda _: scale.many_classes(),
    "constants": lambda _: constants.show(),
}
MARKDOWN: dict[str, Callable[[], Iterable[str]]] = {
    "own": lambda: own.measure(load_params(ROOT / "params.yaml")),
    "unknown": lambda: unknown.measure(load_params(ROOT / "params.yaml")),
    "drift": lambda: drift.measure(load_params(ROOT / "params.yaml")),
    "pixels": pixels.measure,
    "review": review.measure,
    "unchanged": scale.unchanged,
    "costs": tables.show,
}
NAMES = (*BENCHMARKS, *MARKDOWN, "scale")


def main() -> int:
    """Run the named benchmarks, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--sizes", nargs="+", type=int, default=scale.SIZES, help="of scale: numbers of images")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="of scale: some of its tables")
    parser.add_argument("--folder", type=Path, help="of scale: the volume that constants measures")
    parser.add_argument("--images", type=Path, help="of unknown: own images to train on, a folder for each class")
    parser.add_argument("--others", type=Path, help="of unknown: images of no class, with --images")
    parser.add_argument("--weights", type=Path, help="of own: of the backbone, with which the emoji are learned")
    options = parser.parse_args()
    if options.weights:
        MARKDOWN["own"] = lambda: own.measure_pretrained(load_params(ROOT / "params.yaml"), options.weights)
    if options.images and options.others:
        params = load_params(ROOT / "params.yaml")
        MARKDOWN["unknown"] = lambda: unknown.measure_own(params, options.images, options.others)
    PARTS["constants"] = lambda _: constants.show(options.folder)
    names = options.names or NAMES
    console = Console()
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}", highlight=False)
    for name in names:
        if name == "images" and (missing := _docker_missing()):
            console.print(f"{name}: {missing}", highlight=False, soft_wrap=True)
            continue
        if name not in BENCHMARKS:
            parts = [PARTS[part](sorted(options.sizes)) for part in options.parts] if name == "scale" else []
            for line in itertools.chain(*parts) if name == "scale" else MARKDOWN[name]():
                print(line, flush=True)
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
