"""Measures what the tables of docs/scale.md are computed from; writes temporary files to a folder, prints YAML.

What computes is timed on the processor and by one thread, so that other load matters less; the volume by the clock.
"""

import gc
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil
import yaml

from benchmarks.costs import networks, volume
from benchmarks.costs.model import MB, Constants
from benchmarks.many_images import write_digits
from benchmarks.training import volumes as volumes_in
from contract.paths import ROOT
from pipeline.settings import Params, load_params
from steps.common.models import auto_index, faiss_index
from steps.preprocess.copies import near_copies
from steps.preprocess.preprocess import preprocess
from steps.preprocess.render import SIDE
from steps.preprocess.sources.scan import scan
from steps.validate.validate import validate

IMAGES = 10_000  # files of 28 pixels
PHOTOS = 128  # files of 224
NEAR = (25_000, 75_000)  # images among which near copies are looked for
VOLUME_BYTES = 256 << 20
_FEWER = 5  # times fewer, where the difference of two sizes is measured
_QUERIES = 2_000
_SETTLED_SECONDS = 4  # a file that was written just before it was looked at is not trusted
_CONSTRUCTION = 200  # HNSW's efConstruction, as `index.factory: auto` has it
_NETWORK_MB_S = 1250.0  # 10 Gbit/s: assumed, since one machine has no other
_PEAK = """
import re, resource, sys
from pathlib import Path
exec(sys.argv[1])
status = Path("/proc/self/status")  # Linux counts the process that started this one in ru_maxrss
peak = re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text()) if status.exists() else None
print(1024 * int(peak[1]) if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
_NAMES = "from steps.preprocess.sources.folder import Folder; Folder().read()"
_PLAN = "from steps.preprocess.preprocess import preprocess; preprocess({data})"
_SPLIT = "from steps.common.images.dataset import read_split; read_split({id!r})"


def measure(
    folder: Path | None = None,
    images: int = IMAGES,
    photos: int = PHOTOS,
    near: tuple[int, int] = NEAR,
    volume_bytes: int = VOLUME_BYTES,
) -> Constants:
    """Measure on this machine, in some minutes in which nothing else should run.

    Args:
        folder: A folder on the volume that is measured, such as a mount that all nodes see; by default a temporary one.
        images: How many files of 28 pixels are made.
        photos: How many files of 224 pixels.
        near: Among how many images near copies are looked for.
        volume_bytes: How much is written and read.

    Returns:
        The constants.
    """
    params = load_params(ROOT / "params.yaml")
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="costs-", dir=folder) as name, redirect_stdout(io.StringIO()):
        root = Path(name)
        sizes = (images, images // _FEWER)
        for count in sizes:
            write_digits(root / str(count) / "data/images/train", 0, count)
        networks.write_photos(root / "photos/data/images/train", photos, 224)
        time.sleep(_SETTLED_SECONDS)
        kinds = {28: _volume(root, 28, 1, volume_bytes), 224: _volume(root, 224, 3, volume_bytes)}
        for side, channels, volumes in ((28, 1, root / str(images)), (224, 3, root / "photos")):
            own = {"channels": channels, **networks.decoding(volumes / "data/images", side, channels)}
            with volumes_in(str(volumes)):
                ids = preprocess(_data(params, side, channels))
                kinds[side] |= own | networks.learning(params, ids, root / f"network-{side}")
        of_volume = {key: kinds[224].pop(key) for key in ("write_mb_s", "read_mb_s")}
        kinds[28] = {key: value for key, value in kinds[28].items() if key not in of_volume}
        found = {
            "cores": networks.cores(),
            "memory_gib": psutil.virtual_memory().total / 2**30,
            **of_volume,
            "hash_mb_s": volume_bytes / MB / _seconds(lambda: sha256(bytes(volume_bytes))),
            "near_copies": [[count, _near_copies(count)] for count in near],
            **_planning(root, params, sizes),
            **_index(params, images),
            "test_fraction": params.data.test_fraction,
            "validation_fraction": params.data.validation_fraction,
            "embedding_size": params.train.embedding_size,
            "in_memory_mb": params.train.in_memory_mb,
            "network_mb_s": _NETWORK_MB_S,
            "images": kinds,
        }
        return Constants.model_validate(_short(found))


def show(folder: Path | None = None) -> Iterator[str]:
    """Measure, and give the block of YAML that docs/scale.md has.

    Args:
        folder: As for `measure`.

    Yields:
        Lines of Markdown.
    """
    values = measure(folder).model_dump(mode="json")
    values["images"] = {int(side): kind for side, kind in values["images"].items()}
    yield "```yaml"
    yield from yaml.safe_dump(values, sort_keys=False, default_flow_style=None).splitlines()
    yield "```"


def _data(params: Params, side: int, channels: int, **change: Any) -> Any:
    update = {"source": "folder", "image_size": side, "channels": channels, **change}
    return params.data.model_copy(update=update)


def _volume(root: Path, side: int, channels: int, size: int) -> dict[str, Any]:
    folder = root / "pixels" / f"{side}x{side}x{channels}-costs"
    keys, written = volume.appended(folder, side, channels, size)
    by_rows = volume.read_by_rows(folder, side, channels, keys)
    return {"write_mb_s": written, "read_mb_s": volume.read_through(folder), "read_images_s": by_rows}


def _planning(root: Path, params: Params, sizes: tuple[int, int]) -> dict[str, float]:
    """What listing, planning and validating cost, of digits that are decoded: images a second, and bytes of each."""
    many, few = (root / str(count) for count in sizes)
    with volumes_in(str(few)):
        preprocess(_data(params, 28, 1))
    plain, other = ({"near_copy": 0.0, "seed": seed} for seed in (1, 2))  # each is planned anew
    with volumes_in(str(many)):
        before = _seconds(lambda: preprocess(_data(params, 28, 1, **plain)))
        ids = preprocess(_data(params, 28, 1, **plain))
        checked = _seconds(lambda: _validate(params, ids))
    listed = _seconds(lambda: scan(many / "data/images", print))
    splits = [many / "data/dataset" / id for id in {*ids.values()}]
    plan = _PLAN.format(data=_data(params, 28, 1, **other).model_dump())
    with volumes_in(str(few)):
        ids_of_few = preprocess(_data(params, 28, 1, **plain))
    apart = sizes[0] - sizes[1]
    in_train = (1 - params.data.test_fraction - params.data.validation_fraction) * apart
    split = [_SPLIT.format(id=one["train"]) for one in (ids, ids_of_few)]
    return {
        "list_files_s": sizes[0] / listed,
        "plan_images_s": sizes[0] / max(before - listed, 1e-6),
        "validate_images_s": sizes[0] / checked,
        "split_bytes": _size(*(path for folder in splits for path in folder.iterdir())) / sizes[0],
        "cache_bytes": _size(*(many / "data/cache").glob("*.sqlite")) / sizes[0],
        "name_memory": max(0, _peak(many, _NAMES) - _peak(few, _NAMES)) / apart,
        "plan_memory": max(0, _peak(many, plan) - _peak(few, plan)) / apart,
        "split_memory": max(0, _peak(many, split[0]) - _peak(few, split[1])) / in_train,
    }


def _validate(params: Params, ids: dict[str, str]) -> None:
    rules = params.validate_.model_copy(update={"min_images_per_class": 1})
    size = params.train.embedding_size
    names: list[str] = []
    wanted = _data(params, 28, 1)
    validate(ids, wanted, rules, source="folder", factory="Flat", embedding_size=size, allow_lost_classes=names)


def _index(params: Params, count: int) -> dict[str, float]:
    """A graph of `index.factory: auto`, which one thread builds; and searching it."""
    vectors = np.random.default_rng(0).standard_normal((count, params.train.embedding_size), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    began = time.process_time()
    index = faiss_index.build(vectors, auto_index.GRAPH, _CONSTRUCTION)
    added = time.process_time() - began
    queries = vectors[:_QUERIES]
    searched = _seconds(lambda: index.search(queries, params.deploy.neighbours))
    size = len(faiss.serialize_index(index))
    return {
        "index_vectors": count,
        "index_vectors_s": count / added,
        "search_images_s": len(queries) / searched,
        "vector_bytes": size / count,
    }


def _near_copies(count: int) -> float:
    """Seconds of looking for near copies among thumbnails in a thousand crowds."""
    draw = np.random.default_rng(0)
    crowds = draw.integers(0, 256, (1000, SIDE * SIDE), np.int16)
    thumbnails = crowds[draw.integers(0, len(crowds), count)] + draw.integers(-60, 60, (count, SIDE * SIDE))
    return _seconds(lambda: near_copies(thumbnails.clip(0, 255).astype(np.uint8), 2.0))


def _peak(volumes: Path, code: str) -> int:
    """The peak of resident memory, in bytes, of a process that runs this code."""
    environment = {**os.environ, "VOLUMES": str(volumes), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _PEAK, code]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def _size(*files: Path) -> int:
    return sum(path.stat().st_size for path in files)


def _seconds(work: Callable[[], object]) -> float:
    """Of the processor; Python looks for no garbage among what was there before, such as other benchmarks' objects."""
    gc.collect()
    gc.freeze()
    began = time.process_time()
    work()
    seconds = time.process_time() - began
    gc.unfreeze()
    return seconds


def _short(value: Any) -> Any:
    """With three digits, which is more than such figures are good for."""
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value
