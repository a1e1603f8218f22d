"""make notify-new-data: what GitHub is sent, and one sentence for each trouble, without the token.

The stand-in is written from GitHub's published definition of its REST API: Create a repository dispatch event.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.paths import ROOT
from pipeline import git as pipeline_git
from pipeline.loop import notify as notifier
from pipeline.loop.notify import EVENT, NotifyError, notify
from tests.support.in_thread import answering

TOKEN = "ghp_NobodyMayRead1t"
REPOSITORY = "someone/digits"


class GitHub:
    """What it received, and what it answers next; without that, what GitHub would."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.trouble: list[int] = []
        self.is_github = True
        self.address = ""

    def answer(self, path: str, headers: Any, body: bytes) -> int:
        self.asked.append(path)
        if self.trouble:
            return self.trouble.pop(0)
        if headers["Authorization"] != f"Bearer {TOKEN}":
            return 401
        if path != f"/repos/{REPOSITORY}/dispatches":
            return 404
        event = json.loads(body)
        is_right = set(event) <= {"event_type", "client_payload"} and 0 < len(event["event_type"]) <= 100
        if not is_right or len(event.get("client_payload", {})) > 10 or "X-GitHub-Api-Version" not in headers:
            return 422
        self.events.append(event)
        return 204


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    one = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status = one.answer(self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            if one.is_github:
                self.send_header("X-GitHub-Request-Id", "1")
            if status == 302:
                self.send_header("Location", "https://login.example/")
            if status != 204:
                self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    one.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("GITHUB_TOKEN", f"{TOKEN}\n")
    monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
    monkeypatch.setenv("GITHUB_API_URL", one.address)
    with answering(server):
        yield one


def refused() -> str:
    """The message of a refusal."""
    with pytest.raises(NotifyError) as raised:
        notify({}, retries=1, backoff=0.01)
    said = str(raised.value)
    assert TOKEN not in said
    assert "\n" not in said
    return said


def test_github_gets_the_event_that_the_workflow_waits_for(github: GitHub) -> None:
    assert notify({"reason": "drift"}) == f"{REPOSITORY} was told of new data: its workflow ct runs"
    assert github.events == [{"event_type": "new-data", "client_payload": {"reason": "drift"}}]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ct.yml").read_text())
    assert workflow[True]["repository_dispatch"]["types"] == [EVENT]  # YAML reads `on` as true


def test_trouble_that_passes_is_tried_again(github: GitHub) -> None:
    github.trouble = [502]
    notify({}, retries=1, backoff=0.01)
    assert len(github.events) == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not accept the token: set GITHUB_TOKEN"),
        (403, "does not let the token do that"),
        (404, "does not know that repository, or the token may not see it"),
        (422, "refuses the event"),
        (418, "fails: try again later"),
    ],
)
def test_each_refusal_has_its_sentence(github: GitHub, status: int, said: str) -> None:
    github.trouble = [status]
    assert said in refused()
    assert len(github.asked) == 1


@pytest.mark.parametrize("status", [200, 302, 404])
def test_what_is_not_github_is_named(github: GitHub, status: int) -> None:
    github.is_github, github.trouble = False, [status]
    assert "is not GitHub's API: see GITHUB_API_URL" in refused()


def test_without_a_token_or_an_answer_nothing_is_sent(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")
    assert "does not answer" in refused()
    monkeypatch.delenv("GITHUB_TOKEN")
    assert "there is no token: set GITHUB_TOKEN" in refused()
    assert github.asked == []


@pytest.mark.parametrize(
    "remote",
    [
        f"https://github.com/{REPOSITORY}.git",
        f"https://{TOKEN}@github.com/{REPOSITORY}",
        f"git@github.com:{REPOSITORY}.git",
        f"ssh://git@github.com:22/{REPOSITORY}/",
    ],
)
def test_the_repository_is_that_of_the_remote(
    github: GitHub, in_repository: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, remote: str
) -> None:
    monkeypatch.delenv("GITHUB_REPOSITORY")
    in_repository(remote)
    notify({})
    assert github.asked == [f"/repos/{REPOSITORY}/dispatches"]


@pytest.mark.parametrize(
    ("remote", "said"),
    [
        ("https://github.example/a/b.git", "set GITHUB_API_URL to https://github.example/api/v3"),
        ("/srv/git/b.git", "is no repository of a server: set GITHUB_REPOSITORY"),
        ("https://github.com/only", "the repository is 'only': set GITHUB_REPOSITORY to owner/name"),
        ("", "has no remote origin: set GITHUB_REPOSITORY to owner/name"),
    ],
)
def test_a_remote_elsewhere_is_named(
    in_repository: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, remote: str, said: str
) -> None:
    for name in ("GITHUB_REPOSITORY", "GITHUB_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    in_repository(remote)
    assert said in refused()


@pytest.fixture
def in_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the project a repository with this remote, or with none."""

    def make(remote: str) -> None:
        subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
        if remote:
            subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True)
        monkeypatch.setattr(pipeline_git, "ROOT", tmp_path)

    assert notifier.git is pipeline_git.git
    return make
