"""The loop from end to end: a class that the model was never shown is noticed, labelled, learned, and served."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from contract.loop import collected
from contract.paths import ROOT
from serving import client
from tests.support.examples import OPEN_GATE, write_images
from tests.support.pipeline_run import last_line, run
from tests.support.review_start import Review
from tests.support.serving_start import Start
from tests.support.visit import CHROMIUM, Visit

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")]
OLD = {str(digit): str(digit) for digit in range(9)}
CHANGE: dict[str, dict[str, Any]] = {"data": {"source": "folder"}, "train": {"epochs": 6}, "gate": OPEN_GATE}
REVIEWED = 30


def send(server: Start, name: str, files: list[Path]) -> Counter[str]:
    """The labels of the answers."""
    url = f"http://127.0.0.1:{server.port}/predictions/{name}"
    answers = [client.predict(url, path.read_bytes()) for path in files]
    assert {status for status, _ in answers} == {200}
    return Counter(answer["label"] for _, answer in answers)


def label(visit: Visit, digit: str) -> None:
    """Give the image that is shown a label, by the keyboard."""
    visit.page.keyboard.press("/")
    visit.page.keyboard.type(digit)
    if digit not in [text.partition(" ")[2] for text in visit.page.locator("#choices button").all_inner_texts()]:
        visit.page.keyboard.press("Enter")
        expect(visit.page.locator("#status")).to_contain_text("is a new label")
    visit.press("Enter")


def test_a_digit_that_the_model_never_saw_is_noticed_labelled_learned_and_served(
    browser: Browser, tmp_path: Path
) -> None:
    volumes = tmp_path / "volumes"
    write_images(volumes / "data/images/train", OLD, count=120)
    write_images(tmp_path / "sent", OLD, first=120, count=5)
    write_images(tmp_path / "sent", {"9": "9"}, count=110)
    write_images(tmp_path / "later", {"9": "9"}, first=110, count=60)
    truth = {hashlib.sha256(path.read_bytes()).hexdigest(): path.parent.name for path in tmp_path.glob("sent/*/*")}
    assert last_line(run(volumes, CHANGE)).startswith("DEPLOYED ")
    pointer = json.loads((volumes / "deploy-model/current.json").read_text())
    with Start(volumes, tmp_path, SERVING_COLLECT="share=1.0") as server:
        server.until_ready()
        answered = send(server, pointer["name"], sorted(tmp_path.glob("sent/9/*")))
        assert answered["9"] == 0
        send(server, pointer["name"], sorted(tmp_path.glob("sent/[0-8]/*")))
        server.until(lambda: len(list(collected.read_all(volumes / "collect"))) == len(truth))
        kept = list(collected.read_all(volumes / "collect"))
        assert sum(each.label == "unknown" for each in kept) == answered["unknown"] + sum(
            each.label == "unknown" and truth[each.digest] != "9" for each in kept
        )
        command = [sys.executable, "-m", "pipeline", "drift", "--volumes", volumes, "--json"]
        command += ["--params", tmp_path / "params.yaml"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode in (3, 4), done.stdout + done.stderr
        assert json.loads(done.stdout)["word"] in ("watch", "retrain")

        with Review(volumes) as review:
            visit, nines = Visit(browser, review.address), 0
            while nines < REVIEWED:
                while not visit.page.locator("#one").is_visible():
                    visit.press("]")  # the next list
                shown = str(visit.page.locator("#picture").get_attribute("src")).rpartition("/")[2]
                label(visit, truth[shown])
                nines += truth[shown] == "9"
            visit.close(review.address.partition("?")[0])
        assert len(list((volumes / "data/images/train/9").iterdir())) == REVIEWED

        assert last_line(run(volumes, CHANGE)).startswith("DEPLOYED ")
        new = json.loads((volumes / "deploy-model/current.json").read_text())["version"]
        assert new != pointer["version"]
        server.until(lambda: f"to {new}" in server.output())
        learned = send(server, pointer["name"], sorted(tmp_path.glob("later/9/*")))
    assert learned["9"] > 30, learned  # a class that was learned badly is still right far more often than by chance
