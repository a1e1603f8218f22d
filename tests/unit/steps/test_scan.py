"""The folder of images: what is followed, what is named and left out, and what is refused before anything else."""

import os
from pathlib import Path

import pytest

from steps.common.errors import StepError
from steps.preprocess.sources.scan import Found, scan


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def scanned(root: Path) -> tuple[dict[str, Found], list[str]]:
    warnings: list[str] = []
    return scan(root, warnings.append), warnings


def test_parts_labels_and_names(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.png", "train/b/2.png", "gallery/c/3.png", "test/a/4.png", "train/.hidden/x", ".DS_Store")
    parts, warnings = scanned(tmp_path)
    assert {name: list(zip(part.labels, part.names, strict=True)) for name, part in parts.items()} == {
        "train": [("a", "train/a/1.png"), ("b", "train/b/2.png")],
        "gallery": [("c", "gallery/c/3.png")],
        "test": [("a", "test/a/4.png")],
    }
    assert warnings == []


def test_linked_folders_and_files_are_followed_once_each(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "images", tmp_path / "another disk"
    write(root, "train/a/1.png")
    write(elsewhere, "7/7.png", "one.png")
    (root / "train/7").symlink_to(elsewhere / "7")
    (root / "train/again").symlink_to(root / "train/7")
    (root / "train/a/one.png").symlink_to(elsewhere / "one.png")
    (root / "train/a/two.png").symlink_to(root / "train/a/1.png")
    (root / "train/loop").symlink_to(root / "train")
    parts, warnings = scanned(root)
    assert parts["train"].names == ["train/7/7.png", "train/a/1.png", "train/a/one.png"]
    assert any("train/again is the same folder as" in line for line in warnings)
    assert any("a/two.png" in line for line in warnings)
    assert any("loop/" in line for line in warnings)


def test_what_is_empty_broken_or_elsewhere_is_named(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.png", "train/loose.png", "readme.txt", *(f"train/a/deep/{n}.png" for n in range(5)))
    (tmp_path / "train/empty").mkdir()
    (tmp_path / "train/gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "train/a/gone.png").symlink_to(tmp_path / "nowhere.png")
    _, warnings = scanned(tmp_path)
    told = "\n".join(warnings)
    assert "train/empty holds no image" in told
    assert "train/gone is a broken link" in told
    assert f"1 (gone.png) in {tmp_path}/train/a are broken or unreadable" in told
    assert "2 (a/deep, loose.png) in" in told
    assert f"1 (readme.txt) in {tmp_path} are in no <part>/<label>/" in told


@pytest.mark.parametrize("name", ["val", "valid", "Train", "7"])
def test_an_unknown_part_is_refused_with_those_known(tmp_path: Path, name: str) -> None:
    write(tmp_path, "train/a/1.png", f"{name}/a/2.png")
    with pytest.raises(StepError, match=f"'{name}', and the parts are train, gallery, test"):
        scanned(tmp_path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("train/cat", "train/Cat"),
        ("train/caf\u00e9", "train/cafe\u0301"),
        ("train/a", "train/a "),
        ("train/A", "test/a"),
    ],
    ids=["case", "NFC", "space", "another part"],
)
def test_labels_that_differ_by_case_accents_or_spaces_are_refused_with_both_paths(
    tmp_path: Path, one: str, other: str
) -> None:
    write(tmp_path, "train/b/0.png", f"{one}/1.png", f"{other}/2.png")
    with pytest.raises(StepError) as refused:
        scanned(tmp_path)
    assert str(tmp_path / one) in str(refused.value)
    assert str(tmp_path / other) in str(refused.value)


def test_a_label_that_is_written_in_two_ways_in_two_parts_is_one_class(tmp_path: Path) -> None:
    write(tmp_path, "train/caf\u00e9/1.png", "gallery/cafe\u0301/2.png", "test/caf\u00e9 /3.png")
    parts, _ = scanned(tmp_path)
    assert {label for part in parts.values() for label in part.labels} == {"caf\u00e9"}


@pytest.mark.parametrize("name", ["unknown", "Unknown", " unknown "])
def test_the_servers_own_answer_is_no_label(tmp_path: Path, name: str) -> None:
    write(tmp_path, "train/a/1.png", f"train/{name}/2.png")
    with pytest.raises(StepError, match="the server answers 'unknown'"):
        scanned(tmp_path)


def test_a_name_that_is_not_utf_8_is_refused_with_its_bytes(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.png")
    path = os.fsencode(tmp_path / "train/a") + b"/caf\xe9.png"
    Path(os.fsdecode(path)).write_bytes(b"")
    with pytest.raises(StepError, match=r"caf\\xe9\.png' has a name that is not UTF-8"):
        scanned(tmp_path)


@pytest.mark.parametrize("empty", ["train", "gallery"])
def test_a_part_without_images_is_refused(tmp_path: Path, empty: str) -> None:
    write(tmp_path, "train/a/1.png")
    (tmp_path / empty).mkdir(exist_ok=True)
    if empty == "train":
        (tmp_path / "train/a/1.png").unlink()
    with pytest.raises(StepError, match=f"{empty} holds no <label>/<image>"):
        scanned(tmp_path)
