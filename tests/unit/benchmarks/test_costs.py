"""docs/scale.md: its tables follow from the constants that stand in it, by the formulas that it names."""

import math

import pytest
import yaml

from benchmarks.costs.model import Constants, Kind, costs, first_bottleneck
from benchmarks.costs.tables import ADVICE, IMAGES, NODES, PAGE, constants, tables

KIND = Kind(
    channels=1,
    file_bytes=300,
    network_bytes=1_000_000,
    kept_bytes=100,
    decode_images_s=100,
    read_images_s=1e9,
    train_images_s=500,
    embed_images_s=1000,
)
ROUND = Constants(
    cores=2,
    memory_gib=16,
    list_files_s=10_000,
    write_mb_s=100,
    read_mb_s=200,
    hash_mb_s=1e9,
    plan_images_s=5_000,
    near_copies=((10_000, 2.0), (40_000, 12.0)),
    validate_images_s=10_000,
    index_vectors=1000,
    index_vectors_s=1000,
    search_images_s=2000,
    vector_bytes=500,
    split_bytes=100,
    cache_bytes=200,
    name_memory=100,
    plan_memory=1000,
    split_memory=400,
    test_fraction=0.2,
    validation_fraction=0.1,
    embedding_size=64,
    in_memory_mb=2000,
    network_mb_s=100,
    images={28: KIND},
)


def test_the_tables_of_the_page_are_those_of_its_constants() -> None:
    """If a formula or a constant changed: python -m benchmarks costs, and paste."""
    text = PAGE.read_text()
    begin = next(line for line in tables(constants()) if line)
    assert text[text.index(begin) :].rstrip("\n").split("\n") == list(tables(constants()))


def test_what_takes_time_is_divided_by_the_nodes_that_share_it() -> None:
    one, four = (costs(ROUND, 100_000, 28, nodes) for nodes in (1, 4))
    assert list(four) == ["scan", *one]
    assert one["decode"].seconds == {"decoding": 100_000 / (100 * 2)}
    assert four["decode"].seconds == {"listing": 10, "decoding": 100_000 / (100 * 2 * 4)}
    assert one["preprocess"].seconds == {"listing": 10, "planning": 20, "near copies": pytest.approx(20.811, abs=1e-3)}
    assert four["preprocess"] == one["preprocess"]
    # 70,000 images are learned from: by `auto` 24 epochs with batches of 128.
    assert one["train"].seconds["training"] == 24 * 70_000 / (500 * 2)
    assert four["train"].seconds["training"] == one["train"].seconds["training"] / 4
    assert four["train"].seconds["gradients"] == pytest.approx(24 * 70_000 / 128 * 2e6 * 3 / 4 / 1e8)
    assert one["index"].seconds["adding"] == pytest.approx(70 * math.log(70_000) / math.log(1000))
    assert one["index"].memory == 70_000 * (500 + 8 * 64)


def test_a_volume_that_is_too_slow_holds_up_all_nodes() -> None:
    slow = ROUND.model_copy(update={"write_mb_s": 0.01})
    one, four = (costs(slow, 100_000, 28, nodes)["decode"] for nodes in (1, 4))
    assert one.seconds == {"writing pixels": 100_000 * (28 * 28 + 92) / 1e4}
    assert four.seconds["writing pixels"] == one.seconds["writing pixels"]
    assert first_bottleneck(slow, costs(slow, 100_000, 28, 16)) == "decode: writing pixels"


def test_memory_that_a_node_lacks_comes_first() -> None:
    found = costs(ROUND, 10**8, 28, 1)
    assert first_bottleneck(ROUND, found) == "preprocess: memory"
    assert first_bottleneck(ROUND.model_copy(update={"memory_gib": 1e6}), found) == "preprocess: near copies"


def test_every_bottleneck_has_advice() -> None:
    known = {name for names in ADVICE.values() for name in names}
    slowed = [ROUND.model_copy(update={name: 1e-3}) for name, value in ROUND if isinstance(value, float)]
    slowed += [
        ROUND.model_copy(update={"images": {28: KIND.model_copy(update={name: 1e-6})}})
        for name in ("decode_images_s", "read_images_s", "train_images_s", "embed_images_s")
    ]
    reached = {
        first_bottleneck(each, costs(each, images, 28, nodes))
        for each in slowed
        for images in IMAGES
        for nodes in NODES
    }
    parts = {
        f"{step}: {part}"
        for each in slowed
        for step, cost in costs(each, 10**6, 28, 4).items()
        for part in (*cost.seconds, *(["memory"] if cost.memory else []))
    }
    assert len(reached) > 8
    assert reached | parts <= known


@pytest.mark.slow
def test_constants_are_measured_as_the_page_has_them() -> None:
    from benchmarks.costs.constants import measure

    found = measure(images=1000, photos=48, near=(2000, 22_000), volume_bytes=16 << 20)
    written = yaml.safe_load(yaml.safe_dump(found.model_dump(mode="json")))
    assert Constants.model_validate(written) == found
    assert set(found.images) == set(constants().images)
    assert all(value > 0 for kind in found.images.values() for _, value in kind)
    assert list(tables(found))
