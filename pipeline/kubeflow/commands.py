"""The commands that talk to a Kubeflow server; host, token and namespace come from flags or the environment."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.settings import Params, Project, load_params, load_project

if TYPE_CHECKING:
    from pipeline.kubeflow.client import Kubeflow

_POLL_SECONDS = 10.0


def add_remote_commands(commands: Any) -> None:
    """Add submit, schedule, unschedule, status and doctor."""
    submit = _add(commands, "submit", _submit, "run the pipeline on Kubeflow")
    submit.add_argument("--wait", action="store_true", help="follow the run; the last line is as that of `run`")
    submit.add_argument("--poll", type=_positive, default=_POLL_SECONDS, help="seconds between looks (default: 10)")
    submit.add_argument("--timeout", type=_positive, help="minutes to wait (default: project.yaml's timeout_minutes)")
    schedule = _add(commands, "schedule", _schedule, "let the pipeline run on Kubeflow again and again")
    schedule.add_argument("--cron", required=True, help="when: minute, hour, day, month, day of the week")
    _add(commands, "unschedule", _unschedule, "end what schedule began")
    status = _add(commands, "status", _status, "list the last runs on Kubeflow, with their verdicts")
    _add(commands, "doctor", _doctor, "check what a first push needs")
    status.add_argument("--count", type=int, choices=range(1, 101), default=10, metavar="1-100", help="how many")


def _add(commands: Any, name: str, work: Callable[..., int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=work.__doc__)
    parser.add_argument("--host", help="the server's address (default: $KFP_HOST)")
    parser.add_argument("--token", help="who asks, such as a service account's token (default: $KFP_TOKEN)")
    parser.add_argument("--namespace", help="where, on a server with many users (default: $KFP_NAMESPACE)")
    for file, what in (("project", "who this is"), ("params", "how to train")):
        default = Path(f"{file}.yaml")
        parser.add_argument(f"--{file}", type=Path, default=default, help=f"{what} (default: {default})")
    parser.set_defaults(command=work if work is _doctor else lambda options: _explained(work, options))
    return parser


def _explained(work: Callable[..., int], options: argparse.Namespace) -> int:
    from pipeline.images.registry import RegistryError
    from pipeline.kubeflow.client import KubeflowError

    try:
        return work(options, load_project(options.project), load_params(options.params))
    except (KubeflowError, RegistryError) as error:
        print(error, file=sys.stderr)
        return 2


def _server(options: argparse.Namespace) -> "Kubeflow":
    from pipeline.kubeflow.client import Kubeflow

    given = _given(options)
    server = Kubeflow(given["host"], given["token"], given["namespace"])
    server.check()
    return server


def _given(options: argparse.Namespace) -> dict[str, str | None]:
    names = ("host", "token", "namespace")
    return {name: getattr(options, name) or os.environ.get(f"KFP_{name.upper()}") for name in names}


def _doctor(options: argparse.Namespace) -> int:
    """Check settings, revision, images, Kubeflow, claims and GPUs: a line each, ok or what to do."""
    from pipeline.kubeflow.doctor import examine

    well = True
    for name, found, is_well in examine(options.project, options.params, _given(options)):
        print(f"{'ok' if is_well else 'NOT OK':<6}  {name}: {found}", flush=True)
        well = well and is_well
    return 0 if well else 2


def _submit(options: argparse.Namespace, project: Project, params: Params) -> int:
    """Run this commit's pipeline on Kubeflow, named by the commit; with --wait, until it has ended.

    The last line begins with DEPLOYED, UNCHANGED or REJECTED, and the status is 0 for each.
    """
    from rich.console import Console

    from pipeline.kubeflow.revision import revision

    commit = revision()
    server = _server(options)

    from pipeline.kubeflow.submit import check_claims, check_images, submit, wait
    from pipeline.outcome import RunError  # kfp takes half a second to import; what is refused above needs none

    check_images(project)
    check_claims(server)
    run_id = submit(server, project, params, commit)
    print(f"submitted {commit[:12]}: {server.ui(run_id)}", flush=True)
    if not options.wait:
        return 0
    minutes = options.timeout or project.kubeflow.timeout_minutes
    try:
        outcome = wait(server, run_id, Console(file=sys.stdout), poll=options.poll, deadline=minutes * 60)
    except KeyboardInterrupt:
        return _interrupted(server, run_id)
    except RunError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{outcome.word} {outcome.reason}")
    return 0


def _interrupted(server: "Kubeflow", run_id: str) -> int:
    """Ask whether the run is to end too; without a terminal it goes on."""
    answer = ""
    if sys.stdin.isatty():
        try:
            answer = input("\nStop the run on Kubeflow too? [y/N] ")
        except (EOFError, KeyboardInterrupt):
            print()
    if answer.strip().lower() in ("y", "yes"):
        server.stop(run_id)
        print(f"stopping the run: {server.ui(run_id)}")
    else:
        print(f"the run goes on: {server.ui(run_id)}")
    return 130


def _schedule(options: argparse.Namespace, project: Project, params: Params) -> int:
    """Make or change the one recurring run, of this commit: one run at a time, none made up for later."""
    from pipeline.kubeflow.revision import revision
    from pipeline.kubeflow.schedule import cron, schedule
    from pipeline.kubeflow.submit import check_claims, check_images

    line, commit = cron(options.cron), revision()
    server = _server(options)
    check_images(project)
    check_claims(server)
    print(f"schedule {schedule(server, project, params, commit, line)}: {commit[:12]} at '{options.cron}' (UTC)")
    return 0


def _unschedule(options: argparse.Namespace, project: Project, _: Params) -> int:
    """Remove the recurring run; runs that it started go on."""
    from pipeline.kubeflow.schedule import unschedule

    print("schedule removed" if unschedule(_server(options), project) else "there was no schedule")
    return 0


def _status(options: argparse.Namespace, project: Project, _: Params) -> int:
    """List the last runs on Kubeflow, the newest first: when, which, and how each ended."""
    from pipeline.kubeflow.schedule import last_runs

    rows = list(last_runs(_server(options), project, options.count))
    for when, name, word, reason in rows:
        print(f"{when}  {name}  {word}  {reason}")
    if not rows:
        print(f"no run of {project.name} yet: make submit starts one")
    return 0


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"is {text}; it must be more than 0")
    return value
