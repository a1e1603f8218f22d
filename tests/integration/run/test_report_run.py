"""kfp runs the exit handler: it reports the end of a run to a stand-in of Slack, and cannot change the result."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from pipeline.images.build import references
from pipeline.kubeflow.compile import reporting
from pipeline.local.subprocesses import run_in_subprocesses
from pipeline.pipeline import arguments, build_pipeline
from pipeline.settings import load_params, load_project
from tests.support.in_thread import answering
from tests.support.settings import PARAMS_FILE, PROJECT_FILE

Execute = Callable[..., str]
PROJECT = load_project(PROJECT_FILE)
WITH_WEBHOOK = PROJECT.model_copy(update={"kubeflow": PROJECT.kubeflow.model_copy(update={"webhook_secret": "slack"})})


class Slack:
    """An incoming webhook: accepts only a JSON object with a text, as Slack documents it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.trouble = False

    def answer(self, path: str, kind: str, body: bytes) -> tuple[int, str]:
        if self.trouble:
            return 500, "rollup_error"
        if path != "/services/T0/B0/secret":
            return 404, "no_service"
        if not kind.startswith("application/json"):
            return 400, "invalid_payload"
        try:
            content = json.loads(body)
        except ValueError:
            return 400, "invalid_payload"
        if set(content) != {"text"} or not isinstance(content["text"], str) or not content["text"].strip():
            return 400, "no_text"
        self.told.append(content["text"])
        return 200, "ok"


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slack]:
    made = Slack()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, text = made.answer(self.path, self.headers["Content-Type"], body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    monkeypatch.setenv("WEBHOOK_URL", f"http://127.0.0.1:{server.server_port}/services/T0/B0/secret")
    with answering(server):
        yield made


@pytest.fixture
def execute(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> Execute:
    """Run the pipeline with its exit handler: `execute("run-1", baseline=0.9)` returns the output."""
    for name in ("data", "model", "deploy-model"):
        (volumes / name).mkdir(parents=True)
    params = load_params(PARAMS_FILE)

    def run(run_id: str, baseline: float = 0.0, images: int = 2) -> str:
        monkeypatch.setenv("RUN_ID", run_id)
        given = arguments(WITH_WEBHOOK, params)
        given["train"] = {**given["train"], "epochs": 2}
        given["validate"] = {**given["validate"], "min_images_per_class": images}
        pipeline = build_pipeline(WITH_WEBHOOK, references(WITH_WEBHOOK), around=lambda: reporting(WITH_WEBHOOK))
        output = StringIO()
        gate = {**given["gate"], "worst_class_floor": 0.0, "max_unknown": 1.0}
        run_in_subprocesses(pipeline, {**given, "baseline": baseline, "gate": gate}, output)
        return output.getvalue()

    return run


@pytest.mark.slow
def test_every_end_is_told_and_a_webhook_in_trouble_changes_none(slack: Slack, execute: Execute) -> None:
    execute("run-1")
    assert len(slack.told) == 1
    assert slack.told[0].startswith(f"{PROJECT.name}: SUCCESS ")
    assert slack.told[0].endswith("; there was no champion, run run-1")

    execute("run-2", baseline=1.0)
    assert slack.told[1].startswith(f"{PROJECT.name}: REJECTED ")
    assert "run run-2" in slack.told[1]

    with pytest.raises(RuntimeError):
        execute("run-3", images=100_000)
    assert slack.told[2].startswith(f"{PROJECT.name}: FAILED ")
    assert slack.told[2].endswith("run run-3")

    slack.trouble = True
    assert "the webhook was not told" in execute("run-4", baseline=1.0)
    with pytest.raises(RuntimeError):
        execute("run-5", images=100_000)
    assert len(slack.told) == 3
