"""The report of a run's end: the right word and reason reach the webhook, and trouble with it changes nothing."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from contract.events import Verdict
from steps.common import progress
from steps.common.errors import StepError
from steps.report import report as reporter
from steps.report.report import report
from tests.support.in_thread import answering
from tests.support.web import Said, Web

VERDICT = Verdict(accuracy=0.9, worst_label="1", worst_accuracy=0.8, better=True, reason="because")

Told = list[dict[str, Any]]


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch, volumes: Path) -> Iterator[Told]:
    """A webhook of run r1, and what it was told."""
    told: Told = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    monkeypatch.setenv("WEBHOOK_URL", f"http://127.0.0.1:{server.server_port}\n")
    monkeypatch.setenv("RUN_ID", "r1")
    with answering(server):
        yield told


def finish(*steps: str) -> None:
    for step in steps:
        progress.finished(step, made="x", unchanged=False, version="abc", verdict=VERDICT)


@pytest.mark.parametrize(
    ("steps", "state", "text"),
    [
        (("analyse", "deploy"), "SUCCEEDED", "digits: SUCCESS abc: because, run r1"),
        (("analyse",), "SUCCEEDED", "digits: REJECTED because, run r1"),
        (("analyse",), "FAILED", "digits: FAILED no memory, run r1"),
        ((), "CANCELLED", "digits: FAILED no memory, run r1"),
    ],
)
def test_every_end_has_its_word(webhook: Told, steps: tuple[str, ...], state: str, text: str) -> None:
    finish(*steps)
    report("digits", state, "no memory")
    assert webhook == [{"text": text}]


def test_a_failed_run_names_the_step_and_its_sentence(webhook: Told) -> None:
    """Kubeflow Pipelines 2.17.0 gives the exit handler `"error": {}`, which kfp makes None."""
    finish("preprocess")
    with pytest.raises(StepError), progress.running("train"):
        raise StepError("the loss is NaN: lower train.learning_rate")
    report("digits", "FAILED", None)
    assert webhook == [{"text": "digits: FAILED train: the loss is NaN: lower train.learning_rate, run r1"}]


def test_a_killed_step_is_named(webhook: Told) -> None:
    """It wrote that it started, and nothing after that."""
    finish("preprocess")
    running = progress.running("train")
    running.__enter__()
    report("digits", "FAILED", None)
    assert webhook[0]["text"].startswith("digits: FAILED train: it ended without a word, as a step that is killed")


def test_of_shards_the_one_that_failed_says_why(webhook: Told) -> None:
    """Others were ended when it failed, and say nothing."""
    ended = progress.running("decode", record="decode-1")
    ended.__enter__()
    with pytest.raises(StepError), progress.running("decode", record="decode-2"):
        raise StepError("no space left")
    progress.finished("decode", record="decode-3", made="", unchanged=False)
    report("digits", "FAILED", None)
    assert webhook == [{"text": "digits: FAILED decode: no space left, run r1"}]


def test_a_step_that_succeeds_when_tried_again_has_not_failed(webhook: Told) -> None:
    with pytest.raises(StepError), progress.running("analyse"):
        raise StepError("the volume is away")
    finish("analyse", "deploy")
    report("digits", "SUCCEEDED", None)
    assert webhook == [{"text": "digits: SUCCESS abc: because, run r1"}]


def test_a_run_that_nothing_recorded_has_its_state(webhook: Told) -> None:
    report("digits", "FAILED", None)
    assert webhook == [{"text": "digits: FAILED its state is FAILED, and no step said why, run r1"}]


def test_a_run_with_nothing_to_do_says_how_it_ends(webhook: Told) -> None:
    finish("preprocess")
    progress.settled("preprocess", "UNCHANGED abc: because")
    report("digits", "SUCCEEDED", None)
    assert webhook == [{"text": "digits: UNCHANGED abc: because, run r1"}]


def test_a_record_that_cannot_be_written_hides_no_failure(
    webhook: Told, volumes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (volumes / "model").mkdir(parents=True)
    (volumes / "model/runs").write_text("in the way")
    with pytest.raises(StepError, match="no images"), progress.running("preprocess"):
        raise StepError("no images")
    assert '"error": "no images"' in capsys.readouterr().out


def test_another_run_is_another_matter(webhook: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    finish("analyse", "deploy")
    monkeypatch.setenv("RUN_ID", "r2")
    finish("analyse")
    report("digits", "SUCCEEDED", "")
    assert webhook == [{"text": "digits: REJECTED because, run r2"}]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "", None])
def test_a_webhook_in_trouble_changes_nothing(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str | None
) -> None:
    monkeypatch.delenv("RUN_ID", raising=False)
    monkeypatch.delenv("WEBHOOK_URL", raising=False)
    if url is not None:
        monkeypatch.setenv("WEBHOOK_URL", url)
    monkeypatch.setattr(reporter, "_BACKOFF_SECONDS", 0.01)
    report("digits", "SUCCEEDED", "")
    assert "the webhook was not told" in capsys.readouterr().out


def test_a_webhook_is_told_again_and_its_address_is_not_printed(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporter, "_BACKOFF_SECONDS", 0.01)
    answers = [Said(503), Said(429, headers={"Retry-After": "0"}), Said(200, "ok", kind="text/plain")]
    with Web(lambda _: answers.pop(0)) as slack:
        monkeypatch.setenv("WEBHOOK_URL", f"{slack.url}/services/hidden\n")
        report("digits", "SUCCEEDED", "")
        answers += [Said(404)]
        report("digits", "SUCCEEDED", "")
    monkeypatch.setenv("WEBHOOK_URL", "http://hid den/")
    report("digits", "SUCCEEDED", "")
    said = capsys.readouterr()
    assert [asked.target for asked in slack.asked] == ["/services/hidden"] * 4
    assert said.out.count("the webhook was not told") == 2
    assert "answers with status 404" in said.out
    assert "hid" not in said.out + said.err


def test_without_a_run_nothing_is_recorded(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUN_ID", raising=False)
    finish("analyse")
    assert not volumes.exists()
