"""What stands before a Kubeflow server: login pages, limits of requests, tokens as people have them."""

import logging
import traceback
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import trustme
from rich.console import Console

from contract.errors import ProjectError
from pipeline.images.registry import Registry
from pipeline.kubeflow.client import Kubeflow
from pipeline.kubeflow.errors import KubeflowError, LoginError
from pipeline.kubeflow.submit import submit, wait
from pipeline.outcome import RunError
from tests.stand_ins.kfp import Kfp, look
from tests.stand_ins.kfp_http import Server
from tests.support.kubeflow_project import GATED, PARAMS, PROJECT, Run, made
from tests.support.web import LOGIN_PAGE, Asked, Said, Web

pytestmark = pytest.mark.usefixtures("compiled_once")
HIDDEN = "hidden-as-it-is-a-secret"


@pytest.fixture
def login_page() -> Iterator[Web]:
    """A login page that answers everything with success, as Dex and OAuth2 proxies do."""

    def answer(asked: Asked) -> Said:
        if asked.target.startswith("/auth"):
            return Said(body=LOGIN_PAGE, kind="text/html")
        return Said(302, headers={"Location": "/auth?state=1"})

    with Web(answer) as web:
        yield web


@pytest.mark.parametrize("command", [("submit",), ("status",), ("schedule", "--cron", "0 3 * * *")])
def test_a_login_page_is_not_taken_for_the_server(run: Run, login_page: Web, command: tuple[str, ...]) -> None:
    done = run(*command, KFP_HOST=login_page.url)
    assert (done.returncode, done.stdout) == (2, "")
    said = f"{login_page.url} is not a Kubeflow Pipelines server: it answers with the page 'Log in to Your Account' of "
    assert done.stderr.startswith(f"error: {said}{login_page.url}/auth; set --host or KFP_HOST")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "body",
    [
        *(pytest.param(body, marks=pytest.mark.slow) for body in ("{}", '{"items": []}')),
        '{"multi_user": false, "runs": [{}], "pipelines": null}',
        "[]",
    ],
)
def test_json_of_another_kind_of_server_creates_nothing(body: str) -> None:
    with Web(lambda _: Said(body=body)) as web, pytest.raises(KubeflowError, match="is not a Kubeflow Pipelines"):
        submit(Kubeflow(web.url, None, None, backoff=0.01), PROJECT, PARAMS, "revision")


def test_a_redirect_to_https_says_the_address_to_set() -> None:
    moved = Said(301, headers={"Location": "https://127.0.0.1:9/apis"})
    with Web(lambda _: moved) as web, pytest.raises(KubeflowError, match="does not answer .*refused"):
        Kubeflow(web.url, None, None, backoff=0.001)


@pytest.fixture
def started(server: Server, kfp: Kfp) -> tuple[Kubeflow, str]:
    connected = Kubeflow(f"http://{server.address}", "right", None, backoff=0.01)
    kfp.script = [look("RUNNING", train="RUNNING"), look("SUCCEEDED", **GATED)]
    return connected, submit(connected, PROJECT, PARAMS, "revision")


@pytest.mark.parametrize("status", [*(pytest.param(status, marks=pytest.mark.slow) for status in (408, 425)), 429])
def test_a_server_that_wants_to_be_asked_later_is(started: tuple[Kubeflow, str], kfp: Kfp, status: int) -> None:
    kfp.trouble = [status] * 7  # more than one request is repeated
    assert wait(*started, Console(file=StringIO()), poll=0.01, deadline=60).word == "REJECTED"
    assert kfp.trouble == []


def test_a_creation_is_repeated_when_the_server_wants(server: Server, kfp: Kfp) -> None:
    connected = Kubeflow(f"http://{server.address}", "right", None, backoff=0.01)
    answer, refused = kfp.answer, [425, 429]

    def later(method: str, *rest: Any) -> Any:
        return kfp._said(refused.pop(), "later") if method == "POST" and refused else answer(method, *rest)

    kfp.answer = later  # type: ignore[method-assign]
    submit(connected, PROJECT, PARAMS, "revision")
    assert made(kfp) == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("page", [LOGIN_PAGE, pytest.param("not found", marks=pytest.mark.slow)])
def test_a_login_that_ends_while_waiting_leaves_the_run_watched_by_its_link(
    started: tuple[Kubeflow, str], kfp: Kfp, page: str
) -> None:
    kfp.answer = lambda *_: (200, page)  # type: ignore[method-assign]
    with pytest.raises(RunError) as ended:
        wait(*started, Console(file=StringIO()), poll=0.01, deadline=60)
    assert ended.value.exit_status == 1  # 2 would say that nothing was started
    assert "is not a Kubeflow Pipelines server" in str(ended.value)
    assert str(ended.value).endswith(f"the run goes on: {started[0].ui(started[1])}")


@pytest.mark.parametrize("token", ["right\n", "  right\r\n", "right"])
def test_a_token_from_a_file_is_accepted(server: Server, token: str) -> None:
    Kubeflow(f" http://{server.address}/\n", token, "\n").check()


def test_user_and_password_of_the_address_are_sent_and_not_shown() -> None:
    with Web(lambda _: Said(401)) as web, pytest.raises(LoginError) as refused:
        Kubeflow(web.url.replace("//", f"//me:{HIDDEN}@"), None, None)
    assert HIDDEN not in str(refused.value)
    assert web.asked[0].headers["Authorization"].startswith("Basic ")


@pytest.mark.slow
def test_no_secret_is_in_any_message_log_or_traceback(
    login_page: Web, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))  # read faster than the system's
    with Web(lambda _: Said(401, "{}")) as refusing, Web(lambda _: Said(503, LOGIN_PAGE, kind="text/html")) as failing:
        places = [
            *(login_page.url, refusing.url, failing.url, f"http://{server.address}", "http://127.0.0.1:9"),
            *("https://127.0.0.1:9", f"https://{refusing.address}", "http://[", "ftp://x", "http://x:99999", "x"),
        ]
        hosts = [*places, *(place.replace("//", f"//me:{HIDDEN}@") for place in places), f"me:{HIDDEN}@x"]
        said = []
        for host in hosts:
            for token in (f"{HIDDEN}\n", f"{HIDDEN}\n{HIDDEN}\u00e9", None):
                said.append(failed(lambda: Kubeflow(host, token, None, backoff=0.001, retries=1).check()))  # noqa: B023
    for proxy in (f"http://me:{HIDDEN}@127.0.0.1:9", f"nonsense://me:{HIDDEN}@x", f"http://me:{HIDDEN}@:x"):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        said.append(failed(lambda: Kubeflow("http://kf.invalid", HIDDEN, None, backoff=0.001, retries=1)))
        said.append(failed(lambda: Registry("localhost:1", backoff=0.001).has("localhost:1/a:b")))
    assert [text for text in [*said, caplog.text] if HIDDEN in text] == []


def failed(ask: Callable[[], object]) -> str:
    """The whole traceback of what must fail."""
    try:
        ask()
    except ProjectError:
        return traceback.format_exc()
    pytest.fail("this should have failed")
