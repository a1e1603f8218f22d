"""Measures how cost grows with the number of images and of classes: seconds, and peak memory of every step.

Makes PNG files of a source `folder` in a temporary folder, and runs the pipeline on them. Prints Markdown.
"""

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.many_images import write_classes, write_digits
from benchmarks.watch import Watched, run
from contract.events import Progress, parse
from contract.paths import ROOT
from pipeline.settings import load_params
from steps.registry import STEP_NAMES

SIZES = (1_000, 10_000, 100_000)
CLASSES = (3_000, 6_000)
_MIB = 2**20
_EPOCHS = 2
_ROUNDS = 5
_SETTLED_SECONDS = 4  # a file that was written just before it was looked at is not trusted
_LEARNED = 1_000  # images to train on, where the gallery is what grows
_LARGE = 1_000  # images of 224 x 224 x 3
_LARGE_BATCH = 16  # what a batch needs grows with its images: some 9 MB for each
_IN_MEMORY_MB = 64
# Cores that decode, each on its share of the files: a loop, without anything that is kept.
_BARE = """
import sys, time
from pathlib import Path
from steps.common.images.content_key import key_of_pixels
from steps.common.images.decode import decode
keys = sys.argv[4] == "keys"
paths = Path(sys.argv[1]).read_text().splitlines()[int(sys.argv[2])::int(sys.argv[3])]
def loop(paths):
    for path in paths:
        with open(path, "rb") as file:
            pixels = decode(file.read(), size=28, channels=1, max_pixels=1000000)
        if keys:
            key_of_pixels(pixels)
loop(paths[:100])
sys.stdin.readline()
began = time.perf_counter()
loop(paths)
print(time.perf_counter() - began)
"""
_BARE_LOOPS = {
    "a bare loop of the decoder": "pixels",
    "a bare loop of decoder and content keys": "keys",
}
_PREPROCESS = (
    "import json, sys; from steps.preprocess.preprocess import preprocess; preprocess(json.loads(sys.argv[1]))"
)


def measure(sizes: Sequence[int] = SIZES) -> Iterator[str]:
    """Measure with so many images, then with large images and with many classes.

    Args:
        sizes: Numbers of images, the smallest first.

    Yields:
        Lines of Markdown.
    """
    runs = {size: _runs(size) for size in sizes}
    yield from _table(["seconds", *map(_count, sizes), *_growths(sizes)], _seconds(runs))
    for what in ("first run", "unchanged"):
        yield from _table(
            [f"peak MiB, {what}", *map(_count, sizes)],
            ([step, *(_mib(own[what].steps[step].peak) for own in runs.values())] for step in STEP_NAMES),
        )


def decoding(size: int = 20_000) -> Iterator[str]:
    """How fast preprocess reads and decodes new files, beside bare loops of the same decoder on the same cores.

    Args:
        size: The number of files.

    Yields:
        Lines of Markdown.
    """
    with _volumes() as volumes:
        write_digits(volumes / "data/images/train", 0, size)
        bare, own = dict.fromkeys(_BARE_LOOPS, 0.0), 0.0
        for _ in range(_ROUNDS):  # in turns, and the best of each: other load only slows down
            for name, makes in _BARE_LOOPS.items():
                bare[name] = max(bare[name], _bare_rate(volumes, makes))
            own = max(own, _own_rate(volumes))
            for made in ("cache", "dataset", "pixels"):
                shutil.rmtree(volumes / "data" / made)
    rows = [[name, f"{rate:,.0f}", f"{own / rate:.2f}"] for name, rate in bare.items()]
    heads = [f"decoding {_count(size)}", "images/s", "preprocess to it"]
    yield from _table(heads, [*rows, ["preprocess", f"{own:,.0f}", ""]])


def large_images() -> Iterator[str]:
    """Training on images of 224 x 224 x 3 with little memory for them, beside training with all of them in memory.

    Yields:
        Lines of Markdown.
    """
    found: dict[int, Watched] = {}
    with _volumes() as volumes:
        write_classes(volumes / "data/images/train", 4, _LARGE // 4, side=224, colours=3)
        for seed, limit in enumerate((4096, _IN_MEMORY_MB)):  # another seed is another network, which is trained anew
            train = {"backbone": "small", "epochs": 3, "batch_size": _LARGE_BATCH, "in_memory_mb": limit, "seed": seed}
            params = params_file(volumes, data={"image_size": 224, "channels": 3}, train=train)
            found[limit] = run(volumes, params)
    rows = [
        [
            f"`train.in_memory_mb: {limit}`",
            *(_mib(one.steps[step].peak) for step in ("train", "embed", "analyse")),
            f"{one.steps['train'].cpu:.1f}",
            f"{_LARGE * (len(one.epochs) - 1) / (one.epochs[-1] - one.epochs[0]):,.0f}",
        ]
        for limit, one in found.items()
    ]
    heads = ["train MiB", "embed MiB", "analyse MiB", "train, processor s", "images/s"]
    yield from _table([f"{_count(_LARGE)} of 224 x 224 x 3, batches of {_LARGE_BATCH}", *heads], rows)


def many_classes(counts: Sequence[int] = CLASSES) -> Iterator[str]:
    """What many classes cost: six images each, trained for two epochs.

    Args:
        counts: Numbers of classes.

    Yields:
        Lines of Markdown.
    """
    rows = []
    for count in counts:
        with _volumes() as volumes:
            write_classes(volumes / "data/images/train", count, 6)
            one = run(volumes, params_file(volumes))
            log = one.log.stat().st_size
            report = max(path.stat().st_size for path in (volumes / "model/verdict").glob("*/report.html"))
        peaks = [_mib(one.steps[step].peak) for step in ("train", "analyse")]
        rows.append([f"{count:,}", *peaks, f"{log / 1e6:.2f}", f"{report / 1e6:.2f}", f"{one.seconds:.0f}"])
    yield from _table(["classes", "train MiB", "analyse MiB", "log MB", "report MB", "seconds"], rows)


def unchanged(times: int = 5) -> Iterator[str]:
    """Where the fixed cost of a run without changes goes, on the sample: the median of some runs.

    Args:
        times: How many.

    Yields:
        Lines of Markdown.
    """
    with _volumes() as volumes:
        params = params_file(volumes, data={"source": "sample"})
        for _ in range(2):
            run(volumes, params)
        runs = [run(volumes, params, every=0.01) for _ in range(times)]
        bare = statistics.median(_bare_start() for _ in range(times))
    steps = list(runs[0].steps)

    def median(values: Iterable[float]) -> str:
        return f"{statistics.median(values):.2f}"

    rows = []
    for number, name in enumerate(steps):
        own = [one.steps[name] for one in runs]
        before = [[0.0, *(one.steps[step].gone for step in steps)][number] for one in runs]
        rows.append(
            [
                name,
                median(step.spawned - gone for step, gone in zip(own, before, strict=True)),
                f"{bare:.2f}",
                median(step.begun - step.spawned - bare for step in own),
                median(step.ended - step.begun for step in own),
                median(step.gone - step.ended for step in own),
                median(step.gone - gone for step, gone in zip(own, before, strict=True)),
            ]
        )
    last = median(one.seconds - one.steps[steps[-1]].gone for one in runs)
    rows.append(["closing lines", last, "", "", "", "", last])
    rows.append(["whole run", "", "", "", "", "", median(one.seconds for one in runs)])
    heads = ["unchanged run, seconds", "main process", "Python starts", "imports", "work", "end", "sum"]
    yield from _table(heads, rows)


def _runs(size: int) -> dict[str, Watched]:
    """Every run of one size, by what changed before it."""
    found: dict[str, Watched] = {}

    def measured(what: str, volumes: Path, params: Path) -> None:
        found[what] = run(volumes, params)
        print(f"{_count(size)}: {what}, {found[what].seconds:.1f} s: {found[what].last}", file=sys.stderr, flush=True)

    with _volumes() as volumes:
        train, params = volumes / "data/images/train", params_file(volumes)
        write_digits(train, 0, size)
        time.sleep(_SETTLED_SECONDS)
        measured("first run", volumes, params)
        measured("unchanged", volumes, params)
        write_digits(train, size, 1)
        measured("one image added to `train/`", volumes, params)
        write_classes(train, 1, max(20, size // 100), prefix="new-")
        measured("one class added to `train/`", volumes, params)
    with _volumes() as volumes:
        gallery, params = volumes / "data/images/gallery", params_file(volumes)
        write_digits(volumes / "data/images/train", 0, _LEARNED)
        write_digits(gallery, _LEARNED, size)
        time.sleep(_SETTLED_SECONDS)
        measured("first run, as `gallery/`", volumes, params)
        write_digits(gallery, _LEARNED + size, 1)
        measured("one image added to `gallery/`", volumes, params)
    return found


def _seconds(runs: Mapping[int, Mapping[str, Watched]]) -> Iterator[list[str]]:
    for what in next(iter(runs.values())):
        every = [own[what] for own in runs.values()]
        yield [f"{what}: {every[-1].last.partition(' ')[0]}", *_figures([one.seconds for one in every])]
        if "train" in what or what == "first run":
            yield ["until training begins", *_figures([one.steps["train"].begun for one in every])]


def _figures(seconds: Sequence[float]) -> list[str]:
    """Seconds, and how many times as long each takes as the one before."""
    pairs = itertools.pairwise(seconds)
    return [*(f"{one:.1f}" for one in seconds), *(f"{later / before:.1f}" for before, later in pairs)]


def _growths(sizes: Sequence[int]) -> list[str]:
    return [f"{later // before} times as many" for before, later in itertools.pairwise(sizes)]


def _bare_rate(volumes: Path, makes: str) -> float:
    """Images a second of one loop a core, all at once, which makes `pixels` alone or `keys`, too."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = volumes / "names"
    paths = sorted(map(str, (volumes / "data/images").rglob("*.png")))
    names.write_text("\n".join(paths))
    words = [[sys.executable, "-c", _BARE, str(names), str(number), str(cores), makes] for number in range(cores)]
    pipe = subprocess.PIPE
    loops = [subprocess.Popen(each, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for each in words]
    for loop in loops:
        print(file=loop.stdin, flush=True)  # to all, before the first is waited for
    seconds = [float(loop.communicate()[0]) for loop in loops]
    return len(paths) / max(seconds)


def _own_rate(volumes: Path) -> float:
    """Images a second of preprocess, from the first to the last that it tells of."""
    data = load_params(params_file(volumes)).data.model_dump()
    environment = {**os.environ, "VOLUMES": str(volumes)}
    command = [sys.executable, "-c", _PREPROCESS, json.dumps(data)]
    told: list[tuple[float, int]] = []
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if isinstance(event := parse(line), Progress):
                told.append((time.perf_counter(), event.done))
    (first, some), (last, all_) = told[0], told[-1]
    return (all_ - some) / (last - first)


def _bare_start() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


@contextmanager
def _volumes() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        yield Path(folder)


def params_file(volumes: Path, **change: Mapping[str, Any]) -> Path:
    """The project's parameters with few epochs and an open gate, so that each model is deployed that can be."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    opened = {
        "data": {"source": "folder"},
        "train": {"epochs": _EPOCHS},
        "gate": {"baseline": 0.0, "worst_class_floor": 0.0, "max_unknown": 1.0, "on_tie": "replace"},
        "validate": {"max_class_ratio": 1e6, "max_duplicate_fraction": 1.0},
    }
    for changes in (opened, change):
        for section, values in changes.items():
            params[section] |= values
    path = volumes / "params.yaml"
    path.write_text(yaml.safe_dump(params), encoding="utf-8")
    return path


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'--:|' * (len(heads) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _count(number: int) -> str:
    return f"{number:,} images"


def _mib(count: int) -> str:
    return f"{count / _MIB:,.0f}"
