"""What of training follows from the data: epochs, batches, how often a class is drawn, whether images are mirrored."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from steps.common.errors import StepError
from steps.common.images.dataset import Split, read_split
from steps.common.models.embedding import embed_images, load_network
from steps.common.parameters import ImageFormat
from steps.common.store import find
from steps.common.volumes import model_volume
from steps.preprocess.preprocess import preprocess
from steps.train.augment import augment, draw_maps
from steps.train.auto import Chosen, Numbers, numbers
from steps.train.learner import new_learner
from steps.train.mirroring import look
from steps.train.parameters import Train
from steps.train.sampling import epoch_rows, power_for
from steps.train.train import train
from steps.validate.validate import validate
from tests.support.examples import PARAMS, write_images

AUTO = Train(**{**PARAMS["train"], "backbone": "small"})
GREY = ImageFormat(image_size=28, channels=1)
FOLDER = {**PARAMS["data"], "source": "folder"}
STILL: dict[str, Any] = {"rotation": 0.0, "translation": 0.0, "zoom": 0.0, "shear": 0.0}


@pytest.mark.parametrize(
    ("images", "image_format", "wanted"),
    [
        (3630, GREY, Numbers(28, 128, [32, 32, 64], 30.0, 0.5)),  # the sample
        (55_000, GREY, Numbers(28, 128, [32, 32, 64], 30.0, 0.5)),  # MNIST
        (990, ImageFormat(image_size=64, channels=3), Numbers(53, 64, [32, 64, 128, 128], 16.0, 0.2)),
        (990, ImageFormat(image_size=28, channels=3), Numbers(53, 64, [32, 32, 64], 16.0, 0.2)),
        (990, ImageFormat(image_size=64, channels=1), Numbers(53, 64, [32, 64, 128, 128], 16.0, 0.2)),
        (10, GREY, Numbers(200, 32, [32, 32, 64], 30.0, 0.5)),
        (5000, ImageFormat(image_size=224, channels=3), Numbers(28, 16, [32, 64, 128, 128], 16.0, 0.2)),
        (5000, ImageFormat(image_size=1024, channels=3), Numbers(28, 2, [32, 64, 128, 128], 16.0, 0.2)),
        (1_000_000, GREY, Numbers(4, 128, [32, 32, 64], 30.0, 0.5)),
    ],
)
def test_numbers_follow_from_the_images(images: int, image_format: ImageFormat, wanted: Numbers) -> None:
    assert numbers(AUTO, images, image_format) == wanted


def test_a_backbone_has_the_margin_of_digits() -> None:
    on_a_backbone = AUTO.model_copy(update={"backbone": "resnet18.a1_in1k"})
    assert numbers(on_a_backbone, 990, ImageFormat(image_size=64, channels=3)).margin == 0.5


def test_numbers_of_params_win() -> None:
    given = AUTO.model_copy(update={"epochs": 3, "batch_size": 7, "widths": [8], "scale": 9.0, "margin": 0.0})
    assert numbers(given, 5000, GREY) == Numbers(3, 7, [8], 9.0, 0.0)


def test_widths_that_do_not_fit_the_images_are_refused() -> None:
    with pytest.raises(StepError, match="train.widths has 5 entries, and images of 28 x 28 grey cannot be halved"):
        numbers(AUTO.model_copy(update={"widths": [8] * 5}), 100, GREY)


def test_small_batches_take_a_smaller_rate() -> None:
    one = Chosen(epochs=1, batch_size=128, widths=[8], scale=30, margin=0.5, class_power=1, flip=False)
    assert [replace(one, batch_size=size).rate(0.008) for size in (32, 128, 512)] == [0.002, 0.008, 0.008]


def test_classes_are_balanced_from_three_to_one() -> None:
    assert [power_for(torch.tensor([10, count])) for count in (10, 29, 30, 300)] == [1, 1, 0.5, 0.5]


def test_classes_are_drawn_by_the_power_of_their_size() -> None:
    labels = torch.tensor([0] * 900 + [1] * 100 + [2])
    rows = epoch_rows(labels, 0.5, torch.Generator().manual_seed(0))
    assert len(rows) == len(labels)
    share = torch.bincount(labels[rows]) / len(rows)
    assert torch.allclose(share, torch.tensor([30, 10, 1]) / 41, atol=2e-3)
    often = torch.bincount(rows, minlength=len(labels))
    assert often[:900].max() <= 1
    assert set(often[900:1000].tolist()) == {2, 3}
    assert not torch.equal(rows, epoch_rows(labels, 0.5, torch.Generator().manual_seed(1)))
    assert torch.equal(rows, epoch_rows(labels, 0.5, torch.Generator().manual_seed(0)))


def test_without_imbalance_each_image_comes_once_in_the_order_of_before() -> None:
    labels = torch.tensor([0, 1] * 50)
    rows = epoch_rows(labels, 1.0, torch.Generator().manual_seed(3))
    assert torch.equal(rows, torch.randperm(100, generator=torch.Generator().manual_seed(3)))


def test_every_second_image_is_mirrored() -> None:
    images = torch.zeros(400, 9, 9, 1, dtype=torch.uint8)
    images[:, 4, 1] = 255
    moved = augment(images, draw_maps(len(images), torch.Generator().manual_seed(0), **STILL, flip=True))
    where = moved[:, 4, :, 0].argmax(1)
    assert set(where.tolist()) == {1, 7}
    assert 150 < int((where == 7).sum()) < 250


Write = Callable[[dict[str, Callable[[np.random.Generator], NDArray[np.uint8]]]], tuple[Split, Split]]


@pytest.fixture
def write(volumes: Path) -> Write:
    """Splits of 60 images a class, drawn by a function for each."""

    def write(classes: dict[str, Callable[[np.random.Generator], NDArray[np.uint8]]]) -> tuple[Split, Split]:
        random = np.random.default_rng(0)
        for label, drawn in classes.items():
            folder = volumes / "data/images/train" / label
            folder.mkdir(parents=True)
            for number in range(60):
                Image.fromarray(drawn(random)).save(folder / f"{number}.png")
        ids = preprocess({**FOLDER, "near_copy": 0.0})
        return read_split(ids["train"]), read_split(ids["validation"])

    return write


def bar(left: int, right: int, top: int = 4) -> Callable[[np.random.Generator], NDArray[np.uint8]]:
    """A bright block between columns on a noisy ground, so that a mirrored one is one on the other side."""

    def drawn(random: np.random.Generator) -> NDArray[np.uint8]:
        image = random.integers(0, 60, (28, 28), np.uint8)
        image[top : top + 8, left:right] += 150
        return image

    return drawn


def test_left_and_right_do_not_survive_mirroring(write: Write) -> None:
    found = look(*write({"left": bar(0, 10), "right": bar(18, 28)}))
    assert (found.as_they_are, found.survive) == (1.0, False)
    assert found.mirrored < 0.1


def test_the_loss_has_the_scale_and_margin_that_were_chosen(write: Write) -> None:
    split, _ = write({"upper": bar(4, 24, 2), "lower": bar(4, 24, 18)})
    chosen = numbers(AUTO.model_copy(update={"scale": 9.0, "margin": 0.1}), len(split), GREY)
    loss = new_learner(split, AUTO, chosen, weights=None).arcface
    assert (loss.scale, loss.margin) == (9.0, 0.1)


def test_upper_and_lower_survive_mirroring(write: Write) -> None:
    found = look(*write({"upper": bar(4, 24, 2), "lower": bar(4, 24, 18)}))
    assert (found.as_they_are, found.mirrored, found.survive) == (1.0, 1.0, True)


def test_one_pair_of_classes_that_does_not_survive_is_enough(write: Write) -> None:
    others = {f"row {row}": bar(4, 24, 2 * row) for row in range(10)}
    found = look(*write({**others, "left": bar(0, 10), "right": bar(18, 28)}))
    assert found.mirrored > 0.8 * found.as_they_are
    assert not found.survive


def test_where_neighbours_tell_nothing_images_are_not_mirrored(write: Write) -> None:
    def noise(random: np.random.Generator) -> NDArray[np.uint8]:
        return random.integers(0, 256, (28, 28), np.uint8)

    assert not look(*write({"a": noise, "b": noise})).survive


def test_digits_are_not_mirrored(volumes: Path) -> None:
    ids = preprocess(PARAMS["data"])
    found = look(read_split(ids["train"]), read_split(ids["validation"]))
    assert found.as_they_are > 0.8
    assert not found.survive


def test_a_class_of_two_images_is_learned_and_tested(volumes: Path) -> None:
    write_images(volumes / "data/images/train", {"one": "1", "two": "2"}, count=40)
    write_images(volumes / "data/images/train", {"three": "3"}, count=2)
    ids = preprocess(FOLDER)
    classes = {name: read_split(id).classes for name, id in ids.items()}
    assert [name for name in ("train", "test") if "three" not in classes[name]] == []
    others = {"source": "folder", "factory": "auto", "embedding_size": 64, "allow_lost_classes": []}
    assert validate(ids, FOLDER, PARAMS["validate"], **others)
    network = train(ids["train"], ids["validation"], {**PARAMS["train"], "epochs": 1})
    made = find(model_volume(), "network", network)
    assert made is not None
    assert made.facts["class_power"] == 0.5
    assert made.manifest["parameters"]["class_power"] == "auto"


def test_what_was_chosen_is_in_the_manifest_and_decides_the_id(
    volumes: Path, few_digits: None, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = preprocess(PARAMS["data"])
    given = {**PARAMS["train"], "epochs": 1, "widths": [8]}
    network = train(ids["train"], ids["validation"], given)
    made = find(model_volume(), "network", network)
    assert made is not None
    wanted = {"epochs": 1, "batch_size": 32, "widths": [8], "class_power": 1.0, "flip": True}  # zeros and ones
    assert {name: made.facts[name] for name in wanted} == wanted
    assert {name: made.facts[name] for name in ("image_size", "channels")} == {"image_size": 28, "channels": 1}
    assert made.manifest["parameters"]["batch_size"] == 32
    assert '"made": "1 epochs, batches of 32, mirrored, ' in capsys.readouterr().out
    assert train(ids["train"], ids["validation"], {**given, "batch_size": 32}) == network


@pytest.mark.slow
def test_classes_that_differ_in_colour_alone_are_told_apart_unless_grey_is_forced(volumes: Path) -> None:
    random = np.random.default_rng(0)
    for label, colour in (("green", (40, 122, 40)), ("red", (200, 40, 40))):  # the same grey
        (volumes / "data/images/train" / label).mkdir(parents=True)
        for number in range(100):
            image = np.full((24, 24, 3), 255, np.uint8)
            top, left = random.integers(0, 14, 2)
            image[top : top + 10, left : left + 10] = colour
            Image.fromarray(image).save(volumes / "data/images/train" / label / f"{number}.png")

    def accuracy(**data: Any) -> float:
        ids = preprocess({**FOLDER, "near_copy": 0.0, **data})
        made = find(model_volume(), "network", train(ids["train"], ids["validation"], PARAMS["train"]))
        assert made is not None
        gallery, test, network = read_split(ids["gallery"]), read_split(ids["test"]), load_network(made.path)
        cosines = (
            embed_images(network, test.images, 100).embeddings @ embed_images(network, gallery.images, 100).embeddings.T
        )
        return float((gallery.labels[cosines.argmax(1)] == test.labels).mean())

    assert accuracy() == 1.0
    assert accuracy(channels=1) < 0.75
