"""A source that several pods decode: one data set whatever their number, also if they are killed or run at once."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contract.events import Finished, Warned, joined, parse
from pipeline import components
from pipeline.pipeline import arguments
from pipeline.settings import load_params, load_project
from steps.common.errors import StepError
from steps.common.images.dataset import read_split
from steps.common.images.stored import shards_of
from steps.common.settled import remember
from steps.preprocess import collect, content, shard, worker
from steps.preprocess.preprocess import prepare, preprocess
from steps.preprocess.shard import decode, part_of, scan
from steps.preprocess.sources.source import Files, Part
from tests.support.examples import PARAMS, write_images
from tests.support.killing import killed_after
from tests.support.pipeline_run import tree
from tests.support.settings import PARAMS_FILE, PROJECT_FILE

FOLDER = {**PARAMS["data"], "source": "folder"}
TRAINING = PARAMS["train"]


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Volumes with the same images each time: 45 digits, two of them twice, and a file that is no image."""
    monkeypatch.setattr("steps.preprocess.sources.scan.RACY_SECONDS", -1)

    def made(name: str) -> Path:
        volumes = tmp_path / name
        monkeypatch.setenv("VOLUMES", str(volumes))
        train = volumes / "data/images/train"
        write_images(train, {"a": "0", "b": "1", "c": "2"}, count=15)
        for number, path in enumerate(sorted((train / "a").iterdir())[:2]):
            (train / f"a/copy{number}.png").write_bytes(path.read_bytes())
        (train / "b/notes.txt").write_text("no image")
        return volumes

    return made


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that are decoded."""
    seen: list[bytes] = []
    of_file = worker.of_file

    def counted(data: bytes, **how: Any) -> Any:
        seen.append(data)
        return of_file(data, **how)

    monkeypatch.setattr(worker, "of_file", counted)
    return seen


def data_set(volumes: Path) -> dict[str, bytes]:
    """Every file of the splits but their manifests, which say when they were made."""
    return {name: data for name, data in tree(volumes / "data/dataset").items() if not name.endswith("manifest.json")}


def pixels(ids: dict[str, str]) -> dict[str, bytes]:
    return {split: read_split(id).images[:].tobytes() for split, id in ids.items()}


def test_one_three_and_eight_shards_give_one_data_set(
    sources: Callable[[str], Path], decoded: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    volumes = sources("without")
    ids = preprocess(FOLDER)
    wanted, images = data_set(volumes), pixels(ids)
    for count in (1, 3, 8):
        volumes = sources(f"{count} shards")
        assert sum(decode(FOLDER, f"{number}/{count}") for number in range(1, count + 1)) == 47
        decoded.clear()
        capsys.readouterr()
        assert preprocess(FOLDER) == ids
        assert decoded == [b"no image"], "the last step decodes what no shard could, and counts it"
        assert capsys.readouterr().out.count("unreadable: train/b/notes.txt") == 1
        assert data_set(volumes) == wanted
        assert pixels(ids) == images
        assert not list(volumes.glob("data/pixels/*/.held"))


def test_a_shard_that_dies_is_done_again_alone(
    sources: Callable[[str], Path], decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources("whole")
    ids = preprocess(FOLDER)
    monkeypatch.setattr(content, "_AT_ONCE", 4)
    monkeypatch.setattr("steps.preprocess.reading._MOST", 4)
    sources("killed")
    done = decode(FOLDER, "1/2")
    killed = [killed_after(number, lambda: decode(FOLDER, "2/2")) for number in (3, 8, 11)]
    assert killed == [True, True, True]
    decoded.clear()
    again = decode(FOLDER, "2/2")
    assert 0 < again < 47 - done, "what was brought to disk before is not decoded again"
    decoded.clear()
    assert preprocess(FOLDER) == ids
    assert decoded == [b"no image"]


def test_shards_at_once_share_a_store(sources: Callable[[str], Path], decoded: list[bytes]) -> None:
    sources("alone")
    ids = preprocess(FOLDER)
    images = pixels(ids)
    volumes = sources("at once")
    context = multiprocessing.get_context("fork")
    # The second shard twice, as when a pod that was lost lives on.
    pods = [context.Process(target=decode, args=(FOLDER, f"{number}/3")) for number in (1, 2, 2, 3)]
    for pod in pods:
        pod.start()
    for pod in pods:
        pod.join()
    assert [pod.exitcode for pod in pods] == [0] * 4
    decoded.clear()
    assert preprocess(FOLDER) == ids
    assert decoded == [b"no image"]
    assert pixels(ids) == images
    [folder] = volumes.glob("data/pixels/*")
    store = shards_of(folder)
    assert len(store.files()) == 6, "each shard has files of its own"
    assert 45 <= len(store.table().facts) <= 47, "copies in two shards may be kept twice, and nothing else is"


def test_a_files_shard_follows_from_its_path_alone() -> None:
    names = [f"train/a/{number}.png" for number in range(300)]

    def shards(names: list[str], count: int) -> dict[str, int]:
        files = Files(Path("/nowhere"), b"".join(number.to_bytes(32, "big") for number in range(len(names))), 0, 0)
        part = Part(["a"] * len(names), names, lambda row: names[row].encode(), files)
        found: dict[str, int] = {}
        for number in range(1, count + 1):
            own = part_of(part, number, count)
            assert own.files
            for row, name in enumerate(own.names):
                assert name not in found
                assert own.get(row) == name.encode()
                assert int.from_bytes(own.files.stats[row * 32 : row * 32 + 32], "big") == names.index(name)
                found[name] = number
        return found

    whole = shards(names, 8)
    assert set(whole) == set(names)
    assert min(list(whole.values()).count(number) for number in range(1, 9)) > 20
    some = names[::-3]
    assert shards(some, 8) == {name: whole[name] for name in some}
    # As they were when the first shards were made: other ones would decode what was decoded.
    assert [whole[name] for name in names[:6]] == [6, 2, 2, 4, 6, 2]


def test_there_are_as_many_shards_as_pay(
    sources: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    volumes = sources("some")
    assert scan(FOLDER, TRAINING, 3) == ({}, ["1/1"])
    monkeypatch.setattr(shard, "_FEWEST", 20)
    assert scan(FOLDER, TRAINING, 3) == ({}, ["1/2", "2/2"])
    monkeypatch.setattr(shard, "_FEWEST", 2)
    assert scan(FOLDER, TRAINING, 3) == ({}, ["1/3", "2/3", "3/3"])
    decode(FOLDER, "1/1")
    assert scan(FOLDER, TRAINING, 3) == ({}, ["1/1"]), "its pixels are kept"
    (volumes / "data/images/train/b/notes.txt").unlink()
    ids, weights = prepare(FOLDER, TRAINING)
    assert scan(FOLDER, TRAINING, 3) == ({**ids, "weights": weights.id}, ["1/1"])
    capsys.readouterr()
    monkeypatch.setattr(collect.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    write_images(volumes / "data/images/train", {"d": "3"})
    with pytest.raises(StepError, match="12 images to decode need up to .* are free"):
        scan(FOLDER, TRAINING, 3)


@pytest.mark.usefixtures("few_digits")
def test_a_source_without_files_is_left_to_preprocess(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scan(PARAMS["data"], TRAINING, 3) == ({}, ["1/1"])
    said = [event for line in capsys.readouterr().out.splitlines() if isinstance(event := parse(line), Warned)]
    assert [event.message for event in said] == [
        "the source sample has no files on the volume, so preprocess decodes it alone"
    ]
    assert decode(PARAMS["data"], "1/1") == 0
    assert not (volumes / "data/pixels").exists()


@pytest.mark.usefixtures("few_digits")
def test_a_run_with_nothing_to_do_ends_after_scan(volumes: Path) -> None:
    given = arguments(load_project(PROJECT_FILE), load_params(PARAMS_FILE))
    del given["serving"]

    def settled(**change: Any) -> bool:
        answer: tuple[bool, list[str]] = components.scan(**{**given, "code": "code", "shards": 3, **change})
        return answer[0]

    assert not settled()
    work = components.preprocess(**given, code="code")[-2]
    assert not settled()
    remember(work, "REJECTED too bad", {})
    assert settled()
    assert settled(shards=8)
    assert not settled(code="other")
    for name, value in given.items():
        other: Any = {**value, "other": 1} if isinstance(value, dict) else f"{value}1"
        assert name == "data" or not settled(**{name: other}), name


def test_what_shards_made_is_told_as_one() -> None:
    first = joined(None, Finished("decode", "5 images in shard 1/2", shards=1, images=5))
    assert first.made == "5 images in shard 1/2"
    both = joined(first, Finished("decode", "0 images in shard 2/2", unchanged=True, shards=1))
    assert (both.made, both.unchanged) == ("5 images in 2 shards", False)
    again = joined(Finished("train", "3 epochs"), Finished("train", "5 epochs"))
    assert again.made == "5 epochs", "a step that was tried again"
