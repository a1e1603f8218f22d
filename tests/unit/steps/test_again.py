"""Steps that are done already: each says that nothing changed, and gives the same id."""

from typing import Any

import pytest

from contract.events import Finished, parse
from steps.embed.embed import embed
from steps.index.index import index
from steps.preprocess.preprocess import preprocess
from steps.train.train import train
from tests.support.examples import PARAMS


def test_what_is_made_is_made_once(model: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    splits = preprocess(PARAMS["data"])
    network = train(splits["train"], splits["validation"], {**PARAMS["train"], "epochs": 2})
    embeddings = embed(splits["gallery"], network, PARAMS["embed"])
    found = {**splits, "network": network, "embeddings": embeddings, "index": index(embeddings, PARAMS["index"])}
    assert found == {key: value for key, value in model.items() if key != "volumes"}
    events = [parse(line) for line in capsys.readouterr().out.splitlines()]
    ended = {event.step: event.unchanged for event in events if isinstance(event, Finished)}
    assert ended == dict.fromkeys(("preprocess", "train", "embed", "index"), True)
