"""Reports how a run ended to a webhook, in Slack's format: reads what the run's steps recorded on the model volume.

On Kubeflow RUN_ID names the run, and WEBHOOK_URL is the webhook; elsewhere neither is set, and nothing is recorded.
"""

import json

from contract.environment import Environment
from contract.errors import InputError
from contract.events import Finished, parse
from steps.common.http import Http, secret
from steps.common.volumes import model_volume

_SECONDS = 20
_BACKOFF_SECONDS = 1.0


def report(name: str, state: str, error: str) -> str:
    """Send SUCCESS, REJECTED or FAILED with the reason. An error of the webhook is printed and fails nothing.

    Args:
        name: The project's name.
        state: The state of the run, as Kubeflow has it.
        error: The run's error, if it failed.

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


def _ending(state: str, error: str) -> str:
    run = Environment().run_id or ""
    if state != "SUCCEEDED":
        return f"FAILED ({state}) {error}".strip() + f", run {run}"
    analysis, deployed = _recorded(run, "analyse"), _recorded(run, "deploy")
    verdict = analysis.verdict if analysis else None
    reason = verdict.reason if verdict else "its verdict was not recorded"
    return f"SUCCESS {deployed.version}: {reason}, run {run}" if deployed else f"REJECTED {reason}, run {run}"


def _recorded(run: str, step: str) -> Finished | None:
    """What a step of the run said at its end. An earlier version recorded it without `event` and `step`."""
    try:
        said = json.loads((model_volume() / "runs" / run / f"{step}.json").read_text())
        event = parse(json.dumps({"event": "finished", "step": step, **said}))
    except (OSError, ValueError, TypeError):
        return None
    return event if isinstance(event, Finished) else None
