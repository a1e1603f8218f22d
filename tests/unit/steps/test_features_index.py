"""The second index: its coreset, its projection, and the sample of a large gallery that it is made of."""

import faiss
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from steps.common.models import features_index, sample
from steps.common.models.outputs import Outputs, rooted
from tests.support.pixels import Pixels


def vectors(count: int, size: int = 200, rank: int = 200) -> NDArray[np.float16]:
    """Vectors of length one, float16 [N, size], that lie in a space of so many dimensions."""
    draw = np.random.default_rng(0)
    found = draw.standard_normal((count, rank)) @ draw.standard_normal((rank, size))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def distances(index: faiss.Index, features: NDArray[np.float16]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = 1 - index.search(features.astype(np.float32), 1)[0][:, 0]
    return found


def test_a_gallery_that_fits_is_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    known = vectors(300, rank=20)
    index = features_index.build(known)
    assert (index.d, index.ntotal, index.metric_type) == (200, 300, faiss.METRIC_INNER_PRODUCT)
    assert np.abs(distances(index, known)).max() < 2e-3


def test_what_lies_outside_the_space_of_what_is_known_is_far() -> None:
    index = features_index.build(vectors(300, rank=20))
    other = np.random.default_rng(1).standard_normal((50, 200))
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    assert distances(index, other.astype(np.float16)).min() > 0.5


def test_of_a_large_gallery_vectors_near_to_all_others_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_index, "CORESET", 40)
    centres = vectors(40)
    near = centres.astype(np.float32).repeat(50, axis=0)
    near += 0.01 * np.random.default_rng(0).standard_normal(near.shape)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    shuffled = near[np.random.default_rng(1).permutation(len(near))].astype(np.float16)
    index = features_index.build(shuffled)
    assert index.ntotal == 40
    assert distances(index, shuffled).max() < 0.5, "each of the 40 heaps is held"
    held = {int(row) for row in index.search(centres.astype(np.float32), 1)[1][:, 0]}
    assert len(held) == 40


def test_an_index_survives_its_file_and_its_parts(tmp_path: object) -> None:
    known = vectors(100)
    index = faiss.deserialize_index(faiss.serialize_index(features_index.build(known)))
    assert index.search(known.astype(np.float32), 1)[1][:, 0].size == 100


def test_equal_features_of_all_images_are_an_index_too() -> None:
    index = features_index.build(np.tile(vectors(1), (5, 1)))
    assert distances(index, vectors(1))[0] == pytest.approx(0, abs=2e-3)


def test_features_are_rooted_with_their_signs_at_length_one() -> None:
    found = rooted(torch.tensor([[4.0, -9.0, 0.0], [0.0, 0.0, 0.0]])).numpy()
    assert found[0] == pytest.approx(np.array([2.0, -3.0, 0.0]) / np.sqrt(13))
    assert found[1].tolist() == [0, 0, 0]


def test_outputs_are_those_of_the_network() -> None:
    network, images = Pixels(4), torch.arange(8, dtype=torch.uint8).reshape(2, 2, 2, 1)
    embeddings, features = Outputs(network)(images)
    assert torch.equal(embeddings, network(images))
    assert torch.equal(features, rooted(network.features(images)))


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
