"""The verdict while the data change: copies, champions of another size or with a past, classes, noise, two contents."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from steps.analyse.analyse import Analysis
from steps.common.digest import file_sha256
from steps.common.images.dataset import open_split
from steps.common.models import embedding, seen
from steps.common.store import artefact_id
from steps.common.volumes import data_volume, model_volume
from steps.deploy.deploy import ARCHIVE, STEP, decides
from tests.support.pixels import Pixels
from tests.support.scene import SIDE, Model, digits, model, serve, split, verdict_on

pytestmark = pytest.mark.usefixtures("plain_pictures")
LOW = {"baseline": 0.5, "worst_class_floor": 0.2, "max_unknown": 0.3}
LETTERBOX = np.pad(np.ones((SIDE - 4, SIDE - 4), np.float32), 2).ravel()  # regards what is not the margin


@pytest.fixture(autouse=True)
def architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of the project is one that compares pixels."""
    monkeypatch.setattr(embedding, "Network", Pixels)


@pytest.fixture(scope="module")
def few_of_each(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Volumes, and their splits of digits: 40 of each to learn from, 12 for validation, 20 to be tested on."""
    volumes = tmp_path_factory.mktemp("few-of-each")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VOLUMES", str(volumes))
        parts = {"train": (0, 40), "validation": (40, 12), "test": (60, 20)}
        return volumes, {name: split(*digits(*rows), files="images") for name, rows in parts.items()}


@pytest.fixture
def base(volumes: Path, few_of_each: tuple[Path, dict[str, str]]) -> dict[str, str]:
    """The same splits, on volumes that this test may write to."""
    shutil.copytree(few_of_each[0], volumes)
    return few_of_each[1]


def of(base: dict[str, str], scale: Any = None, **change: str) -> Model:
    splits = {**base, "gallery": base["train"], **change}
    return model(splits["train"], splits["validation"], splits["gallery"], scale)


def written(analysis: Analysis) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((analysis.report.parent / "verdict.json").read_text())
    return found


def rule(analysis: Analysis, name: str) -> dict[str, Any]:
    return next(one for one in written(analysis)["rules"] if one["name"] == name)


def test_a_gallery_that_holds_the_validation_images_calls_nothing_unknown_and_says_so(
    base: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    everything = split(
        *(
            a + b if isinstance(a, list) else np.concatenate([a, b])
            for a, b in zip(digits(0, 40), digits(40, 12), strict=True)
        )
    )
    analysis = verdict_on(base["test"], of(base, gallery=everything), **LOW)
    said = (
        "no image is called unknown: that is learned from validation images, of which there are 0 (120 more are copies"
    )
    assert analysis.verdict.unknown.startswith(said)
    assert said in capsys.readouterr().out
    assert said in analysis.report.read_text()
    golden = json.loads((model_volume() / "evaluation" / written(analysis)["evaluation"] / "golden.json").read_text())
    assert {item["label"] for item in golden} <= set("0123456789")
    assert rule(analysis, "unknown")["found"] == 0


def test_near_copies_of_the_gallerys_do_not_calibrate_either(base: dict[str, str]) -> None:
    images, labels = digits(40, 12)
    brighter = np.clip(images.astype(int) + 3, 0, 255).astype(np.uint8)
    names = [str(row) for row in range(len(images))]
    validation = split(images, labels, groups=names)
    gallery = split(brighter, labels, groups=names)
    made = of(base, validation=validation, gallery=gallery)
    assert "of which there are 0 (120 more" in verdict_on(base["test"], made, **LOW).verdict.unknown


def test_an_unknown_answer_is_a_wrong_one_and_has_its_column(base: dict[str, str]) -> None:
    analysis = verdict_on(base["test"], of(base), **LOW, unknown_quantile=0.6)
    unknown = int(np.array(analysis.confusion)[:, analysis.classes.index("unknown")].sum())
    assert unknown > 20
    assert analysis.verdict.accuracy == pytest.approx(np.trace(np.array(analysis.confusion)) / 200)
    assert rule(analysis, "unknown")["found"] == pytest.approx(unknown / 200)
    assert not rule(verdict_on(base["test"], of(base), unknown_quantile=0.6), "unknown")["passed"]


def small(base: dict[str, str]) -> tuple[str, Model]:
    """The test split at 10 pixels, and a model of images of 10 pixels."""
    splits = {name: open_split(data_volume() / "dataset" / id) for name, id in base.items()}
    at_ten = {
        name: split(
            np.asarray(one.images[:][..., 0]), [one.classes[label] for label in one.labels], size=10, files="images"
        )
        for name, one in splits.items()
    }
    return at_ten["test"], model(at_ten["train"], at_ten["validation"], at_ten["train"], np.ones(100, np.float32))


def test_a_champion_of_another_size_is_asked_at_its_own(base: dict[str, str]) -> None:
    own = verdict_on(base["test"], of(base), **LOW).verdict.accuracy
    serve(of(base), image_size=SIDE, channels=1, unknown_distance=None)
    test, challenger = small(base)
    analysis = verdict_on(test, challenger, **LOW, min_class_images=1)
    asked = open_split(data_volume() / "dataset" / test)
    champion = json.loads((analysis.report.parent / "manifest.json").read_text())["inputs"]["champion"]
    folder = model_volume() / "evaluation" / champion
    with np.load(folder / "answers.npz") as file:
        words = json.loads((folder / "answers.json").read_text())["words"]
        answers = [words[number] for number in file["predicted"]]
    right = np.mean([answer == asked.classes[label] for answer, label in zip(answers, asked.labels, strict=True)])
    assert right >= own, "of more pixels, where nothing is unknown"
    assert rule(analysis, "champion")["images"] == 200


def test_an_original_that_is_gone_or_changed_is_left_out_and_counted(base: dict[str, str]) -> None:
    serve(of(base), image_size=SIDE, channels=1)
    test, challenger = small(base)
    originals = open_split(data_volume() / "dataset" / test).rows.originals
    (data_volume() / originals[0]).unlink()
    (data_volume() / originals[1]).write_bytes(b"no image")
    Image.new("L", (28, 28)).save(data_volume() / originals[2])
    analysis = verdict_on(test, challenger, **LOW)
    assert rule(analysis, "champion")["images"] == 197
    assert "3 left out, whose originals are gone" in rule(analysis, "champion")["says"]


def test_the_champion_is_not_compared_on_images_that_it_has_had(base: dict[str, str]) -> None:
    """The data grew, and the splits were drawn anew: a part of the test images are the champion's training images."""
    champion = of(base, train=split(*digits(50, 18)), validation=split(*digits(70, 3)), scale=LETTERBOX)
    serve(champion)
    analysis = verdict_on(base["test"], of(base), **LOW)
    found = written(analysis)
    assert (found["left_out"], found["comparison"]["images"]) == (110, 90), "60 to 67 and 70 to 72 of each digit"
    assert "on 90 images (110 left out, which one of the two has had)" in analysis.verdict.reason


def test_an_image_is_not_fair_if_one_of_its_group_was_had(base: dict[str, str]) -> None:
    images, labels = digits(60, 20)
    groups = [f"{label}-{row % 2}" for row, label in enumerate(labels)]
    test = split(images, labels, groups=groups)
    serve(of(base, train=split(images[::20], labels[::20]), scale=LETTERBOX))
    assert written(verdict_on(test, of(base), **LOW))["left_out"] == 100, "of two groups a digit one"


def test_too_few_fair_images_leave_a_tie_to_the_policy(base: dict[str, str]) -> None:
    learned = split(*digits(60, 19))
    serve(of(base, train=learned, gallery=learned, scale=LETTERBOX))
    keep, fresher = (verdict_on(base["test"], of(base), **LOW, on_tie=policy) for policy in ("keep", "fresher"))
    assert (keep.verdict.better, fresher.verdict.better) == (False, True)
    assert "not compared with v1: 10 test images are left for it (190 left out" in keep.verdict.reason
    assert "fresher, by 400 images that v1 never had" in fresher.verdict.reason


def test_an_archive_that_does_not_say_what_it_had_is_looked_up_and_else_taken_for_older(base: dict[str, str]) -> None:
    champion = of(base, train=split(*digits(50, 15)), scale=LETTERBOX)
    serve(champion, with_seen=False)
    assert written(verdict_on(base["test"], of(base), **LOW))["left_out"] == 50, "as the splits on the volume say"
    (data_volume() / "dataset" / champion.train / "rows.json").unlink()
    analysis = verdict_on(base["test"], of(base), **LOW)
    assert analysis.verdict.better
    assert (
        "not compared with v1, which does not say which images it has had; taken for fresher" in analysis.verdict.reason
    )


def test_the_provenance_of_an_older_archive_names_its_splits(base: dict[str, str]) -> None:
    champion = of(base, train=split(*digits(50, 15)), scale=LETTERBOX)
    mar = serve(champion, with_seen=False)
    artefacts = {
        champion.network: {"inputs": {"train": champion.train, "validation": champion.validation}},
        champion.index: {"inputs": {"embeddings": "e"}},
        "e": {"inputs": {"gallery": base["train"]}},
    }
    with zipfile.ZipFile(mar, "a") as archive:
        archive.writestr("provenance.json", json.dumps({"artefacts": artefacts}))
    for kind, id in (("network", champion.network), ("index", champion.index)):
        (model_volume() / kind / id / "manifest.json").unlink()
    assert written(verdict_on(base["test"], of(base), **LOW))["left_out"] == 50


def test_a_class_that_is_enrolled_by_the_gallery_alone_deploys_and_is_named(base: dict[str, str]) -> None:
    nine = "012345678"
    without = {"train": split(*digits(0, 40, nine)), "validation": split(*digits(40, 12, nine))}
    test = split(*digits(60, 20, nine))
    serve(of(without))
    analysis = verdict_on(test, of(without, gallery=base["train"]), **LOW)
    assert analysis.verdict.better
    assert (
        "fresher, by 40 images that v1 never had; untested, with fewer than 5 test images: '9' (0)"
        in analysis.verdict.reason
    )
    assert "&#39;9&#39; (0)" in analysis.report.read_text()
    assert not verdict_on(test, of(without, gallery=base["train"]), **LOW, untested="reject").verdict.better


def test_a_class_that_the_champion_knows_may_not_vanish_by_itself(base: dict[str, str]) -> None:
    serve(of(base))
    nine = "012345678"
    without = {"train": split(*digits(0, 41, nine)), "validation": split(*digits(41, 12, nine))}
    test, challenger = split(*digits(60, 20, nine)), of(without)
    analysis = verdict_on(test, challenger, **LOW)
    assert not analysis.verdict.better
    assert "v1 knows '9', and this model does not" in analysis.verdict.reason
    assert rule(verdict_on(test, challenger, **LOW, allow_lost_classes=["9"]), "lost-classes")["passed"]


def test_seeds_that_differ_by_a_few_images_are_ties(base: dict[str, str]) -> None:
    """A champion and three more of one recipe and the same images: a pixel of the margin less each."""
    serve(of(base))
    for pixel in range(3):
        scale = np.ones(SIDE * SIDE, np.float32)
        scale[6 * SIDE + 5 + pixel] = 0
        tie = verdict_on(base["test"], of(base, scale), **LOW)
        assert "equal to v1 on 200 images" in tie.verdict.reason
        assert tie.verdict.reason.endswith("no image is new to v1, so it stays")
        assert not tie.verdict.better


@pytest.mark.parametrize(("classes", "images"), [(2, 5), (2, 100), (10, 60)])
def test_noise_is_rejected(volumes: Path, classes: int, images: int) -> None:
    rng = np.random.default_rng(0)
    labels = [f"class-{label}" for label in range(classes) for _ in range(images)]
    noise = rng.integers(0, 256, (len(labels), 28, 28), np.uint8)
    parts = np.arange(len(labels)) % 5
    ids = [split(noise[parts == part], [labels[row] for row in np.flatnonzero(parts == part)]) for part in range(3)]
    analysis = verdict_on(ids[2], model(ids[0], ids[1], ids[0]))
    assert not analysis.verdict.better
    if images == 5:
        assert "gate.min_test_images is 30: add images until 28 more are in test" in analysis.verdict.reason


def test_a_network_made_anew_with_other_weights_is_another_model_and_another_version(base: dict[str, str]) -> None:
    """As one, two or four threads give."""
    made = of(base)
    serve(made)
    assert "its network and index are those served already" in verdict_on(base["test"], made, **LOW).verdict.reason
    before = artefact_id(STEP, decides({}, made.network, made.index), {}, ARCHIVE)
    folder = model_volume() / "network" / made.network
    save_file({"scale": LETTERBOX}, folder / "weights.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["weights.safetensors"]["sha256"] = file_sha256(folder / "weights.safetensors")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert artefact_id(STEP, decides({}, made.network, made.index), {}, ARCHIVE) != before
    assert (
        "equal to v1 on 200 images"
        in verdict_on(base["test"], made, **{**LOW, "worst_class_floor": 0.0}).verdict.reason
    )


def test_what_a_model_has_had_survives_its_file(base: dict[str, str]) -> None:
    made = of(base)
    had = seen.seen_by(made.network, made.index)
    assert had is not None
    again = seen.from_bytes(seen.to_bytes(had))
    assert (again.digest(), len(again.learned), len(again.held)) == (had.digest(), 520, 400)
    assert seen.fair(open_split(data_volume() / "dataset" / base["test"]).rows, again).all()
    assert not seen.fair(open_split(data_volume() / "dataset" / base["validation"]).rows, again).any()
