"""The second index: its coreset, its projection, and the sample of a large gallery that it is made of."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from steps.common.models import features_index, sample
from steps.common.models.features_index import build, load
from steps.common.models.outputs import Outputs, Served, rooted
from tests.support.pixels import Pixels


def vectors(count: int, size: int = 200, rank: int = 200) -> NDArray[np.float16]:
    """Vectors of length one, float16 [N, size], that lie in a space of so many dimensions."""
    draw = np.random.default_rng(0)
    found = draw.standard_normal((count, rank)) @ draw.standard_normal((rank, size))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def test_a_gallery_that_fits_is_held_whole() -> None:
    known = vectors(300, rank=20)
    index = build(known)
    assert (index.axes.shape, index.known.shape) == ((200, 128), (128, 300))
    assert np.abs(index.distances(known)).max() < 2e-3


def test_what_lies_outside_the_space_of_what_is_known_is_far() -> None:
    index = build(vectors(300, rank=20))
    other = np.random.default_rng(1).standard_normal((50, 200))
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    assert index.distances(other.astype(np.float16)).min() > 0.5


def test_of_a_large_gallery_vectors_near_to_all_others_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_index, "CORESET", 40)
    centres = vectors(40)
    near = centres.astype(np.float32).repeat(50, axis=0)
    near += 0.01 * np.random.default_rng(0).standard_normal(near.shape)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    heaps = near.astype(np.float16)
    index = build(heaps[np.random.default_rng(1).permutation(len(heaps))])
    assert index.known.shape[1] == 40
    assert index.distances(heaps).max() < 0.1, "one of each heap is held"


def test_an_index_is_the_same_after_it_was_stored(tmp_path: Path) -> None:
    known = vectors(100)
    index = build(known)
    index.save(tmp_path / "features.npz")
    assert load(tmp_path / "features.npz").distances(known).tobytes() == index.distances(known).tobytes()
    with zipfile.ZipFile(tmp_path / "features.npz") as archive:  # what writers of some Pythons add makes other bytes
        assert {(each.extra, each.extract_version, each.flag_bits) for each in archive.infolist()} == {(b"", 20, 0)}


@pytest.mark.parametrize(
    "matrices",
    [
        {},
        {"axes": np.eye(4, dtype=np.float32)},
        {"axes": np.eye(4, dtype=np.float32), "known": np.eye(3, dtype=np.float32)},
        {"axes": np.eye(4, dtype=np.float32), "known": np.zeros((4, 0), np.float32)},
        {"axes": np.eye(4), "known": np.eye(4)},
        {"axes": np.zeros(4, np.float32), "known": np.eye(4, dtype=np.float32)},
    ],
)
def test_other_matrices_are_refused(tmp_path: Path, matrices: dict[str, Any]) -> None:
    np.savez(tmp_path / "features.npz", **matrices, is_signed=np.bool_(True))
    with pytest.raises(ValueError, match=r"features\.npz holds"):
        load(tmp_path / "features.npz")


def test_few_or_equal_features_are_an_index_too() -> None:
    for known in (vectors(1), np.tile(vectors(1), (5, 1))):
        assert build(known).distances(vectors(1))[0] == pytest.approx(0, abs=2e-3)


def test_features_are_rooted_with_their_signs_at_length_one() -> None:
    found = rooted(torch.tensor([[4.0, -9.0, 0.0], [0.0, 0.0, 0.0]])).numpy()
    assert found[0] == pytest.approx(np.array([2.0, -3.0, 0.0]) / np.sqrt(13))
    assert found[1].tolist() == [0, 0, 0]


def test_outputs_are_those_of_the_network() -> None:
    network, images = Pixels(4).requires_grad_(False), torch.arange(8, dtype=torch.uint8).reshape(2, 2, 2, 1)
    embeddings, features = Outputs(network)(images)
    assert torch.equal(embeddings, network(images))
    assert torch.equal(features, rooted(network.features(images)))


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_what_is_served_gives_the_same(scale: float) -> None:
    network = Pixels(4).requires_grad_(False)
    network.scale *= torch.tensor([1.0, 1.0, scale, scale])
    images = torch.randint(0, 256, (50, 2, 2, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[0] = 0
    embeddings, features = Outputs(network)(images)
    index = build(features[:10].half().numpy())
    assert index.is_signed == (scale < 0)
    served = Served(network, *map(torch.from_numpy, (index.axes, index.known)), is_signed=bool(index.is_signed))
    again, found = served(images)
    assert again.numpy() == pytest.approx(embeddings.numpy(), abs=1e-6)
    assert found.numpy() == pytest.approx(index.distances(features.numpy()), abs=1e-5)
    assert found.max() > 0.1


def test_a_small_gallery_is_sampled_whole_and_a_large_one_class_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([0] * 90 + [1] * 8 + [2] * 2)
    keys = [f"{number * 7919 % 100:03}" for number in range(100)]
    assert sample.sample(labels, keys).all()
    monkeypatch.setattr(sample, "MOST", 20)
    chosen = sample.sample(labels, keys)
    assert np.bincount(labels[chosen]).tolist() == [10, 8, 2]
    first = sorted(keys[:90])[:10]
    assert sorted(key for key, one in zip(keys, chosen, strict=True) if one and key in keys[:90]) == first


def test_the_order_of_a_gallery_does_not_matter_and_growth_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "MOST", 20)
    draw = np.random.default_rng(0)
    labels, keys = draw.integers(0, 2, 100), [f"{number:08x}" for number in draw.permutation(100)]

    def chosen(rows: NDArray[np.int64]) -> set[str]:
        found = sample.sample(labels[rows], [keys[row] for row in rows])
        return {keys[row] for row in rows[found]}

    everything = chosen(np.arange(100))
    assert chosen(draw.permutation(100)) == everything
    assert len(chosen(np.arange(90)) & everything) >= 16


def test_every_class_is_in_the_sample_and_a_gallery_without_keys_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "MOST", 3)
    labels = np.arange(10).repeat(5)
    assert np.bincount(labels[sample.sample(labels, [])]).tolist() == [1] * 10
