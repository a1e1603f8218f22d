"""Starts a run on Kubeflow as the last one was: reads experiments and runs of a server, and creates one run."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from contract.errors import InputError, ProjectError
from steps.common.http import ForeignAnswerError, Http, NoAnswerError, content, parted

_PAGE = 50
_ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
_COPIED = ("experiment_id", "pipeline_version_reference", "runtime_config", "service_account")


class RunNotStartedError(ProjectError):
    """The server refuses, or does not answer; the message says what it said."""


@dataclass(frozen=True)
class Server:
    """Kubeflow Pipelines.

    Attributes:
        host: Its address.
        token: A bearer token; None on a server without authentication.
        namespace: The pipeline's namespace on a multi-user server; None on another.
        backoff: Seconds before the first repetition of a request.
    """

    host: str
    token: str | None
    namespace: str | None
    backoff: float = 1.0


def start_run(server: Server, experiment: str, cooldown: timedelta, now: datetime) -> str:
    """Start a run with the version, the parameters and the account of the last one, unless it is too early.

    What the server knows decides that, and no file of ours: so a run that a person or a schedule started counts, too.

    Args:
        server: The server.
        experiment: The name of the experiment, which is that of the project.
        cooldown: The shortest time from the last run's start to the next.
        now: The time.

    Returns:
        What was done, in a sentence.

    Raises:
        RunNotStartedError: The server refuses or does not answer.
        InputError: The address cannot be used.
    """
    api = _Api(server)
    found = next((each for each in api.all("experiments") if each.get("display_name") == experiment), None)
    newest = api.runs(found["experiment_id"]) if found else []
    if not newest:
        return f"no run is started: there is no run of {experiment!r} to repeat; make submit makes the first"
    if running := next((run for run in newest if run.get("state") not in _ENDED), None):
        return f"no run is started: {running.get('display_name')} is in progress"
    last = newest[0]
    began = datetime.fromisoformat(last["created_at"])
    if now - began < cooldown:
        hours = cooldown.total_seconds() / 3600
        return f"no run is started: the last began at {began:%Y-%m-%d %H:%M}, less than {hours:g} hours ago"
    new = {key: last[key] for key in _COPIED if key in last}
    name = f"{experiment} drift {now:%Y-%m-%d %H:%M}"
    return f"started {api.create({**new, 'display_name': name, 'description': f'drift {uuid.uuid4().hex}'})}: {name}"


class _Api:
    def __init__(self, server: Server) -> None:
        self._host, login = parted("KFP_HOST", server.host)
        self._http = Http(token=server.token, login=login, backoff=server.backoff)
        self._scope = {"namespace": server.namespace} if server.namespace else {}

    def all(self, kind: str) -> Iterator[dict[str, Any]]:
        """Every object of a kind, from all pages of its list."""
        token = ""
        while True:
            answer = self._ask("GET", kind, params={**self._scope, "page_size": _PAGE, "page_token": token})
            yield from answer.get(kind) or ()
            token = answer.get("next_page_token") or ""
            if not token:
                return

    def runs(self, experiment_id: str) -> list[dict[str, Any]]:
        """The newest runs of an experiment, the newest first."""
        asked = {**self._scope, "experiment_id": experiment_id, "page_size": _PAGE, "sort_by": "created_at desc"}
        return list(self._ask("GET", "runs", params=asked).get("runs") or ())

    def create(self, run: dict[str, Any]) -> str:
        """Start a run, and return its id."""
        return str(self._ask("POST", "runs", json=run).get("run_id"))

    def _ask(self, method: str, kind: str, **more: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, f"{self._host}/apis/v2beta1/{kind}", **more)
            said = content(answer)
        except (NoAnswerError, ForeignAnswerError) as error:
            raise RunNotStartedError(f"{self._host} is no Kubeflow Pipelines server that answers: {error}") from error
        if not answer.is_success:
            told = said.get("message") or said.get("error") or answer.reason_phrase
            raise RunNotStartedError(f"{self._host} refuses to {_VERBS[method]} {kind} ({answer.status_code}: {told})")
        return said


_VERBS = {"GET": "list", "POST": "create"}


def token_of(path: str | None) -> str | None:
    """The token in a file, such as that of a pod's account; None without a file.

    Args:
        path: The file.

    Returns:
        The token.

    Raises:
        InputError: The file cannot be read.
    """
    if not path:
        return None
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip() or None
    except (OSError, ValueError) as error:
        raise InputError(f"the token in {path} cannot be read: {error}") from error
