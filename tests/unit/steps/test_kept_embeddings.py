"""Embeddings are kept by network and image: only new images are embedded, and what is kept changes no result."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contract.paths import ROOT
from steps.common import store
from steps.common.images.dataset import read_split
from steps.common.models import embedding, kept
from steps.common.models.embedding import Embedded, embed_images, embed_kept, load_network
from steps.common.models.network import Network
from steps.common.volumes import model_volume
from steps.embed.embed import embed
from tests.support import scene
from tests.support.examples import PARAMS
from tests.support.pixels import Pixels

_LEAF_OF_A_TABLE = 0x0D  # the first byte of such a page in SQLite's file
_EMBED = (
    "import sys\nfrom steps.common.models import embedding\nfrom steps.embed.embed import embed\n"
    "from tests.support.pixels import Pixels\nembedding.Network = Pixels\n"
    "print(embed(sys.argv[1], sys.argv[2], {'batch_size': 500}))"
)


class OfItsBatch(Pixels):
    """A network whose answer to an image depends on the others that it gets at once."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return super().features(images) + images.float().mean() * self.scale


class Large:
    """Seventy images of 224 x 224 pixels, which remember how many were read at a time."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 70

    def __getitem__(self, rows: slice) -> Any:
        count = len(range(70)[rows])
        self.read.append(count)
        return np.zeros((count, 224, 224, 3), np.uint8)


def test_few_large_images_are_read_and_embedded_at_once() -> None:
    network, images = Network(3, [4], 8).eval(), Large()
    taken: list[int] = []
    network.body.register_forward_pre_hook(lambda _, given: taken.append(len(given[0])))
    assert len(embed_images(network, images, 500).embeddings) == len(images)
    assert sum(images.read[1:]) == 70
    assert max(images.read) * 224 * 224 * 3 <= 16 << 20
    assert max(taken) * 224 * 224 <= 1 << 20


@pytest.fixture(autouse=True)
def _network_of_pixels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "model" not in request.fixturenames:
        monkeypatch.setattr(embedding, "Network", Pixels)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images in each call of the network's."""
    counts: list[int] = []

    def counted(network: Any, images: Any, batch_size: int) -> Any:
        counts.append(len(images))
        return embed_images(network, images, batch_size)

    monkeypatch.setattr(embedding, "embed_images", counted)
    return counts


def network_of(scale: float = 1.0, **recipe: Any) -> str:
    """A network without training: its id follows from the recipe, its contents from the scale."""

    def build(folder: Path) -> dict[str, Any]:
        (folder / "network.json").write_text('{"pixels": 784}')
        scene.save_file({"scale": np.full(28 * 28, scale, np.float32)}, folder / "weights.safetensors")
        return {}

    return store.produce(
        model_volume(), "network", "train", parameters=recipe or {"scale": scale}, inputs={}, build=build
    ).id


def bytes_of(embeddings: str) -> bytes:
    folder = model_volume() / "embeddings" / embeddings
    return (folder / "embeddings.npy").read_bytes() + (folder / "features.npy").read_bytes()


def as_bytes(embedded: Embedded, rows: Any = slice(None)) -> bytes:
    return embedded.embeddings[rows].tobytes() + embedded.features[rows].tobytes()


def kept_file() -> Path:
    [path] = (model_volume() / "vectors").glob("*.sqlite")
    return path


def digits(count: int, labels: str = "0123456789") -> str:
    return scene.split(*scene.digits(0, count, labels), size=28)


def anew(gallery: str, network: str) -> bytes:
    """The bytes of the embeddings where nothing is kept."""
    for kind in ("vectors", "embeddings"):
        shutil.rmtree(model_volume() / kind)
    return bytes_of(embed(gallery, network, PARAMS["embed"]))


def test_a_gallery_that_grows_embeds_what_is_new(volumes: Path, embedded: list[int]) -> None:
    network = network_of()
    embed(digits(20), network, PARAMS["embed"])
    assert sum(embedded) == 200
    embedded.clear()
    grown = digits(21)
    made = embed(grown, network, PARAMS["embed"])
    assert embedded == [32, 10], "some that are known, to see that they come out the same, and the new ones"
    assert bytes_of(made) == anew(grown, network)


@pytest.mark.slow
def test_bits_depend_on_neither_order_nor_batches(model: dict[str, Any]) -> None:
    images = read_split(model["test"]).images[:300]
    network = load_network(model_volume() / "network" / model["network"])
    wanted = embed_images(network, images, 500)
    order = np.random.default_rng(0).permutation(300)
    for batch_size in (1, 7, 64, 100):
        found = embed_images(network, images[order], batch_size)
        assert as_bytes(found) == as_bytes(wanted, order)
    assert as_bytes(embed_images(network, images[5:6], 500)) == as_bytes(wanted, slice(5, 6))


def test_equal_contents_share_and_other_contents_under_one_id_do_not(volumes: Path, embedded: list[int]) -> None:
    gallery = digits(20)
    first = embed(gallery, network_of(recipe=1), PARAMS["embed"])
    embedded.clear()
    same = embed(gallery, network_of(recipe=2), PARAMS["embed"])
    assert embedded == [32]
    assert (same != first, bytes_of(same) == bytes_of(first)) == (True, True)
    shutil.rmtree(model_volume() / "network")
    embedded.clear()
    other = embed(gallery, network_of(-1.0, recipe=1), PARAMS["embed"])
    assert embedded == [200], "made anew on another processor, say"
    assert other != first
    assert bytes_of(other) != bytes_of(first)


@pytest.mark.parametrize("damage", ["row", "length", "features", "file", "cut", "none of ours"])
def test_damage_is_found(volumes: Path, damage: str) -> None:
    network, gallery = network_of(), digits(20)
    wanted = bytes_of(embed(gallery, network, PARAMS["embed"]))
    path = kept_file()
    with sqlite3.connect(path) as file:
        if damage == "row":
            file.execute("UPDATE vectors SET embedding = zeroblob(length(embedding)) WHERE rowid % 3 = 0")
        if damage == "length":
            file.execute("UPDATE vectors SET embedding = substr(embedding, 5) WHERE rowid % 3 = 0")
        if damage == "features":
            file.execute("UPDATE vectors SET features = zeroblob(length(features)) WHERE rowid = 4")
        if damage == "none of ours":
            file.execute("DROP TABLE vectors")
            file.execute("CREATE TABLE vectors (other TEXT)")
    file.close()
    if damage == "file":
        path.write_bytes(b"no database" * 1000)
    if damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    shutil.rmtree(model_volume() / "embeddings")
    assert bytes_of(embed(gallery, network, PARAMS["embed"])) == wanted


def test_what_is_kept_is_read_for_the_images_that_are_asked_for_alone(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"{row:032x}" for row in range(2000)]
    with kept.opened("some", keys) as vectors:
        vectors.add({row: (bytes([row % 256]), b"features") for row in range(2000)})
    read: list[str] = []
    checksum = kept._checksum

    def watched(key: str, embedding: bytes, features: bytes) -> int:
        read.append(key)
        return checksum(key, embedding, features)

    monkeypatch.setattr(kept, "_checksum", watched)
    with kept.opened("some", [*keys, "another"]) as vectors:
        assert (read, vectors.known.sum()) == ([], 2000)
        assert vectors.take([1999, 2000, 7]) == {1999: (b"\xcf", b"features"), 7: (b"\x07", b"features")}
    assert sorted(read) == [keys[7], keys[1999]]


def test_a_page_that_is_damaged_is_found_when_it_is_read_and_the_file_begins_anew(
    volumes: Path, embedded: list[int]
) -> None:
    network, gallery = network_of(), digits(20)
    wanted = bytes_of(embed(gallery, network, PARAMS["embed"]))
    path = kept_file()
    with closing(sqlite3.connect(path)) as file:
        [(size,)] = file.execute("PRAGMA page_size")
    pages = path.read_bytes()
    leaves = [start for start in range(size, len(pages), size) if pages[start] == _LEAF_OF_A_TABLE]
    with path.open("r+b") as damaged:
        damaged.seek(leaves[len(leaves) // 2])
        damaged.write(bytes(size))
    for known in (False, True):
        shutil.rmtree(model_volume() / "embeddings")
        embedded.clear()
        assert bytes_of(embed(gallery, network, PARAMS["embed"])) == wanted
        assert (sum(embedded) < 200) == known


@pytest.mark.parametrize("count", [1, 20])
def test_a_network_whose_answer_depends_on_the_batch_uses_nothing_that_is_kept(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(embedding, "Network", OfItsBatch)
    network = network_of()
    embed(digits(count), network, PARAMS["embed"])
    grown = digits(count + 1)
    assert bytes_of(embed(grown, network, PARAMS["embed"])) == anew(grown, network)


def test_a_volume_that_takes_no_more_keeps_nothing_and_says_so(
    volumes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, gallery = network_of(), digits(20)
    wanted = bytes_of(embed(gallery, network, PARAMS["embed"]))
    for kind in ("vectors", "embeddings"):
        shutil.rmtree(model_volume() / kind)
    connect = sqlite3.connect

    def full(*words: Any, **more: Any) -> sqlite3.Connection:
        file = connect(*words, **more)
        file.execute("PRAGMA max_page_count = 3")
        return file

    monkeypatch.setattr(sqlite3, "connect", full)
    assert bytes_of(embed(gallery, network, PARAMS["embed"])) == wanted
    assert "embeddings are not kept for later runs (database or disk is full)" in capsys.readouterr().out
    for kind in ("vectors", "embeddings"):
        shutil.rmtree(model_volume() / kind)
    (model_volume() / "vectors").write_text("a file")
    assert bytes_of(embed(gallery, network, PARAMS["embed"])) == wanted
    assert "embeddings are not kept" in capsys.readouterr().out


def test_images_of_another_size_are_not_taken_for_one_another(volumes: Path) -> None:
    network = model_volume() / "network" / network_of()
    one, other = scene.digits(0, 3)[0][..., None], scene.digits(3, 3)[0][:, ::-1, :, None]
    keys = [str(row) for row in range(len(one))]
    list(embed_kept(network, one.reshape(30, 14, 56, 1), keys, 500))
    wanted = embed_images(load_network(network), other, 500)
    [found] = embed_kept(network, other, keys, 500)
    assert as_bytes(found) == as_bytes(wanted)


@pytest.mark.parametrize("keys", [0, 30])
def test_images_come_some_at_a_time_in_their_order(
    volumes: Path, embedded: list[int], monkeypatch: pytest.MonkeyPatch, keys: int
) -> None:
    monkeypatch.setattr(embedding, "_KEPT_AT_ONCE", 8)
    network = model_volume() / "network" / network_of()
    images = scene.digits(0, 3)[0][..., None]
    named = [str(row) for row in range(keys)]
    list(embed_kept(network, images[::2], named[::2], 500))
    embedded.clear()
    parts = list(embed_kept(network, images, named, 500))
    assert [len(part.embeddings) for part in parts] == [8, 8, 8, 6]
    assert embedded == ([8, 4, 4, 4, 3] if keys else [8, 8, 8, 6])
    wanted = embed_images(load_network(network), images, 500)
    assert b"".join(map(as_bytes, parts)) == b"".join(
        as_bytes(wanted, slice(start, start + 8)) for start in range(0, 30, 8)
    )


@pytest.mark.slow
def test_a_killed_run_keeps_what_it_embedded(volumes: Path, embedded: list[int]) -> None:
    network, gallery = network_of(), digits(20)
    code = (
        "import os, signal\nfrom steps.common.models import embedding, kept\nembedding._KEPT_AT_ONCE = 50\n"
        "add, write, turns = kept.Vectors.add, kept._write, []\n"
        "def killed(file, lines):\n"
        "    turns.append(1)\n"
        "    write(file, (line if len(turns) < 3 or n < 20 else os.kill(os.getpid(), signal.SIGKILL)\n"
        "                 for n, line in enumerate(lines)))\n"
        "kept._write = killed\n"
    )
    done = subprocess.run([sys.executable, "-c", code + _EMBED, gallery, network], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    wanted = embed(gallery, network, PARAMS["embed"])
    assert embedded == [32, 100]
    assert bytes_of(wanted) == anew(gallery, network)


@pytest.mark.slow
def test_two_runs_at_once_keep_both_and_agree(volumes: Path, embedded: list[int]) -> None:
    network = network_of()
    galleries = [digits(20), digits(30)]
    processes = [
        subprocess.Popen([sys.executable, "-c", _EMBED, gallery, network], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for gallery in galleries
    ]
    made = [process.communicate()[0].splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    found = [bytes_of(id) for id in made]
    shutil.rmtree(model_volume() / "embeddings")
    assert [bytes_of(embed(gallery, network, PARAMS["embed"])) for gallery in galleries] == found
    assert embedded == [32, 32]
    assert json.loads((model_volume() / "embeddings" / made[0] / "labels.json").read_text())["gallery"]
