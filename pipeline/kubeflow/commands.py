"""The commands that talk to a Kubeflow server: they read the settings, call the module with the work, and print."""

import sys
from argparse import Namespace
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from contract.commands import INTERRUPTED
from contract.errors import InputError
from pipeline.settings import load_params, load_project

if TYPE_CHECKING:
    from pipeline.kubeflow.client import Kubeflow

# Each function imports what its command needs: kfp takes half a second, and what is refused first needs none of it.


def _points_to_doctor(command: Callable[[Namespace], int]) -> Callable[[Namespace], int]:
    """Let a command that is refused before it starts anything say what checks all that it needs."""

    @wraps(command)
    def pointing(options: Namespace) -> int:
        try:
            return command(options)
        except InputError as error:
            error.args = (f"{error} (make doctor checks all that a run needs)",)
            raise

    return pointing


@_points_to_doctor
def submit(options: Namespace) -> int:
    """Run the pipeline on Kubeflow, and wait for its end if asked to."""
    project, params = load_project(options.project), load_params(options.params)

    from rich.console import Console

    from pipeline.kubeflow.revision import revision

    commit = revision()
    server = _connect(options)

    from pipeline.kubeflow.submit import check_cluster, check_images, submit, wait

    check_images(project)
    check_cluster(server, project)
    run_id = submit(server, project, params, commit)
    print(f"submitted {commit[:12]}: {server.ui(run_id)}", flush=True)
    if not options.wait:
        return 0
    seconds = (options.timeout or project.kubeflow.timeout_minutes) * 60
    try:
        outcome = wait(server, run_id, Console(file=sys.stdout), poll=options.poll, deadline=seconds)
    except KeyboardInterrupt:
        return _interrupted(server, run_id)
    print(outcome)
    return 0


@_points_to_doctor
def schedule(options: Namespace) -> int:
    """Create or change the recurring run."""
    project, params = load_project(options.project), load_params(options.params)

    from pipeline.kubeflow.cron import kubeflow_cron
    from pipeline.kubeflow.revision import revision
    from pipeline.kubeflow.schedule import schedule
    from pipeline.kubeflow.submit import check_cluster, check_images

    cron, commit = kubeflow_cron(options.cron), revision()
    server = _connect(options)
    check_images(project)
    check_cluster(server, project)
    change = schedule(server, project, params, commit, cron)
    print(f"schedule {change}: {commit[:12]} at '{options.cron}' (UTC)")
    return 0


def unschedule(options: Namespace) -> int:
    """Remove the recurring run."""
    project = load_project(options.project)

    from pipeline.kubeflow.schedule import unschedule

    removed = unschedule(_connect(options), project, now=options.now)
    print("schedule removed" if removed else "there was no schedule")
    return 0


def status(options: Namespace) -> int:
    """List the last runs on Kubeflow."""
    project = load_project(options.project)

    from pipeline.kubeflow.schedule import last_runs

    rows = list(last_runs(_connect(options), project, options.count))
    for row in rows:
        print("  ".join(row))
    if not rows:
        print(f"no run of {project.name} yet: make submit starts one")
    return 0


def doctor(options: Namespace) -> int:
    """Check what the first push needs."""
    from pipeline.kubeflow.doctor import examine

    healthy = True
    for check in examine(options.project, options.params, options.host, options.token, options.namespace):
        print(f"{'ok' if check.passed else 'NOT OK':<6}  {check.name}: {check.found}", flush=True)
        healthy = healthy and check.passed
    return 0 if healthy else InputError.exit_status


def _connect(options: Namespace) -> "Kubeflow":
    from pipeline.kubeflow.client import Kubeflow

    server = Kubeflow(options.host, options.token, options.namespace)
    server.check()
    return server


def _interrupted(server: "Kubeflow", run_id: str) -> int:
    """Ask whether to stop the run; without a terminal it goes on."""
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
    return INTERRUPTED
