"""Embed and index: unit vectors of the gallery, a FAISS index by factory string, searched by cosine."""

import json
from typing import Any

import faiss
import numpy as np
import pytest
import torch

from steps.common.errors import StepError
from steps.common.images.dataset import read_split
from steps.common.models.embedding import embed_images
from steps.common.models.network import Network
from steps.embed.embed import embed
from steps.index.index import index
from tests.support.examples import PARAMS


def test_embeddings_are_unit_vectors_with_their_labels(model: dict[str, Any]) -> None:
    folder = model["volumes"] / "model/embeddings" / model["embeddings"]
    embeddings = np.load(folder / "embeddings.npy")
    gallery = read_split(model["gallery"])
    features = np.load(folder / "features.npy")
    assert (features.dtype, len(features)) == (np.float16, len(gallery))
    assert np.linalg.norm(features.astype(np.float32), axis=1) == pytest.approx(np.ones(len(gallery)), abs=1e-3)
    assert embeddings.shape == (len(gallery), PARAMS["train"]["embedding_size"])
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(len(gallery)), abs=1e-5)
    labels = json.loads((folder / "labels.json").read_text())
    assert [labels["classes"][i] for i in labels["gallery"]] == [gallery.classes[i] for i in gallery.labels]


def test_a_gpu_embeds_in_float32_as_the_server_does() -> None:
    network = Network(1, [4], 2).eval()
    rounds = []
    network.body.register_forward_pre_hook(lambda *_: rounds.append(torch.backends.cudnn.allow_tf32))
    embed_images(network, np.zeros((3, 8, 8, 1), np.uint8), batch_size=2)
    assert rounds
    assert not any(rounds)
    assert torch.backends.cudnn.allow_tf32, "training goes on as before"


def test_the_first_root_is_of_one_number_which_no_threads_share(monkeypatch: pytest.MonkeyPatch) -> None:
    roots, root = [], torch.Tensor.sqrt

    def counted(tensor: torch.Tensor) -> torch.Tensor:
        roots.append(tensor.numel())
        return root(tensor)

    monkeypatch.setattr(torch.Tensor, "sqrt", counted)
    embed_images(Network(1, [4], 2).eval(), np.zeros((3, 8, 8, 1), np.uint8), batch_size=2)
    assert roots[0] == 1 < len(roots)


def test_the_batch_size_changes_nothing(model: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert embed(model["gallery"], model["network"], {"batch_size": 7}) == model["embeddings"]
    assert '"unchanged": true' in capsys.readouterr().out


def test_the_index_gives_cosines(model: dict[str, Any]) -> None:
    embeddings = np.load(model["volumes"] / "model/embeddings" / model["embeddings"] / "embeddings.npy")
    searched = faiss.read_index(str(model["volumes"] / "model/index" / model["index"] / "index.faiss"))
    cosines, neighbours = searched.search(embeddings[:50], 3)
    wanted = embeddings[:50] @ embeddings.T
    assert cosines[:, 0] == pytest.approx(np.ones(50), abs=1e-5)
    assert cosines == pytest.approx(np.take_along_axis(wanted, neighbours, axis=1), abs=1e-5)


def test_another_factory_string_makes_another_index(model: dict[str, Any]) -> None:
    other = index(model["embeddings"], {"factory": "IVF16,Flat"})
    assert other != model["index"]
    made = faiss.read_index(str(model["volumes"] / "model/index" / other / "index.faiss"))
    assert faiss.extract_index_ivf(made).nlist == 16
    assert made.metric_type == faiss.METRIC_INNER_PRODUCT


@pytest.mark.parametrize("factory", ["Flot", "IVF99999,Flat"])
def test_an_invalid_factory_string_is_named(model: dict[str, Any], factory: str) -> None:
    with pytest.raises(StepError, match=rf"index.factory is '{factory}', and FAISS cannot make that index of \d+"):
        index(model["embeddings"], {"factory": factory})


def test_unknown_and_wrong_parameters_are_named(model: dict[str, Any]) -> None:
    with pytest.raises(StepError, match="parameters of index are wrong: .*factry: Extra inputs are not permitted"):
        index(model["embeddings"], {"factory": "Flat", "factry": "Flat"})
    with pytest.raises(StepError, match="parameters of index are wrong: factory: Field required$"):
        index(model["embeddings"], {})
    with pytest.raises(StepError, match="parameters of index are wrong: parameters: Missing required argument"):
        index(model["embeddings"])
    with pytest.raises(StepError, match="of embed are wrong: batch_size: .*, is 'many'"):
        embed(model["gallery"], model["network"], {"batch_size": "many"})
