"""Collect and preprocess: splits drawn by content, images of any format, downloads that resume."""

import gzip
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contract.events import Progress, Waiting, Warned, parse
from contract.paths import ROOT
from steps.common.errors import StepError
from steps.common.images import shards
from steps.common.images.content_key import key_of_pixels, pixels_of_file
from steps.common.images.dataset import read_split
from steps.preprocess import collect, content
from steps.preprocess.preprocess import preprocess
from steps.preprocess.sources import download, mnist, scan
from steps.preprocess.sources.sample import SAMPLE
from tests.support.examples import PARAMS, write_images
from tests.support.in_thread import answering

DATA = PARAMS["data"]
FOLDER = {**DATA, "source": "folder"}
LETTERS = {"a": "0", "b": "1", "ç d": "2"}


def test_the_sample_is_split(volumes: Path) -> None:
    splits = {name: read_split(id) for name, id in preprocess(DATA).items()}
    counts = {name: len(split) for name, split in splits.items()}
    assert counts["gallery"] == counts["train"]
    assert counts["train"] + counts["validation"] + counts["test"] == 5000
    assert counts["test"] == pytest.approx(1000, rel=0.1)
    assert counts["validation"] == pytest.approx(400, rel=0.2)
    assert splits["train"].images.shape[1:] == (28, 28, 1)
    assert splits["train"].images.dtype == np.uint8
    with np.load(SAMPLE) as sample:
        row = int(splits["test"].names[7].removeprefix("sample#"))
        assert (splits["test"].images[7][:, :, 0] == sample["images"][row]).all()
        assert splits["test"].classes[splits["test"].labels[7]] == str(sample["labels"][row])
    # The digits that the README predicts are none that the network learned.
    keys = {path.stem: key_of_pixels(pixels_of_file(path.read_bytes(), 784)) for path in ROOT.glob("samples/*.png")}
    labels = dict(
        zip(splits["test"].rows.keys, map(splits["test"].classes.__getitem__, splits["test"].labels), strict=True)
    )
    assert {label: labels.get(key) for label, key in keys.items()} == {label: label for label in "03579"}


def test_every_image_is_in_one_split(volumes: Path) -> None:
    ids = preprocess(DATA)
    splits = [read_split(ids[split]) for split in ("train", "validation", "test")]
    names = [name for split in splits for name in split.names]
    assert sorted(names) == sorted(f"sample#{row}" for row in range(5000))
    keys = [set(split.rows.keys) for split in splits]
    assert sum(map(len, keys)) == len(set.union(*keys))
    assert all(split.rows.keys == sorted(split.rows.keys) for split in splits)


@pytest.mark.usefixtures("few_digits")
def test_the_seed_draws_the_splits(volumes: Path) -> None:
    assert preprocess(DATA) == preprocess(DATA)
    assert preprocess({**DATA, "seed": 1})["test"] != preprocess(DATA)["test"]


@pytest.mark.usefixtures("few_digits")
def test_numbers_that_kfp_made_floats_give_the_same_ids(volumes: Path) -> None:
    floats = {key: float(value) if isinstance(value, int) else value for key, value in DATA.items()}
    assert preprocess(floats) == preprocess(DATA)


def test_a_folder_without_gallery_and_test_is_split(volumes: Path) -> None:
    write_images(volumes / "data/images/train", LETTERS, count=20)
    ids = preprocess(FOLDER)
    assert ids["gallery"] == ids["train"]
    splits = {name: read_split(ids[name]) for name in ("train", "validation", "test")}
    assert all(split.classes == sorted(LETTERS) for split in splits.values())
    assert sum(map(len, splits.values())) == 60


def test_a_folder_with_gallery_and_test_uses_them(volumes: Path) -> None:
    for part, first in (("train", 0), ("gallery", 20), ("test", 40)):
        write_images(volumes / "data/images" / part, LETTERS, first)
    ids = preprocess(FOLDER)
    assert len({ids[name] for name in ids}) == 4
    assert {len(read_split(ids[name])) for name in ("gallery", "test")} == {36}
    assert read_split(ids["gallery"]).names[0].startswith("gallery/")


def test_a_new_gallery_class_changes_the_gallery_alone(volumes: Path) -> None:
    for part, first in (("train", 0), ("gallery", 20), ("test", 40)):
        write_images(volumes / "data/images" / part, LETTERS, first)
    before = preprocess(FOLDER)
    write_images(volumes / "data/images/gallery", {"new": "9"})
    after = preprocess(FOLDER)
    assert {name for name in before if before[name] != after[name]} == {"gallery"}
    assert "new" in read_split(after["gallery"]).classes


@pytest.mark.usefixtures("few_digits")
def test_images_of_any_format_are_scaled(volumes: Path) -> None:
    folder = volumes / "data/images/train"
    write_images(folder, {"a": "0", "b": "1"})
    Image.new("RGB", (50, 31), "red").save(folder / "a/colour.jpg")
    Image.new("RGBA", (5, 7), "blue").save(folder / "b/alpha.png")
    split = read_split(preprocess({**FOLDER, "image_size": 20, "channels": 3})["train"])
    assert split.images.shape[1:] == (20, 20, 3)
    sample = read_split(preprocess({**DATA, "image_size": 20, "channels": 3})["train"])
    assert sample.images.shape[1:] == (20, 20, 3)


def test_unreadable_images_are_named_and_counted(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = volumes / "data/images/train"
    write_images(folder, LETTERS)
    (folder / "a/notes.txt").write_text("no image")
    ids = preprocess(FOLDER)
    assert "unreadable: train/a/notes.txt: not-an-image" in capsys.readouterr().out
    assert sum(len(read_split(ids[name])) for name in ("train", "validation", "test")) == 36


def test_hidden_files_are_ignored_and_misplaced_ones_are_named(
    volumes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = volumes / "data/images/train"
    write_images(folder, LETTERS)
    write_images(folder, {".checkpoints": "5", "a/deeper": "6"}, count=2)
    assert read_split(preprocess(FOLDER)["train"]).classes == sorted(LETTERS)
    assert "1 (a/deeper) in " in (said := capsys.readouterr().out)
    assert "are not <label>/<image>, so they are left out" in said


@pytest.mark.usefixtures("few_digits")
def test_a_larger_limit_of_pixels_draws_no_split_anew(volumes: Path) -> None:
    assert preprocess({**DATA, "max_pixels": 30_000_000}) == preprocess(DATA)


def test_renamed_and_saved_again_an_image_stays_where_it_was(volumes: Path) -> None:
    folder = volumes / "data/images/train"
    write_images(folder, LETTERS, count=20)
    before = preprocess(FOLDER)
    for path in sorted(folder.glob("*/*.png"))[::3]:
        Image.open(path).save(path.with_name(f"again {path.stem}.bmp"))
        path.unlink()
    assert preprocess(FOLDER) == before


def test_what_grows_keeps_its_splits(volumes: Path) -> None:
    folder = volumes / "data/images/train"
    write_images(folder, LETTERS, count=20)
    before = {name: set(read_split(id).rows.keys) for name, id in preprocess(FOLDER).items()}
    write_images(folder, {**LETTERS, "new": "5"}, first=20, count=30)
    after = {name: set(read_split(id).rows.keys) for name, id in preprocess(FOLDER).items()}
    assert all(before[name] <= after[name] for name in before)
    assert "new" in read_split(preprocess(FOLDER)["test"]).classes


def test_near_copies_are_on_one_side(volumes: Path) -> None:
    folder, rng = volumes / "data/images/train", np.random.default_rng(0)
    write_images(folder, LETTERS, count=20)
    for path in sorted(folder.glob("*/*.png")):
        pixels = np.asarray(Image.open(path)).astype(int)
        for number in range(3):
            shaken = np.clip(pixels + rng.integers(-3, 4, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(shaken).save(path.with_name(f"{path.stem}-{number}.jpg"), quality=95)
    side = {}
    for name, id in preprocess(FOLDER).items():
        for file in read_split(id).names if name != "gallery" else ():
            side.setdefault(file.rpartition("/")[2].split(".")[0].split("-")[0], set()).add(name)
    assert len(side) == 60
    assert all(len(splits) == 1 for splits in side.values())


@pytest.mark.usefixtures("few_digits")
def test_other_settings_of_the_draw_draw_anew_and_say_so(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preprocess(DATA)
    assert "drawn anew" not in capsys.readouterr().out
    preprocess({**DATA, "seed": 1})
    assert "drawn anew" in capsys.readouterr().out
    preprocess(DATA)
    assert "drawn anew" not in capsys.readouterr().out


@pytest.mark.usefixtures("few_digits")
def test_a_lost_ledger_draws_the_same(volumes: Path) -> None:
    before = preprocess(DATA)
    for path in (volumes / "data/splits").glob("*"):
        path.unlink()
    assert preprocess(DATA) == before


def test_too_many_unreadable_images_fail_the_run(volumes: Path) -> None:
    folder = volumes / "data/images/train"
    write_images(folder, LETTERS)
    for i in range(3):
        (folder / f"b/broken{i}.png").write_bytes(b"\x89PNG broken %d" % i)
    with pytest.raises(StepError, match=r"data\.max_unreadable allows 0: mend or remove train/b/broken"):
        preprocess({**FOLDER, "max_unreadable": 0})
    preprocess({**FOLDER, "max_unreadable": 3})
    with pytest.raises(StepError, match="3 images cannot be read, and data.max_unreadable allows 2"):
        preprocess({**FOLDER, "max_unreadable": 2})


def test_the_error_for_a_missing_folder_says_where_images_go(volumes: Path) -> None:
    with pytest.raises(StepError, match=r"images/train is missing: .*put images into train/<label>/"):
        preprocess(FOLDER)
    (volumes / "data/images/train").mkdir(parents=True)
    with pytest.raises(StepError, match="holds no <label>/<image>: put one folder per class into it"):
        preprocess(FOLDER)


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves files and ranges of them, and closes the first connection half-way."""

    files: dict[str, bytes]
    requests: list[str | None]

    def do_GET(self) -> None:
        data = self.files[self.path.rsplit("/", 1)[-1]]
        asked = self.headers.get("Range")
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.requests.append(asked)
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        breaks = len(self.requests) == 1
        self.wfile.write(data[first : len(data) // 2 if breaks else None])

    def log_message(self, *_: object) -> None: ...


@cache
def small_mnist() -> dict[str, bytes]:
    """The four files, by their names: 2,500 images to train with and 100 to test."""
    files = {}
    with np.load(SAMPLE) as sample:
        for prefix, rows in (("train", slice(0, None, 2)), ("t10k", slice(1, None, 50))):
            for kind, array in (("images-idx3", sample["images"][rows]), ("labels-idx1", sample["labels"][rows])):
                header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
                files[f"{prefix}-{kind}-ubyte.gz"] = gzip.compress(header + array.tobytes(), compresslevel=1)
    return files


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A loopback mirror of a small MNIST; gives its URL."""
    Mirror.files, Mirror.requests = small_mnist(), []
    monkeypatch.setattr(mnist, "SHA256", {n: hashlib.sha256(d).hexdigest() for n, d in Mirror.files.items()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    with answering(server):
        yield f"http://127.0.0.1:{server.server_port}/mnist/"


def test_mnist_is_fetched_resumed_and_fetched_once(
    volumes: Path, mirror: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "PAUSES", ())
    data: dict[str, Any] = {**DATA, "source": "mnist", "mnist_url": mirror}
    with pytest.raises(StepError, match="run again to go on where it broke off"):
        preprocess(data)
    half = len(Mirror.files["train-images-idx3-ubyte.gz"]) // 2
    got = half - half % (1 << 16)
    ids = preprocess(data)
    assert Mirror.requests[1] == f"bytes={got}-"
    assert got > 0
    assert len(read_split(ids["test"])) == 100
    assert len(read_split(ids["train"])) + len(read_split(ids["validation"])) == 2500
    count = len(Mirror.requests)
    assert preprocess(data) == ids
    assert len(Mirror.requests) == count
    events = [parse(line) for line in capsys.readouterr().out.splitlines()]
    assert "fetch t10k-labels-idx1-ubyte.gz" in [one.doing for one in events if isinstance(one, Progress)]


def test_a_transfer_that_breaks_is_tried_again_by_the_step_itself(
    volumes: Path, mirror: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kubeflow Pipelines 2.17 does not try a failed step again."""
    monkeypatch.setattr(download, "PAUSES", (0.01,))
    preprocess({**DATA, "source": "mnist", "mnist_url": mirror})
    assert str(Mirror.requests[1]).startswith("bytes="), "and goes on where it broke off"
    waits = [one for line in capsys.readouterr().out.splitlines() if isinstance(one := parse(line), Waiting)]
    assert len(waits) == 1
    assert "could not be fetched" in waits[0].message


def test_a_file_that_is_not_there_is_not_asked_for_again(
    volumes: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSES", (60.0,))
    asked: list[str] = []

    def missing(self: Any) -> None:
        asked.append(self.path)
        self.send_error(404)

    monkeypatch.setattr(Mirror, "do_GET", missing)
    with pytest.raises(StepError, match="404"):
        preprocess({**DATA, "source": "mnist", "mnist_url": mirror})
    assert len(asked) == 1


def test_a_file_with_another_checksum_is_refused(volumes: Path, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Mirror.requests.append(None)  # let the first transfer through
    monkeypatch.setattr(mnist, "SHA256", dict.fromkeys(Mirror.files, "0" * 64))
    with pytest.raises(StepError, match="data.mnist_url"):
        preprocess({**DATA, "source": "mnist", "mnist_url": mirror})
    assert not (volumes / "data/downloads/train-images-idx3-ubyte.gz").exists()


def test_the_published_files_are_pinned() -> None:
    assert len(mnist.SHA256) == 4
    assert all(len(sha256) == 64 for sha256 in mnist.SHA256.values())


@pytest.mark.usefixtures("few_digits")
def test_a_run_on_volumes_of_an_earlier_version_says_that_it_makes_everything_anew(
    volumes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> list[str]:
        events = map(parse, capsys.readouterr().out.splitlines())
        return [event.message for event in events if isinstance(event, Warned)]

    preprocess(DATA)
    assert told() == []
    for path in (volumes / "data/dataset").glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        del manifest["format"]
        path.write_text(json.dumps(manifest))
        path.parent.rename(path.parent.with_name(path.parent.name[::-1]))
    preprocess(DATA)
    assert told() == ["the volumes hold results of an earlier version of this program: this run makes everything anew"]
    preprocess({**DATA, "image_size": 20})
    assert told() == []


def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files of this very second be trusted."""
    monkeypatch.setattr(scan, "RACY_SECONDS", -1)


def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Is told when images are looked at one by one."""
    seen: list[str] = []
    collect_images = collect.collect
    monkeypatch.setattr(collect, "collect", lambda *args: seen.append("looked") or collect_images(*args))
    return seen


def test_what_did_not_change_is_listed_and_not_looked_at(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settled(monkeypatch)
    seen = looks(monkeypatch)
    folder = volumes / "data/images/train"
    write_images(folder, LETTERS, count=20)
    (folder / "a/notes.txt").write_text("no image")
    first = preprocess(FOLDER)
    assert preprocess(FOLDER) == first
    assert capsys.readouterr().out.count("unreadable: train/a/notes.txt") == 2
    assert seen == ["looked"]
    write_images(folder, {"a": "0"}, first=20, count=1)
    assert preprocess(FOLDER) != first
    assert preprocess({**FOLDER, "seed": 7}) != first
    assert len(seen) == 3


@pytest.mark.parametrize("gone", ["splits/*.txt", "pixels/*/*.pixels", "pixels/*/*.rows", "dataset/*/labels.npy"])
def test_what_was_removed_is_made_again_though_no_image_changed(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    settled(monkeypatch)
    write_images(volumes / "data/images/train", LETTERS, count=20)
    first = preprocess(FOLDER)
    before = {name: read_split(id).images[:] for name, id in first.items()}
    for path in (volumes / "data").glob(gone):
        path.unlink()
    assert preprocess(FOLDER) == first
    assert list((volumes / "data").glob(gone))
    assert all((read_split(id).images[:] == before[name]).all() for name, id in first.items())


def test_a_changed_file_under_its_name_size_and_time_is_found(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(monkeypatch)
    folder = volumes / "data/images/train"
    write_images(folder, LETTERS, count=20)
    file = sorted(folder.glob("a/*.png"))[0]
    Image.fromarray(np.full((28, 28), 9, np.uint8)).save(file, compress_level=0)
    before = file.stat()
    first = preprocess(FOLDER)
    time.sleep(0.02)
    Image.fromarray(np.full((28, 28), 8, np.uint8)).save(file, compress_level=0)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert preprocess(FOLDER) != first


def test_ids_and_pixels_depend_on_no_order_cache_or_shards(
    volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same images, come in one go or one after the other, under other names, with and without what is kept."""
    rng = np.random.default_rng(0)
    write_images(tmp_path / "source", LETTERS, count=20)
    files = sorted((tmp_path / "source").glob("*/*.png"))
    found = []
    for trial in range(3):
        monkeypatch.setenv("VOLUMES", str(tmp_path / f"volumes {trial}"))
        data = tmp_path / f"volumes {trial}/data"
        monkeypatch.setattr(shards, "_SHARD_BYTES", 784 * (7 + 30 * trial))
        for number, row in enumerate(rng.permutation(len(files)) if trial else range(len(files))):
            target = data / "images/train" / files[row].parent.name / f"{number if trial else files[row].stem}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files[row].read_bytes())
            if trial == 2 and number == 40:
                preprocess({**FOLDER, "seed": 5})  # which keeps pixels, and another draw
        ids = preprocess(FOLDER)
        if trial == 1:
            shutil.rmtree(data / "cache")
            assert preprocess(FOLDER) == ids
        found.append((ids, {name: read_split(id).images[:].tobytes() for name, id in ids.items()}))
    assert found[0] == found[1] == found[2]


def test_splits_and_data_sets_share_their_pixels(volumes: Path) -> None:
    folder = volumes / "data/images/train"
    write_images(folder, LETTERS, count=20)
    preprocess(FOLDER)
    preprocess({**FOLDER, "seed": 3})
    write_images(folder, {"a": "0"}, first=20, count=1)
    preprocess(FOLDER)
    [pixels] = (volumes / "data/pixels").glob("*/*.pixels")
    assert pixels.stat().st_size == 61 * 784


def test_a_run_without_room_says_so_before_it_decodes(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(volumes / "data/images/train", LETTERS, count=20)
    usage = shutil.disk_usage(volumes)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    monkeypatch.setattr(content, "contents", lambda *_: pytest.fail("it decoded"))
    monkeypatch.setattr(collect, "contents", lambda *_: pytest.fail("it decoded"))
    with pytest.raises(StepError, match="60 images to decode need up to .* on the volume of .* are free"):
        preprocess(FOLDER)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from tests.support.examples import PARAMS
from steps.preprocess import collect, content
from steps.preprocess.preprocess import preprocess
content._AT_ONCE = 10
flush = content.Keeper.flush
def flush_and_die(keeper):
    flush(keeper)
    os.kill(os.getpid(), signal.SIGKILL)
content.Keeper.flush = flush_and_die
preprocess({**PARAMS["data"], "source": "folder"})
"""


def test_a_killed_run_goes_on_where_it_was(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(monkeypatch)
    write_images(volumes / "data/images/train", LETTERS, count=20)
    done = subprocess.run([sys.executable, "-c", KILLED, str(ROOT)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -9
    [pixels] = (volumes / "data/pixels").glob("*/*.pixels")
    assert pixels.stat().st_size == 60 * 784
    ids = preprocess(FOLDER)
    assert pixels.stat().st_size == 60 * 784
    assert sum(len(read_split(ids[name])) for name in ("train", "validation", "test")) == 60


ONE_OF_TWO = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.support.examples import PARAMS
from steps.preprocess.preprocess import preprocess
preprocess({**PARAMS["data"], "source": "folder"})
"""


def test_two_runs_at_once_make_the_same(volumes: Path) -> None:
    write_images(volumes / "data/images/train", LETTERS, count=20)
    command = [sys.executable, "-c", ONE_OF_TWO, str(ROOT)]  # no fork: threads of FAISS would not survive it
    runs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(60) for run in runs] == [0, 0]
    [pixels] = (volumes / "data/pixels").glob("*/*.pixels")
    assert pixels.stat().st_size == 60 * 784
    assert len(list((volumes / "data/dataset").glob("[!.]*"))) == 3
