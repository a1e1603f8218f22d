"""The index of `auto`: exhaustive for small galleries, else a graph of measured recall; the size alone decides."""

import hashlib
import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from steps.common.models import auto_index, faiss_index
from steps.common.models.auto_index import RECALL, meant
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
    """The artefact of these embeddings, each of a class of its own."""

    def build(folder: Path) -> dict[str, Any]:
        np.save(folder / "embeddings.npy", vectors)
        np.save(folder / "features.npy", vectors[:10].astype(np.float16))
        labels = [f"class of {vector.tobytes().hex()[:16]}" for vector in vectors]
        (folder / "labels.json").write_text(json.dumps({"classes": labels, "gallery": [*range(len(labels))]}))
        return {}

    parameters = {"bytes": hashlib.sha256(vectors.tobytes()).hexdigest()}
    return produce(model_volume(), "embeddings", "embed", parameters=parameters, inputs={}, build=build).id


def labels_agree(id: str) -> bool:
    """Whether each vector of an index has the label that its bytes say."""
    labels = json.loads((model_volume() / "index" / id / "labels.json").read_text())
    _, made = stored(id)
    said = [labels["classes"][number] for number in labels["gallery"]]
    return said == [f"class of {vector.tobytes().hex()[:16]}" for vector in made.reconstruct_n(0, made.ntotal)]


def stored(id: str) -> tuple[dict[str, Any], Any]:
    folder = model_volume() / "index" / id
    facts: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["facts"]
    return facts, faiss.read_index(str(folder / "index.faiss"))


@pytest.mark.parametrize(("size", "most"), [(16, 8_000), (64, 6_250), (256, 1_562)])
def test_the_number_of_vectors_and_their_length_decide(size: int, most: int) -> None:
    assert [meant("auto", count, size) for count in (most, most + 1)] == ["Flat", "HNSW32"]
    assert meant("SQ8", most, size) == "SQ8"


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
    assert made.hnsw.efConstruction > 40, "FAISS's own finds too few neighbours among many alike vectors"
    new = classes(3_500)[3_000:]
    exact = (new @ vectors.T).max(1)
    assert (made.search(new, 1)[0][:, 0] >= exact - 1e-5).mean() > 0.95


def test_the_graph_is_the_same_each_time(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_index, "MOST_FLAT", 32_000)
    vectors = classes(2_000)
    first, again = (faiss.serialize_index(auto_index.build(vectors).index) for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_more_effort_is_made_where_it_is_needed_and_none_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_index, "MOST_FLAT", 0)
    vectors = classes(2_000, 64, spread=3)
    monkeypatch.setattr(auto_index, "_EFFORTS", (1, 512))
    assert auto_index.build(vectors).facts["ef_search"] == 512
    monkeypatch.setattr(auto_index, "_EFFORTS", (1,))
    made = auto_index.build(vectors)
    assert made.facts["factory"] == "Flat"
    assert made.facts["recall_at_1"] < RECALL
    assert isinstance(faiss.downcast_index(made.index), faiss.IndexFlat)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch, volumes: Path) -> list[int]:
    """Every index of `auto` is a graph that is added to; the number of vectors of each that is built anew."""
    monkeypatch.setattr(auto_index, "MOST_FLAT", 0)
    monkeypatch.setattr(auto_index, "CHEAP", 0)
    built: list[int] = []
    build = faiss_index.build

    def counted(vectors: NDArray[np.float32], factory: str, *words: int) -> Any:
        built.extend([len(vectors)] if factory != "Flat" else [])
        return build(vectors, factory, *words)

    monkeypatch.setattr(faiss_index, "build", counted)
    return built


def test_what_is_new_is_added_to_a_large_graph(graphs: list[int]) -> None:
    vectors = classes(1_100)
    first = index(embeddings(vectors[100:]), {"factory": "auto"})
    grown = index(embeddings(vectors), {"factory": "auto"})
    assert graphs == [1_000]
    facts, made = stored(grown)
    assert (facts["added_to"], facts["vectors"]) == (first, 1_100)
    assert facts["recall_at_1"] >= RECALL
    assert labels_agree(first)
    assert labels_agree(grown)
    assert faiss.downcast_index(made).hnsw.efConstruction == faiss.downcast_index(stored(first)[1]).hnsw.efConstruction
    assert made.search(vectors[:100], 1)[0][:, 0] == pytest.approx(np.ones(100), abs=1e-5)


@pytest.mark.parametrize("change", ["one is gone", "too many are new", "all are others", "it is damaged"])
def test_what_cannot_be_added_to_is_built_anew(graphs: list[int], change: str) -> None:
    vectors = classes(1_500)
    first = index(embeddings(vectors[:1_000]), {"factory": "auto"})
    wanted = {
        "one is gone": vectors[1:1_100],
        "too many are new": vectors[:1_201],
        "all are others": -vectors[:1_050],
        "it is damaged": vectors[:1_100],
    }[change]
    if change == "it is damaged":
        file = model_volume() / "index" / first / "index.faiss"
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    made = index(embeddings(wanted), {"factory": "auto"})
    assert graphs == [1_000, len(wanted)]
    assert "added_to" not in stored(made)[0]
    assert labels_agree(made)


def test_a_graph_that_is_cheap_is_built_anew(graphs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_index, "CHEAP", 1_100 * 32)
    vectors = classes(1_100)
    index(embeddings(vectors[:1_000]), {"factory": "auto"})
    index(embeddings(vectors), {"factory": "auto"})
    assert graphs == [1_000, 1_100]
