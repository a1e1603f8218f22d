"""A running server with the tiny model, one for each file of tests that asks for it."""

from collections.abc import Iterator

import pytest

from serving.log import Log
from serving.server import Server
from tests.support.model_archive import NAME, archive, write_model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    mar = archive(write_model(tmp_path_factory.mktemp("model")), tmp_path_factory.mktemp("store") / "model.mar")
    with Server(mar, NAME, log=Log(tmp_path_factory.mktemp("log") / "torchserve.log")) as running:
        yield running
