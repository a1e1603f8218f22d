"""`make gc`: what nothing needs is shown, then deleted; what a version or a run of the last days needs is kept."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from contract.paths import ROOT
from contract.pointer import Record
from steps.common.errors import StepError
from steps.common.images.content_key import key_of_pixels
from steps.common.images.dataset import Rows, open_split, write_split
from steps.common.images.facts import packed
from steps.common.images.unused import remove_unused
from steps.common.models.kept import opened
from steps.common.store import produce
from steps.deploy.__main__ import main
from steps.deploy.gc import delete as deletion
from steps.deploy.gc.command import gc
from steps.deploy.gc.delete import delete
from steps.deploy.release.rollback import rollback
from steps.deploy.release.versions import versions
from steps.deploy.release.volume import write_record
from steps.preprocess.cache import Cache, File
from tests.support.small_run import CODE, Run, is_complete, pass_days, small_run
from tests.support.stored_images import store_images

BIG = ("train", "validation", "gallery", "test", "network", "embeddings", "index", "evaluation", "verdict", "archive")


def there(run: Run) -> set[str]:
    return {name for name, path in run.paths().items() if is_complete(path)}


def told(**options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gc(30, **{"yes": False, "as_json": True, **options}))
    return found


def test_what_is_served_is_kept_however_old_it_is(volumes: Path) -> None:
    run = small_run()
    pass_days(volumes, 1000)
    delete(1)
    assert there(run) == set(run.ids)
    assert small_run().anew == {"verdict"}, "the one beside itself as the champion, as in every second run"


def test_a_run_without_changes_stays_one_without_changes(volumes: Path) -> None:
    small_run()
    small_run()
    pass_days(volumes, 1000)
    delete(1)
    assert small_run().anew == set()


def test_what_only_a_run_of_long_ago_used_goes(volumes: Path) -> None:
    old = small_run(data="a", keep=1)
    new = small_run(data="b", keep=1)
    last = small_run(data="c", keep=1)
    pass_days(volumes, 31)
    made = delete(30)
    assert there(old) == set()
    assert there(new) >= set(BIG), "it is what make rollback goes back to"
    assert there(last) == set(last.ids)
    assert {item.kind for item in made.delete} >= {"dataset", "network", "archive", "backup", "verdict"}
    assert not (volumes / "deploy-model/backup" / f"digits_{old.version}.mar").exists()
    assert list(volumes.rglob("*gone*")) == []


def test_what_a_run_of_the_last_days_used_is_kept_with_what_it_was_made_of(volumes: Path) -> None:
    rejected = small_run(training="other")
    for data in "abcd":
        small_run(data=data)
    pass_days(volumes, 29)
    kept = small_run(training="other")
    assert kept.anew == {"verdict", "of champion"}
    for data in "efgh":
        small_run(data=data)
    pass_days(volumes, 29)
    delete(30)
    assert there(kept) >= {*BIG, "sound", "calibration", "of champion"}
    assert there(rejected) >= set(BIG) - {"verdict"}


def test_rollback_goes_to_every_version_in_the_model_store_and_to_the_one_before(volumes: Path) -> None:
    runs = [small_run(data=data, keep=2) for data in "abcd"]
    pass_days(volumes, 100)
    before = versions()
    delete(30)
    assert versions() == before
    assert rollback() == f"ROLLED BACK to {runs[2].version} (was {runs[3].version})"
    assert small_run(data="c").anew <= {"verdict", "sound", "calibration"}
    with pytest.raises(StepError, match="is lost"):
        rollback(runs[0].version)


def test_with_one_archive_in_the_model_store_rollback_still_works(volumes: Path) -> None:
    runs = [small_run(data=data, keep=1) for data in "ab"]
    pass_days(volumes, 100)
    delete(30)
    assert rollback() == f"ROLLED BACK to {runs[0].version} (was {runs[1].version})"


def test_a_version_that_served_in_the_last_days_keeps_its_archive(volumes: Path) -> None:
    first = small_run(data="a", keep=1)
    pass_days(volumes, 100)
    for data in "bcd":
        small_run(data=data, keep=1)
    delete(30)
    assert rollback(first.version).startswith(f"ROLLED BACK to {first.version}")


@pytest.mark.parametrize(("deployed_at", "stays"), [(None, True), ("2020-01-01T00:00:00+00:00", False)])
def test_an_archive_of_before_there_was_a_journal_goes_only_if_it_is_known_to_be_old(
    volumes: Path, deployed_at: str | None, stays: bool
) -> None:
    small_run()
    record = Record(name="digits", version="old", mar="digits_old.mar", network="n", index="i", deployed_at=deployed_at)
    write_record(record)
    mar = volumes / "deploy-model/backup" / record.mar
    mar.parent.mkdir()
    mar.write_bytes(b"archive")
    delete(30)
    assert mar.exists() == stays


def test_yes_is_a_one(volumes: Path) -> None:
    asked = [
        subprocess.run(["make", "--dry-run", "gc", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for words in ([], ["YES=0"], ["YES=1"])
    ]
    assert ["--yes" in each for each in asked] == [False, False, True]


def test_the_splits_that_an_archive_without_seen_names_are_kept(volumes: Path) -> None:
    run, other = small_run(data="a"), small_run(data="other", keep=5)
    small_run(data="a", keep=5)
    splits = [other.ids["train"], other.ids["gallery"]]
    mar = volumes / "deploy-model/model-store" / f"digits_{run.version}.mar"
    with zipfile.ZipFile(mar, "w") as archive:
        archive.writestr("provenance.json", json.dumps({"artefacts": dict.fromkeys(splits)}))
    (volumes / "deploy-model/model-store" / f"digits_{other.version}.mar").unlink()
    for data in "cde":
        small_run(data=data, keep=5)
    pass_days(volumes, 100)
    delete(30)
    assert {"train", "gallery"} <= there(other)
    assert "network" not in there(other)


def test_without_yes_nothing_changes_and_with_it_that_goes_which_was_shown(volumes: Path) -> None:
    for data in "abcde":
        small_run(data=data, keep=1)
    pass_days(volumes, 40)
    before = sorted(volumes.rglob("*"))
    shown = told()
    assert sorted(volumes.rglob("*")) == before
    used = sum(path.lstat().st_blocks * 512 for path in before)
    done = told(yes=True)
    assert {**shown, "deleted": True} == done
    freed = used - sum(path.lstat().st_blocks * 512 for path in volumes.rglob("*") if path.name != ".lock")
    assert freed == shown["bytes"] > 0
    assert not any(Path(item["path"]).exists() for item in done["delete"])
    assert all(Path(item["path"]).exists() for item in done["keep"])
    assert all(item["why"] for item in (*done["keep"], *done["delete"]))
    assert told()["delete"] == []


def test_the_table_has_a_row_for_each_kind_and_the_last_line_what_is_freed(volumes: Path) -> None:
    for data in "abcde":
        small_run(data=data, keep=1)
    pass_days(volumes, 40)
    text = gc(30, yes=False, as_json=False)
    rows = {line.split()[0]: line.split()[1] for line in text.split("not needed")[1].splitlines() if line}
    assert (rows["dataset"], rows["network"], rows["backup"]) == ("12", "3", "3")
    assert text.splitlines()[-1].startswith("make gc YES=1 deletes ")
    assert gc(30, yes=True, as_json=False).splitlines()[-1].startswith("deleted ")
    assert gc(30, yes=True, as_json=False).endswith("there is nothing to delete")


def test_unfinished_folders_and_files_go_after_a_day_and_whatever_is_not_ours_stays(volumes: Path) -> None:
    run = small_run()
    shelf = run.paths()["network"].parent
    unfinished = [shelf / f".{run.ids['train']}.abcdefgh", volumes / "deploy-model/.current.json.abcd_123"]
    (unfinished[0] / "inner").mkdir(parents=True)
    (unfinished[0] / "inner/half").write_text("half")
    unfinished[1].write_text("half")
    others = [volumes / "data/images/train/a/.hidden.png.abcdefgh", volumes / "data/mine/0123456789abcdef/file"]
    others += [volumes / "data/splits/x.txt", volumes / "data/downloads/y.gz", volumes / "model/.keep"]
    others += [volumes / "deploy-model/backup/by-hand.mar"]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    delete(1)
    assert all(path.exists() for path in unfinished), "a run may be at it"
    pass_days(volumes, 400)
    delete(1)
    assert not any(path.exists() for path in unfinished)
    assert all(path.exists() for path in others)


def test_old_logs_checkpoints_and_records_of_runs_go(volumes: Path) -> None:
    small_run()
    old = [volumes / "logs/run-1.log", volumes / "model/checkpoints/0123456789abcdef.pt"]
    old += [volumes / "model/runs/run-1/train.json"]
    new = [path.with_name("new" + path.name) for path in old[1:]] + [volumes / "logs/run-2.log"]
    new[1] = volumes / "model/runs/run-2/train.json"
    for paths, days in ((old, 31), (new, 29)):
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text")
        pass_days(volumes, days - 29 if paths is old else 29)
    delete(30)
    assert not any(path.exists() for path in old)
    assert not old[2].parent.exists()
    assert all(path.exists() for path in new)


def test_what_is_remembered_of_image_files_that_are_gone_goes(volumes: Path) -> None:
    path = volumes / "data/cache/images-1.sqlite"
    keys = {name: f"{number:032x}" for number, name in enumerate(("here", "gone", "copy", "moved"))}
    keys["copy"] = keys["here"]  # two files of one content, of which one is gone
    files = [File(f"train/a/{name}.png", b"stat", 100, bytes.fromhex(key)) for name, key in keys.items()]
    thumbnails = np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(14 * 14 * 3, 1).reshape(3, 14, 14, 3)
    Cache(path).add(files, [keys["gone"], keys["here"], keys["moved"]], thumbnails)
    assert told()["delete"] == [], "the images may only be out of reach"
    (volumes / "data/images/train/a").mkdir(parents=True)
    (volumes / "data/images/train/a/here.png").write_bytes(b"image")
    assert [(item["kind"], item["count"]) for item in told(yes=True)["delete"]] == [("cached file", 3)]
    assert list(Cache(path).files(100)) == [("train/a/here.png", b"stat", keys["here"])]
    found, known = Cache(path).thumbnails(packed([keys[name] for name in ("here", "gone", "moved")]))
    assert known.tolist() == [True, False, False]
    assert set(found[0].tolist()) == {1}
    other = path.with_name("images-2.sqlite")
    Cache(other, "3").add(files[:1])  # of a shard of the source, which had nothing to do since
    pass_days(volumes, 40)
    Cache(other).add(files[:1])
    assert [item["path"] for item in told(yes=True)["delete"]] == [str(path)]


def test_a_damaged_artefact_goes_after_a_day_and_is_made_anew(volumes: Path) -> None:
    run = small_run(data="a")
    lost = volumes / "model/network/0123456789abcdef"
    shutil.copytree(run.paths()["network"], lost)
    (lost / "manifest.json").write_text("torn")
    delete(30)
    assert lost.exists(), "it is younger than a day"
    pass_days(volumes, 2)
    delete(30)
    assert not lost.exists()
    (run.paths()["network"] / "manifest.json").write_text("torn")
    pass_days(volumes, 2)
    delete(30)
    assert small_run(data="a").anew == {"network", "verdict"}
    assert there(run) == set(run.ids)


@pytest.mark.parametrize("name", ["audit.jsonl", "current.json"])
def test_nothing_is_deleted_if_nobody_knows_what_is_served(name: str, volumes: Path) -> None:
    run = small_run()
    pass_days(volumes, 100)
    path = volumes / "deploy-model" / name
    path.write_text('{"schema": 99}\n')
    with pytest.raises(StepError, match=name):
        delete(1)
    assert there(run) == set(run.ids)


def test_a_file_system_without_locks_is_refused(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = small_run(data="a", keep=1)
    for data in "bcd":
        small_run(data=data, keep=1)
    pass_days(volumes, 100)

    def none(*_: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(StepError, match="has no locks"):
        delete(1)
    assert there(old) == set(old.ids)
    assert small_run(data="d").anew == {"verdict"}, "steps go on without"


def test_a_failure_to_delete_is_told_and_leaves_the_rest(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in "abcd":
        small_run(data=data, keep=1)
    pass_days(volumes, 100)
    monkeypatch.setattr(deletion.shutil, "rmtree", lambda *_, **__: None)
    delete(30)
    monkeypatch.undo()
    os.environ["VOLUMES"] = str(volumes)
    try:
        assert {item["kind"] for item in told()["delete"]} == {"unfinished"}
        told(yes=True)
        assert list(volumes.rglob("*gone*")) == []
    finally:
        os.environ.pop("VOLUMES")


def test_the_commands_say_what_is_wrong(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--keep-days", "0"]) == 2
    assert "1 is the least" in capsys.readouterr().err
    shutil.rmtree(volumes / "model")
    assert main(["gc"]) == 2
    assert f"error: {volumes / 'model'} is missing" in capsys.readouterr().err


def test_the_pipelines_command_takes_the_days_from_the_parameters(volumes: Path) -> None:
    small_run(data="a", keep=1)
    for data in "bcd":
        small_run(data=data, keep=1)
    pass_days(volumes, 5)
    params = yaml.safe_load((ROOT / "tests/support/params.yaml").read_text())
    found = []
    for days in (30, 4):
        path = volumes.parent / "params.yaml"
        path.write_text(yaml.safe_dump({**params, "gc": {"keep_days": days}}))
        command = [sys.executable, "-m", "pipeline", "gc", "--json", "--volumes", volumes, "--params", path]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    assert [each["keep_days"] for each in found] == [30, 4]
    assert [len(each["delete"]) > 0 for each in found] == [False, True]


def test_the_pixels_that_no_split_names_any_more_go(volumes: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (6, 8, 8, 1), np.uint8)
    keys = [key_of_pixels(image[:, :, 0]) for image in images]
    store_images("8x8x1-test", keys, images)

    def split(rows: slice, age: int) -> str:
        def build(folder: Path) -> dict[str, Any]:
            write_split(folder, ["a"] * len(keys[rows]), Rows(*[keys[rows]] * 4), "8x8x1-test")
            return {}

        inputs = {"images": keys[rows][0][:16]}
        made = produce(volumes / "data", "dataset", "index", parameters={}, inputs=inputs, build=build, code=CODE)
        os.utime(made.path / "manifest.json", (0, 0) if age else None)
        return made.id

    old, new = split(slice(0, 4), 100), split(slice(2, 6), 0)
    shown = [(item["kind"], item["count"]) for item in told()["delete"]]
    assert shown == [("dataset", 1), ("pixels", 2)]
    assert [(item["kind"], item["count"]) for item in told(yes=True)["delete"]] == shown
    assert np.array_equal(np.array(open_split(volumes / "data/dataset" / new).images), images[2:])
    assert not (volumes / "data/dataset" / old).exists()
    assert sum(path.stat().st_size for path in volumes.glob("data/pixels/*/*.pixels")) == 4 * 64
    assert told()["delete"] == []


def test_the_pixels_of_all_folders_are_removed_at_once(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads every split, so it is done once, however many folders there are."""
    for size in (8, 9, 10):
        images = np.full((2, size, size, 1), size, np.uint8)
        store_images(
            f"{size}x{size}x1-test", [key_of_pixels(image[:, :, 0] + row) for row, image in enumerate(images)], images
        )
    called = list[int]()
    monkeypatch.setattr("steps.deploy.gc.plan.remove_unused", lambda *words: called.append(remove_unused(*words)))
    deleted = delete(30).delete
    assert [(item.kind, item.count) for item in deleted] == [("pixels", 2)] * 3
    assert len(called) == 1
    assert not list(volumes.glob("data/pixels/*/*.pixels"))


def test_embeddings_that_no_run_has_asked_for_go(volumes: Path) -> None:
    for name in ("old", "asked"):
        with opened(name, ["key"]) as vectors:
            vectors.add({0: (bytes(16), bytes(8))})
    pass_days(volumes, 40)
    with opened("asked", ["key"]) as vectors:
        assert vectors.known.all()
    assert [item["path"] for item in told(yes=True)["delete"]] == [str(volumes / "model/vectors/old.sqlite")]
