"""What is decided in review lands whole, on disk and in labels.jsonl, and is taken back whole."""

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from contract import files
from contract.errors import InputError
from contract.loop import measured
from contract.loop.collected import FOLDER, digest_of
from contract.loop.labels import Action, Before, Labels, Line, Measured, labels_path
from pipeline.copied import Copied
from pipeline.loop.errors import LabelError
from pipeline.loop.labels import Book, Given
from pipeline.loop.placing import GALLERY, TRAIN, Placing
from steps.common.errors import StepError
from tests.support.lockless import no_locks
from tests.support.model_archive import picture, png

MAX_PIXELS = 10_000
BEFORE = Before("unknown", "0123abcd", 0.4)


def given(number: int = 0, kind: str = "PNG", polarity: str | None = None, *, is_random: bool = False) -> Given:
    data = png(picture(number % 4, bright=100 + number), kind)
    return Given(digest_of(data), data, polarity, BEFORE, is_random, "unknown")


@pytest.fixture
def book(volumes: Path) -> Book:
    return Book("light-on-dark", MAX_PIXELS)


def there(volumes: Path) -> list[str]:
    """The files of the data set."""
    root = volumes / "data/images"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def lines(volumes: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in labels_path(volumes / "data").read_text().splitlines()]


def open_anew(volumes: Path) -> Book:
    return Book("light-on-dark", MAX_PIXELS)


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("TIFF", ".tif"), ("WEBP", ".webp")])
def test_a_label_brings_the_image_and_a_line(book: Book, volumes: Path, kind: str, suffix: str) -> None:
    one = given(kind=kind)
    [line] = book.label([one], " nine ", TRAIN)
    assert there(volumes) == [f"train/nine/{one.digest}{suffix}"]
    path = volumes / "data/images" / line.file
    assert path.read_bytes() == one.data
    assert path.stat().st_mode & 0o777 == 0o644
    [told] = lines(volumes)
    assert told == {
        "id": line.id,
        "at": line.at,
        "by": line.by,
        "action": "label",
        "digest": one.digest,
        "label": "nine",
        "file": f"train/nine/{one.digest}{suffix}",
        "queue": "unknown",
        "before": {"label": "unknown", "version": "0123abcd", "distance": 0.4},
    }
    assert not book.is_open(one.digest)
    assert not (volumes / "data/labelling").exists()


def test_without_locks_labels_are_written_all_the_same(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_anew(volumes).is_alone
    monkeypatch.setattr("fcntl.flock", no_locks)
    book = open_anew(volumes)
    assert not book.is_alone
    book.label([given()], "9", TRAIN)
    assert len(lines(volumes)) == 1


def test_a_volume_that_cannot_be_written_is_said_before_anything_is_labelled(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(StepError, match="cannot write"):
        open_anew(volumes)


def test_what_is_measured_lies_beside_the_collected_images_for_the_server(
    book: Book, volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = given(0), given(1)
    book.label([one], "9", TRAIN, passed=[one.digest])
    store = volumes / FOLDER
    assert not store.exists(), "nothing is collected"
    store.mkdir()
    open_anew(volumes)
    assert measured.read(store) == {"0123abcd": Measured(0, 1, 0)}
    line = book.note(other, Action.NOT_OURS, passed=[other.digest])
    assert measured.read(store) == {"0123abcd": Measured(1, 2, 0)}
    book.undo([line.id])
    assert measured.read(store) == {"0123abcd": Measured(0, 1, 0)}

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(measured, "replace", refuse)
    for action in (Action.SKIP, Action.NOT_OURS):
        book.note(other, action)
    assert len(lines(volumes)) == 5
    assert capsys.readouterr().err.count("the server's metrics do not tell what is measured") == 1


def test_a_folder_in_place_of_the_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    labels_path(tmp_path).mkdir()
    with pytest.raises(InputError, match=r"labels\.jsonl cannot be read \(Is a directory\)"):
        Labels(tmp_path).refresh()


def test_the_gallery_is_another_part(book: Book, volumes: Path) -> None:
    one = given()
    book.label([one], "9", GALLERY)
    assert there(volumes) == [f"gallery/9/{one.digest}.png"]
    book.label([one], "9", TRAIN)
    assert there(volumes) == [f"train/9/{one.digest}.png"], "an image is in one part"


def test_an_image_of_the_other_polarity_is_inverted(book: Book, volumes: Path) -> None:
    one = given(polarity="dark-on-light")
    [line] = book.label([one], "9", TRAIN)
    kept = (volumes / "data/images" / line.file).read_bytes()
    assert Path(line.file).name == f"{digest_of(kept)}.png"
    sent, stored = (np.asarray(Image.open(io.BytesIO(data))) for data in (one.data, kept))
    assert (stored == 255 - sent).all()
    book.undo([line.id])
    assert there(volumes) == []


def test_a_new_label_moves_the_image(book: Book, volumes: Path) -> None:
    one = given()
    [first] = book.label([one], "4", TRAIN)
    [second] = book.label([one], "9", TRAIN)
    assert there(volumes) == [second.file]
    with pytest.raises(LabelError, match="again since"):
        book.undo([first.id])
    book.undo([second.id])
    assert there(volumes) == [first.file]
    assert book.labels.of(one.digest) == first
    book.undo([first.id])
    assert there(volumes) == []
    assert book.is_open(one.digest)
    with pytest.raises(LabelError, match="already"):
        book.undo([first.id])


@pytest.mark.parametrize("action", [Action.NOT_OURS, Action.SKIP])
def test_what_is_of_no_class_is_in_no_folder(book: Book, volumes: Path, action: Action) -> None:
    one = given()
    book.label([one], "4", TRAIN)
    line = book.note(one, action)
    assert there(volumes) == []
    assert not book.is_open(one.digest)
    book.undo([line.id])
    assert book.is_open(one.digest), "its image is gone, so it is shown again"


def test_many_at_once_are_one_undo(book: Book, volumes: Path) -> None:
    made = book.label([given(number) for number in range(20)], "9", TRAIN)
    assert len(there(volumes)) == len({line.digest for line in made}) == 20
    book.undo([line.id for line in made])
    assert there(volumes) == []
    assert len(lines(volumes)) == 40


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("", "1 to 200 bytes"),
        (".hidden", "dot"),
        ("a/b", "slash"),
        ("a\nb", "printed"),
        ("9\u200d", "printed"),
        ("\u202e9", "printed"),
        ("x" * 201, "1 to 200 bytes"),
        ("Unknown", "no class"),
        ("NINE", "differs only by case"),
        ("Seven", "differs only by case"),
    ],
)
def test_a_label_that_cannot_name_a_class_changes_nothing(book: Book, volumes: Path, label: str, says: str) -> None:
    book.know(["seven"])
    book.label([given(1)], "nine", TRAIN)
    before = there(volumes)
    with pytest.raises(LabelError, match=says):
        book.label([given(2)], label, TRAIN)
    assert there(volumes) == before
    assert len(lines(volumes)) == 1


def test_a_folder_that_is_there_is_used_however_its_name_is_written(book: Book, volumes: Path) -> None:
    (volumes / "data/images/train/Cafe\u0301").mkdir(parents=True)
    [line] = book.label([given()], "Caf\u00e9", TRAIN)
    assert line.file.startswith("train/Cafe\u0301/")
    assert line.label == "Caf\u00e9"


@pytest.mark.parametrize(
    "label", ["\u0645\u06cc\u200c\u0631\u0648\u0645", "\U0001f469\u200d\U0001f52c", "数字", "<b>&amp;"]
)
def test_a_label_may_be_of_any_script(book: Book, volumes: Path, label: str) -> None:
    one = given()
    book.label([one], label, TRAIN)
    assert there(volumes) == [f"train/{label}/{one.digest}.png"]
    assert lines(volumes)[0]["label"] == label


def test_bytes_that_are_no_image_get_no_label(book: Book, volumes: Path) -> None:
    bad = Given("0" * 64, b"no image", None, BEFORE, False, "unknown")
    with pytest.raises(LabelError, match="cannot be decoded"):
        book.label([given(), bad], "9", TRAIN)
    assert there(volumes) == []
    book.note(bad, Action.NOT_OURS)


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_line_that_cannot_be_written_leaves_no_image(
    book: Book, volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = book.label([given(1)], "4", TRAIN)
    monkeypatch.setattr(files, "append", fail)
    for change in (
        lambda: book.label([given(0), given(1)], "9", TRAIN),
        lambda: book.note(given(1), Action.NOT_OURS),
        lambda: book.undo([first.id]),
        lambda: book.move(first.file, "7"),
    ):
        with pytest.raises(Exception, match="no space left|No space left"):
            change()
        assert there(volumes) == [first.file]
    assert len(lines(volumes)) == 1


@pytest.mark.parametrize(
    ("change", "left"),
    [
        # Killed before the line: the image has the label that it was given, and is shown again.
        (lambda book: book.label([given()], "9", TRAIN), [f"train/9/{given().digest}.png"]),
        (lambda book: book.undo([book.label([given()], "9", TRAIN)[0].id]), []),
        (lambda book: book.note(given(), Action.NOT_OURS) if book.label([given()], "9", TRAIN) else None, []),
    ],
    ids=["label", "undo", "note"],
)
def test_a_kill_between_image_and_line_is_put_right(
    volumes: Path, change: Callable[[Book], object], left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    book, appended = Book("light-on-dark", MAX_PIXELS), files.append
    calls = 1 if left else 2

    def killed(path: Path, text: bytes) -> None:
        nonlocal calls
        calls -= 1
        if not calls:
            raise SystemExit
        appended(path, text)

    monkeypatch.setattr(files, "append", killed)
    monkeypatch.setattr(Placing, "_take_back", lambda _: None)  # what a process that is killed does not do
    monkeypatch.setattr(Placing, "clean", lambda _: None)
    with pytest.raises(SystemExit):
        change(book)
    monkeypatch.undo()
    monkeypatch.setenv("VOLUMES", str(volumes))
    assert there(volumes) == left
    after = open_anew(volumes)
    assert not (volumes / "data/labelling").exists()
    assert after.is_open(given().digest)
    after.label([given()], "7", TRAIN)
    assert there(volumes) == [f"train/7/{given().digest}.png"], "no copy stays behind under another label"


def test_a_torn_line_is_left_out(book: Book, volumes: Path) -> None:
    [first] = book.label([given(1)], "4", TRAIN)
    path = labels_path(volumes / "data")
    path.write_bytes(path.read_bytes() + first.encoded()[:40])
    [second] = open_anew(volumes).label([given(2)], "4", TRAIN)
    labels = Labels(volumes / "data")
    assert labels.refresh() == {first.digest, second.digest}
    assert set(labels.files()) == {first.file, second.file}


def test_lines_of_others_are_read_as_they_come(book: Book, volumes: Path) -> None:
    other = open_anew(volumes)
    [line] = other.label([given(1)], "4", TRAIN)
    assert book.catch_up() == {line.digest}
    assert book.catch_up() == set()
    labels_path(volumes / "data").unlink()
    assert book.catch_up() == {line.digest}
    assert book.is_open(line.digest)


def test_processes_at_once_lose_no_line(volumes: Path) -> None:
    """Two books, which share nothing but the volume."""
    children = []
    for first in (0, 8):
        if pid := os.fork():
            children.append(pid)
            continue
        try:
            book = open_anew(volumes)
            for number in range(first, first + 8):
                book.label([given(number)], str(number % 3), TRAIN)
            os._exit(0)
        finally:
            os._exit(1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    labels = Labels(volumes / "data")
    assert len(labels.refresh()) == 16
    assert sorted(labels.files()) == there(volumes)


def own_file(volumes: Path, name: str = "train/four/mine.png") -> str:
    path = volumes / "data/images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(picture(1)))
    return name


def test_a_file_of_the_data_set_is_moved_and_moved_back(book: Book, volumes: Path) -> None:
    name = own_file(volumes)
    line = book.move(name, "nine")
    assert there(volumes) == ["train/nine/mine.png"]
    assert (line.action, line.was, line.label) == (Action.MOVE, name, "nine")
    book.undo([line.id])
    assert there(volumes) == [name]


def test_a_move_takes_no_other_files_place(book: Book, volumes: Path) -> None:
    name, other = own_file(volumes), own_file(volumes, "train/nine/mine.png")
    line = book.move(name, "nine")
    assert there(volumes) == sorted([other, line.file])
    own_file(volumes, name)
    with pytest.raises(LabelError, match="another file"):
        book.undo([line.id])


def test_a_labelled_image_that_is_moved_stays_labelled(book: Book, volumes: Path) -> None:
    [first] = book.label([given()], "4", TRAIN)
    moved = book.move(first.file, "9")
    assert moved.before == BEFORE
    assert set(book.labels.files()) == {moved.file} == set(there(volumes))
    book.undo([moved.id])
    assert set(book.labels.files()) == {first.file} == set(there(volumes))


@pytest.mark.parametrize("name", ["train/four", "../x/y.png", "train/../../x.png", "train/four/gone.png"])
def test_what_is_no_file_of_the_data_set_is_not_moved(book: Book, volumes: Path, name: str) -> None:
    own_file(volumes)
    with pytest.raises(LabelError, match="is no file"):
        book.move(name, "nine")


def test_a_copy_is_not_moved(book: Book, volumes: Path) -> None:
    name = own_file(volumes)
    Copied("/pictures", {name}).write()
    with pytest.raises(LabelError, match="copy from /pictures"):
        book.move(name, "nine")


def line(number: int, action: Action, label: str = "", answer: str = "4", **more: object) -> Line:
    before = Before(answer, "one")
    at = "2026-11-26T06:00:00+00:00"
    return Line(id=str(number), at=at, by="me", action=action, digest=f"d{number}", label=label, before=before, **more)


def test_what_is_measured_counts_images_that_passed(volumes: Path) -> None:
    folder = volumes / "data"
    folder.mkdir(parents=True)
    told = [
        line(1, Action.LABEL, "4", passed=("d1",)),
        line(2, Action.LABEL, "9"),  # not passed: one before it waits
        line(3, Action.LABEL, "9", passed=("d3", "d4", "d5", "d6")),
        line(4, Action.NOT_OURS, answer="unknown"),
        line(5, Action.SKIP),
        line(6, Action.NOT_OURS),
    ]
    files.append(labels_path(folder), b"".join(each.encoded() for each in told))
    labels = Labels(folder)
    labels.refresh()
    found = labels.measured("one")
    assert (found.right, found.images, found.skipped) == (2, 4, 1)
    assert found.accuracy == 0.5
    assert labels.measured("two").images == 0
    files.append(labels_path(folder), line(7, Action.UNDO, undoes="3").encoded())
    labels.refresh()
    assert labels.measured("one").images == 3
