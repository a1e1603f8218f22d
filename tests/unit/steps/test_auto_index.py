"""The index of `auto`: exhaustive for small galleries, else a graph of measured recall; the size alone decides."""

import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from steps.common.models import auto_index
from steps.common.models.auto_index import MOST_FLAT, RECALL, meant
from steps.common.store import produce
from steps.common.volumes import model_volume
from steps.index.index import index


def classes(count: int, size: int = 32, spread: float = 0.3) -> NDArray[np.float32]:
    """Vectors of length one around 50 centres."""
    draw = np.random.default_rng(3)
    centres = draw.standard_normal((50, size))
    vectors = centres[draw.integers(0, 50, count)] + spread * draw.standard_normal((count, size))
    made: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


def embeddings(vectors: NDArray[np.float32]) -> str:
    def build(folder: Path) -> dict[str, Any]:
        np.save(folder / "embeddings.npy", vectors)
        (folder / "labels.json").write_text(json.dumps({"classes": ["a"], "gallery": [0] * len(vectors)}))
        return {}

    return produce(
        model_volume(), "embeddings", "embed", parameters={"shape": vectors.shape}, inputs={}, build=build
    ).id


def stored(id: str) -> tuple[dict[str, Any], Any]:
    folder = model_volume() / "index" / id
    facts: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["facts"]
    return facts, faiss.read_index(str(folder / "index.faiss"))


@pytest.mark.parametrize(("count", "kind"), [(MOST_FLAT // 64, "Flat"), (MOST_FLAT // 64 + 1, "HNSW32")])
def test_the_number_of_vectors_and_their_length_decide(count: int, kind: str) -> None:
    assert meant("auto", count, 64) == kind
    assert meant("SQ8", count, 64) == "SQ8"


def test_a_small_gallery_is_searched_exhaustively(volumes: Path) -> None:
    facts, made = stored(index(embeddings(classes(500)), {"factory": "auto"}))
    assert facts == {"vectors": 500, "factory": "Flat"}
    assert isinstance(made, faiss.IndexFlat)


def test_a_large_gallery_gets_a_graph_whose_recall_stands_in_the_manifest(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_index, "MOST_FLAT", 32_000)
    vectors = classes(3_000)
    facts, whole = stored(index(embeddings(vectors), {"factory": "auto"}))
    made = faiss.downcast_index(whole)  # a view, which lives as long as the whole does
    assert (facts["vectors"], facts["factory"]) == (3_000, "HNSW32")
    assert facts["recall_at_1"] >= RECALL
    assert (type(made), made.hnsw.efSearch) == (faiss.IndexHNSWFlat, facts["ef_search"])
    new = classes(3_500)[3_000:]
    exact = (new @ vectors.T).max(1)
    assert (made.search(new, 1)[0][:, 0] >= exact - 1e-5).mean() > 0.95


def test_the_graph_is_the_same_each_time(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_index, "MOST_FLAT", 32_000)
    vectors = classes(2_000)
    first, again = (faiss.serialize_index(auto_index.build(vectors)[0]) for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_more_effort_is_made_where_it_is_needed_and_none_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_index, "MOST_FLAT", 0)
    vectors = classes(2_000, 64, spread=3)
    monkeypatch.setattr(auto_index, "_EFFORTS", (1, 512))
    assert auto_index.build(vectors)[1]["ef_search"] == 512
    monkeypatch.setattr(auto_index, "_EFFORTS", (1,))
    made, facts = auto_index.build(vectors)
    assert facts["factory"] == "Flat"
    assert facts["recall_at_1"] < RECALL
    assert isinstance(faiss.downcast_index(made), faiss.IndexFlat)
