"""`make run IMAGES=/folder`: the folder's images are copied to the data volume, and nothing else there is touched."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InputError
from contract.paths import ROOT
from pipeline.local import own_images
from pipeline.local.own_images import copy_images
from tests.support.examples import write_images
from tests.support.pipeline_run import tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two classes, with a file that is no image."""
    found = tmp_path / "my photos"
    write_images(found, {"one": "1", "two": "2"}, count=3)
    (found / "one/notes.txt").write_text("no image")
    return found


@pytest.fixture
def images(volumes: Path) -> Path:
    """Where the copies go."""
    (volumes / "data").mkdir(parents=True)
    return volumes / "data/images"


def names(images: Path) -> list[str]:
    return sorted(tree(images))


def test_folders_of_classes_become_training_images(folder: Path, images: Path) -> None:
    said = copy_images(folder, [])
    assert said == [
        f"left out of {folder}, since they do not end like PNG, JPEG, GIF, BMP, PPM, TIFF, WEBP: 1 .txt",
        f"6 images of 2 classes in {folder}: 6 copied to {images}, 0 there already",
    ]
    wanted = {f"train/{name}": data for name, data in tree(folder).items() if name.endswith(".png")}
    assert tree(images) == wanted


def test_parts_are_taken_as_they_are(folder: Path, images: Path, tmp_path: Path) -> None:
    write_images(folder / "train", {"one": "1", "two": "2"}, count=2)
    shutil.rmtree(folder / "one")
    shutil.rmtree(folder / "two")
    write_images(folder / "test", {"one": "1"}, first=2, count=1)
    copy_images(folder, [])
    assert {name.rpartition("/")[0] for name in names(images)} == {"train/one", "train/two", "test/one"}


def test_a_class_may_be_called_train(folder: Path, images: Path) -> None:
    (folder / "one").rename(folder / "train")
    copy_images(folder, [])
    assert {name.rpartition("/")[0] for name in names(images)} == {"train/train", "train/two"}


def test_a_second_copy_changes_nothing(folder: Path, images: Path) -> None:
    copy_images(folder, [])
    before = {path: path.stat() for path in images.rglob("*")}
    assert copy_images(folder, [])[-1] == f"6 images of 2 classes in {folder}: all are in {images} already"
    assert {path: path.stat() for path in images.rglob("*")} == before


def test_what_changed_is_copied_and_what_is_gone_is_removed(folder: Path, images: Path) -> None:
    copy_images(folder, [])
    first, second, *_ = sorted((folder / "one").glob("*.png"))
    shutil.copyfile(second, first)
    second.unlink()
    write_images(folder, {"three": "3"}, count=1)
    said = copy_images(folder, [])[-1]
    assert said.endswith(f": 2 copied to {images}, 4 there already, 1 removed, whose originals are gone")
    assert tree(images) == {f"train/{name}": data for name, data in tree(folder).items() if name.endswith(".png")}


def test_images_of_another_origin_are_never_removed_or_replaced(folder: Path, images: Path, tmp_path: Path) -> None:
    copy_images(folder, [])
    other = tmp_path / "others"
    write_images(other, {"one": "1", "two": "2"}, first=5, count=3)
    before = tree(images)
    with pytest.raises(InputError, match=r"has images that are not from .*others \(6, train/one/.*VOLUMES=/elsewhere"):
        copy_images(other, [])
    assert tree(images) == before
    own = images / "train/one/by hand.png"
    shutil.copyfile(next((other / "one").iterdir()), own)
    with pytest.raises(InputError, match=r"has images that are not from .* \(1, train/one/by hand.png for one\)"):
        copy_images(folder, [])
    assert own.exists()
    shutil.copyfile(own, folder / "one/by hand.png")  # the same name, and written later
    with pytest.raises(InputError, match=r"has images that are not from .* \(1, train/one/by hand.png for one\)"):
        copy_images(folder, [])


def test_a_killed_copy_is_finished(folder: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = own_images._copy

    def killed(*given: Any) -> None:
        if len(names(images)) == 2:
            raise KeyboardInterrupt
        copy(*given)

    monkeypatch.setattr(own_images, "_copy", killed)
    with pytest.raises(KeyboardInterrupt):
        copy_images(folder, [])
    monkeypatch.setattr(own_images, "_copy", copy)
    (images.parent / ".copying.left").mkdir()
    assert "4 copied" in copy_images(folder, [])[-1]
    assert sorted(path.name for path in images.parent.iterdir()) == ["copied.json", "copied.lock", "images"]


def test_bad_folders_get_one_sentence(folder: Path, images: Path, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(InputError) as error:
            copy_images(path, [])
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "which does not exist" in refused(tmp_path / "nowhere")
    assert "which is a file" in refused(folder / "one/notes.txt")
    assert "which has no folders" in refused(folder / "one")
    (tmp_path / "empty").mkdir()
    assert "which has no folders" in refused(tmp_path / "empty")
    one = tmp_path / "one class"
    write_images(one, {"one": "1"})
    assert "which has no 2 folders with images" in refused(one)
    phone = tmp_path / "phone"
    for label in ("cat", "dog"):
        (phone / label).mkdir(parents=True)
        (phone / label / "1.heic").write_bytes(b"...")
    assert "which has no 2 folders with images (PNG, JPEG" in refused(phone)
    (folder / "one").rename(folder / "Unknown")
    assert "rename the folder" in refused(folder)
    (folder / "Unknown").rename(folder / "TWO")
    assert "differ only by case" in refused(folder)
    parts = tmp_path / "parts"
    write_images(parts / "train", {"one": "1", "two": "2"})
    (parts / "val").mkdir()
    assert "has 'val', and the parts are train, gallery, test" in refused(parts)
    assert not images.exists()


def test_the_data_volume_itself_is_refused(folder: Path, images: Path) -> None:
    copy_images(folder, [])
    for path in (images, images / "train", images.parent):
        with pytest.raises(InputError, match="set data.source to folder"):
            copy_images(path, [])


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_an_unreadable_image_is_named(folder: Path, images: Path) -> None:
    path = next((folder / "one").glob("*.png"))
    path.chmod(0)
    with pytest.raises(InputError, match=f"{path.name} cannot be read"):
        copy_images(folder, [])


def test_classes_that_only_the_served_model_knows_are_refused_before_anything_is_copied(
    folder: Path, images: Path, volumes: Path
) -> None:
    store = volumes / "deploy-model/model-store"
    store.mkdir(parents=True)
    with zipfile.ZipFile(store / "a.mar", "w") as archive:
        archive.writestr("labels.json", json.dumps({"classes": ["one", "zero"], "gallery": []}))
    pointer = {"name": "a", "version": "v", "mar": "a.mar", "sha256": "", "network": "n", "index": "i"}
    (volumes / "deploy-model/current.json").write_text(json.dumps(pointer))
    with pytest.raises(InputError, match=r"knows 1 classes that .* does not have \(zero\): choose another folder"):
        copy_images(folder, [])
    assert not images.exists()
    assert copy_images(folder, ["zero"])


def test_make_passes_the_folder_on() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "run", "IMAGES=/my photos"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pipeline run --runner subprocess --images '/my photos'" in done.stdout
