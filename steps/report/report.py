"""Reports how a run ended to a webhook, in Slack's format: reads what the run's steps recorded on the model volume.

On Kubeflow RUN_ID names the run, and WEBHOOK_URL is the webhook; elsewhere neither is set, and nothing is recorded.
"""

import json

from contract.environment import Environment
from contract.errors import InputError
from contract.events import Event, Failed, Finished, Settled, Started, parse
from steps.common.http import Http, secret
from steps.common.progress import SETTLED, record_path

_SECONDS = 20
_BACKOFF_SECONDS = 1.0


def report(name: str, state: str, error: str | None) -> str:
    """Send SUCCESS, UNCHANGED, REJECTED or FAILED, and why. An error of the webhook is printed and fails nothing.

    Args:
        name: The project's name.
        state: The state of the run, as Kubeflow has it.
        error: The run's error, where Kubeflow has one: 2.17.0 has none of a step that failed.

    Returns:
        What was sent.
    """
    text = f"{name}: {_ending(state, error)}"
    print(text, flush=True)
    try:
        address = secret("WEBHOOK_URL", Environment().webhook_url) or ""
        answer = Http(seconds=_SECONDS, backoff=_BACKOFF_SECONDS, repeated=("POST",)).request(
            "POST", address, json={"text": text}
        )
        if not answer.is_success:
            print(f"the webhook was not told: it answers with status {answer.status_code}", flush=True)
    except Exception as problem:  # a report that fails must not fail the run
        # Another message may hold the address, which is the secret.
        print(f"the webhook was not told: {problem if isinstance(problem, InputError) else type(problem)}", flush=True)
    return text


def _ending(state: str, error: str | None) -> str:
    run = Environment().run_id or ""
    if state != "SUCCEEDED":
        return f"FAILED {_failure(run) or error or f'its state is {state}, and no step said why'}, run {run}"
    analysis, deployed, settled = (_recorded(run, name) for name in ("analyse", "deploy", SETTLED))
    if isinstance(settled, Settled):
        return f"{settled.outcome}, run {run}"
    verdict = analysis.verdict if isinstance(analysis, Finished) else None
    reason = verdict.reason if verdict else "its verdict was not recorded"
    if isinstance(deployed, Finished):
        return f"SUCCESS {deployed.version}: {reason}, run {run}"
    return f"REJECTED {reason}, run {run}"


def _failure(run: str) -> str:
    """The step that failed, with its sentence; or the one that started and said no more, as when it is killed."""
    names = [path.stem for path in record_path(run, "").parent.glob("[!.]*.json")] if run else []
    events = [_recorded(run, name) for name in sorted(names)]
    for event in events:
        if isinstance(event, Failed):
            return f"{event.step}: {event.error}"
    for event in events:  # shards that another's failure ended are among these
        if isinstance(event, Started):
            return (
                f"{event.step}: it ended without a word, as a step that is killed or needs more memory than its limit"
            )
    return ""


def _recorded(run: str, name: str) -> Event | None:
    """What a step of the run said last. An earlier version recorded the end without `event` and `step`."""
    try:
        said = json.loads(record_path(run, name).read_text())
        return parse(json.dumps({"event": "finished", "step": name, **said}))
    except (OSError, ValueError, TypeError):
        return None
