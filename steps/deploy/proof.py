"""Proves a model archive in TorchServe: reads the MAR, writes nothing."""

import tempfile
from pathlib import Path
from typing import Any

from serving.golden import GoldenError, read_golden
from serving.log import Log
from serving.torchserve.server import TorchServe, TorchServeError
from steps.common.errors import StepError


def prove_archive(mar: Path, name: str) -> list[dict[str, Any]]:
    """Serve the MAR on loopback and ask for its golden predictions, which must equal the answers of the analysis.

    Args:
        mar: the archive.
        name: the model's.

    Returns:
        For each golden image its true label, `expected`, and the answer of the server, `answer`.

    Raises:
        StepError: it does not start, or an answer differs.
    """
    golden = read_golden(mar)
    with tempfile.TemporaryDirectory() as temporary:
        log = Log(Path(temporary, "torchserve.log"))
        try:
            with TorchServe(mar, name, log=log, workers=1) as server:  # two would need half as much again
                answers = server.check()
        except (TorchServeError, GoldenError) as error:
            raise StepError(f"the model does not serve, so it is not deployed: {error}") from error
    return [{"expected": item.true_label, "answer": answer} for item, answer in zip(golden.items, answers, strict=True)]
