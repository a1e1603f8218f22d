"""The tables of docs/scale.md, from the constants that stand in it: reads the page, prints Markdown."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import yaml

from benchmarks.costs.model import MB, Constants, Cost, costs, first_bottleneck
from contract.paths import ROOT

PAGE = ROOT / "docs" / "scale.md"
IMAGES = (10**5, 10**6, 10**7, 10**8)
NODES = (1, 4, 16)
STEPS = ("scan", "decode", "preprocess", "validate", "train", "embed", "index", "analyse", "deploy")
_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIMES = ((60, 1, "s"), (3600, 60, "min"), (48 * 3600, 3600, "h"), (float("inf"), 24 * 3600, "d"))
_SIZES = ((1e9, MB, "MB"), (1e12, 1e9, "GB"), (float("inf"), 1e12, "TB"))
_GALLERY = "a smaller `gallery/` of your own"
# Which first bottlenecks a change removes.
ADVICE = {
    "more shards (`kubeflow.preprocess.shards`), on more nodes or cores": ("decode: decoding",),
    "object storage or a parallel file system in the place of one server, with files packed by the thousand": (
        "decode: reading files",
        "decode: writing pixels",
        "scan: listing",
        "decode: listing",
        "preprocess: listing",
    ),
    "`data.near_copy: 0`, and `data.group` where the origin of images is known": ("preprocess: near copies",),
    "several data sets, each with a model of its own; a node with more memory": (
        "preprocess: planning",
        "scan: memory",
        "decode: memory",
        "preprocess: memory",
        "validate: checking",
        "validate: memory",
        "validate: hashing",
        "train: memory",
        "train: hashing",
    ),
    "GPUs, then more nodes; fewer `train.epochs`": ("train: training",),
    "a larger `train.in_memory_mb`, or a volume with faster random reads": ("train: reading rows",),
    "a larger `train.batch_size`, or a faster network": ("train: gradients",),
    f"a GPU for `embed`; {_GALLERY}": ("embed: embedding",),
    f"a volume with faster random reads; {_GALLERY}": ("embed: reading rows", "analyse: reading rows"),
    f"`index.factory: IVF65536,Flat`, which all cores build; {_GALLERY}": ("index: adding", "analyse: searching"),
    f"`index.factory: IVF65536,SQ8`, with a quarter of a vector's bytes; {_GALLERY}": (
        "index: memory",
        "analyse: memory",
        "deploy: memory",
    ),
    "a GPU for `analyse`; a smaller `data.test_fraction`": ("analyse: embedding",),
    f"a faster volume; {_GALLERY}": (
        "deploy: reading the index",
        "deploy: writing archives",
        "embed: hashing",
        "index: hashing",
        "analyse: hashing",
    ),
    _GALLERY: ("embed: memory",),
}


def constants(page: Path = PAGE) -> Constants:
    """The constants that stand in a page, in its first block of YAML."""
    found = _BLOCK.search(page.read_text(encoding="utf-8"))
    if not found:
        raise ValueError(
            f"{page} has no block of YAML: paste what `python -m benchmarks scale --parts constants` prints"
        )
    return Constants.model_validate(yaml.safe_load(found[1]))


def tables(measured: Constants) -> Iterator[str]:
    """All tables.

    Args:
        measured: The constants.

    Yields:
        Lines of Markdown.
    """
    for side in sorted(measured.images):
        found = {(images, nodes): costs(measured, images, side, nodes) for images in IMAGES for nodes in NODES}
        yield f"### {side} pixels"
        yield ""
        yield from _table(f"time on {_joined(map(str, NODES))} nodes", found, lambda cost: cost.total, _time)
        yield from _table("memory of a pod", found, lambda cost: cost.memory, _size)
        yield from _table("on disk", found, lambda cost: cost.disk, _size)
        yield from _table("over the network", found, lambda cost: cost.network, _size)
        yield from _bottlenecks(measured, found)
    yield "### What to change"
    yield ""
    yield "| first bottleneck | what to change |"
    yield "|---|---|"
    yield from (f"| {', '.join(bottlenecks)} | {change} |" for change, bottlenecks in ADVICE.items())


def show() -> Iterator[str]:
    """The tables from the constants in docs/scale.md; lines of Markdown."""
    return tables(constants())


Found = dict[tuple[int, int], dict[str, Cost]]


def _table(name: str, found: Found, value: Callable[[Cost], float], text: Callable[[float], str]) -> Iterator[str]:
    yield f"| {name} | {' | '.join(f'{images:,}' for images in IMAGES)} |"
    yield f"|---|{'--:|' * len(IMAGES)}"
    for step in STEPS:
        each = [[found[images, nodes].get(step) for nodes in NODES] for images in IMAGES]
        if any(cost and value(cost) for cell in each for cost in cell):
            cells = [_joined(text(value(cost)) if cost else "-" for cost in cell) for cell in each]
            yield f"| {step} | {' | '.join(cells)} |"
    if text is _time:
        sums = [
            _joined(_time(sum(cost.total for cost in found[images, nodes].values())) for nodes in NODES)
            for images in IMAGES
        ]
        yield f"| **whole run** | {' | '.join(sums)} |"
    yield ""


def _bottlenecks(measured: Constants, found: Found) -> Iterator[str]:
    yield f"| first bottleneck | {' | '.join(f'{images:,}' for images in IMAGES)} |"
    yield f"|---|{'---|' * len(IMAGES)}"
    for nodes in NODES:
        cells = [first_bottleneck(measured, found[images, nodes]) for images in IMAGES]
        yield f"| {nodes} node{'s' if nodes > 1 else ''} | {' | '.join(cells)} |"
    yield ""


def _joined(texts: Iterable[str]) -> str:
    """Texts with strokes between them; once if all are the same."""
    every = list(texts)
    return every[0] if len(set(every)) == 1 else " / ".join(every)


def _time(seconds: float) -> str:
    return _shown(seconds, _TIMES)


def _size(count: float) -> str:
    return _shown(count, _SIZES)


def _shown(value: float, units: tuple[tuple[float, float, str], ...]) -> str:
    unit, name = next((unit, name) for below, unit, name in units if value < below)
    return f"{value / unit:.0f} {name}" if value >= 10 * unit or not value else f"{value / unit:.2g} {name}"
