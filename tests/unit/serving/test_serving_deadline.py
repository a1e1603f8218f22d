"""A request that takes too much CPU time ends its process: the worker, or, if it is repeated, one of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serving.model import deadline, payload
from serving.model.payload import Request
from serving.model.predictor import Predictor
from steps.common.images import decode
from tests.support.model_archive import CLASSES, instances, picture, png, write_model

LATE, DEADLY, BROKEN = (png(picture(0, size=size)) for size in (11, 13, 15))  # by their sizes


def pixels(image: Any, **size: int) -> Any:
    """Decode an image, with a defect for three sizes."""
    while image.width == 11:
        pass
    if image.width == 13:
        os.kill(os.getpid(), signal.SIGSEGV)
    if image.width == 15:
        raise ZeroDivisionError
    return decode.pixels(image, **size)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline of a moment."""
    monkeypatch.setattr(deadline, "CPU_SECONDS", 0.3)


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    decoding: Any = SimpleNamespace(read_header=decode.read_header, pixels=pixels, BadImage=decode.BadImage)
    return Predictor(write_model(tmp_path), decoding, payload, deadline)


def test_repeated_requests_are_answered_one_by_one_and_the_guilty_one_is_refused(predictor: Predictor) -> None:
    two = instances(png(picture(1)), png(picture(3)))
    bodies = [Request(png(picture(2))), Request(LATE), two, Request(b"no image"), Request(DEADLY), Request(BROKEN)]
    answers = predictor.answer(bodies, range(len(bodies)))
    assert [answer.status for answer in answers] == [200, 400, 200, 400, 500, 500]
    rules = [None, "too-slow-to-decode", None, "not-an-image", "internal-error", "internal-error"]
    assert [answer.rule for answer in answers] == rules
    assert answers == [*predictor.answer(bodies[:1]), answers[1], *predictor.answer([two, bodies[3]]), *answers[4:]]
    assert json.loads(answers[1].json)["error"]["message"].startswith("too-slow-to-decode: it takes more than 0.3 s;")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_repeated_request_among_others_is_the_only_one_alone(predictor: Predictor) -> None:
    answers = predictor.answer([Request(png(picture(0))), Request(LATE), Request(png(picture(1)))], [1])
    assert [answer.predictions[0][0] if answer.predictions else answer.rule for answer in answers] == [
        CLASSES[0],
        "too-slow-to-decode",
        CLASSES[1],
    ]


WORKER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import deadline
deadline.CPU_SECONDS = 0.1
deadline.install()
deadline.start()
if sys.argv[2] == "waits":
    time.sleep(0.3)
if sys.argv[2] == "stops":
    deadline.stop()
began = time.process_time()
while time.process_time() - began < (0.02 if sys.argv[2] == "waits" else 0.4):
    sum(range(1000))
"""


@pytest.mark.parametrize(("what", "status"), [("works", -signal.SIGPROF), ("waits", 0), ("stops", 0)])
def test_a_worker_past_its_deadline_ends_with_its_stack(what: str, status: int) -> None:
    words = [sys.executable, "-c", WORKER, str(Path(deadline.__file__).parent), what]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert ('File "<string>"' in done.stderr) == (status != 0)
