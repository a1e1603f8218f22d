"""Every factory that is accepted gives cosines; what cannot be made or gives none is refused by name beforehand."""

import json
from pathlib import Path

import faiss
import numpy as np
import pytest

from steps.common.errors import StepError
from steps.common.models.faiss_index import build, check_factory, normalised
from steps.deploy.shape import check_index

KEPT = ["Flat", "IVF16,Flat", "HNSW32", "SQ8", "SQfp16", "SQ4", "IVF16,SQ8", "L2norm,Flat"]
CORRECTED = ["PCA16,Flat", "PCAR32,SQ8", "PCAW16,Flat", "RR32,Flat", "PCA16,L2norm,Flat", "PCA16,IVF8,Flat"]
REFUSED = ["PQ8", "IVF16,PQ8", "OPQ8,PQ8", "HNSW16,PQ8"]


def unit(count: int, size: int) -> np.ndarray:
    vectors = np.random.default_rng(1).standard_normal((count, size)).astype(np.float32)
    found: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


@pytest.mark.parametrize(
    "factory",
    [*KEPT, *CORRECTED, *(pytest.param(factory, marks=pytest.mark.slow) for factory in ("NSG16", "PQ4x4,RFlat"))],
)
def test_what_is_accepted_gives_cosines(factory: str) -> None:
    check_factory(factory, 600, 64)
    vectors = unit(600, 64)
    similarities, _ = build(vectors, factory).search(vectors[:50], 3)
    assert similarities.max() <= 1.05
    assert np.median(np.abs(similarities[:, 0] - 1)) < 0.05


@pytest.mark.parametrize("factory", REFUSED)
def test_a_factory_without_cosines_is_refused_by_name(factory: str) -> None:
    with pytest.raises(StepError, match=f"index.factory is '{factory}', and its similarities are no cosines"):
        check_factory(factory, 600, 64)


@pytest.mark.parametrize("factory", ["nonsense", "", "IVF1000,Flat", "PCA128,Flat"])
def test_what_faiss_cannot_make_is_refused_with_its_reason(factory: str) -> None:
    with pytest.raises(StepError, match="FAISS cannot make that index of 600 embeddings of 64"):
        check_factory(factory, 600, 64)


def test_vectors_are_normalised_after_the_last_transform() -> None:
    assert normalised("PCA16,Flat") == "PCA16,L2norm,Flat"
    assert normalised("OPQ8_32,IVF16,SQ8") == "OPQ8_32,L2norm,IVF16,SQ8"
    assert normalised("PCA16,L2norm,Flat") == "PCA16,L2norm,Flat"
    assert normalised("IVF16,Flat") == "IVF16,Flat"


@pytest.mark.parametrize("kept", [0, 30, -1])
def test_deploy_refuses_an_index_that_ends_early(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "index.faiss"
    faiss.write_index(build(unit(9, 8), "Flat"), str(path))
    (tmp_path / "labels.json").write_text(json.dumps({"classes": ["a"], "gallery": [0] * 9}))
    assert check_index(tmp_path, 8) == 9
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StepError, match="not of its form"):
        check_index(tmp_path, 8)
