"""The pipeline's command line: `python -m pipeline <command>`; each Makefile target is a line over it."""

import argparse
import os
import sys
from pathlib import Path

from pipeline.settings import SettingsError, load_params, load_project
from steps.common.errors import StepError


def main(words: list[str] | None = None) -> int:
    """Run a command; the exit status is 0 for done, 1 for failed, 2 for wrong input, 130 for interrupted."""
    options = _parser().parse_args(words)
    try:
        status: int = options.command(options)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, and another run goes on from there", file=sys.stderr)
        return 130
    return status


def _run(options: argparse.Namespace) -> int:
    project, params = load_project(options.project), load_params(options.params)

    from rich.console import Console

    from pipeline.run import RunError, run  # kfp takes half a second to import; --help and a wrong setting need none

    try:
        outcome = run(project, params, options.volumes, Console(file=sys.stdout))
    except (RunError, StepError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{outcome.word} {outcome.reason}")
    return 0


def _lock(_: argparse.Namespace) -> int:
    """Resolve every requirements.in into the requirements.txt beside it."""
    from pipeline.lock import lock

    lock()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="Train, judge and deploy the model.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run the pipeline on this machine",
        description="Run the pipeline on this machine. Work whose inputs have not changed is not done again. "
        "The last line begins with DEPLOYED, UNCHANGED or REJECTED.",
    )
    run.add_argument(
        "--volumes",
        type=Path,
        default=Path(os.environ.get("VOLUMES") or "volumes"),
        help="folder of the volumes data/, model/ and deploy-model/ (default: $VOLUMES, or ./volumes)",
    )
    run.add_argument("--params", type=Path, default=Path("params.yaml"), help="how to train (default: params.yaml)")
    run.add_argument("--project", type=Path, default=Path("project.yaml"), help="who this is (default: project.yaml)")
    run.set_defaults(command=_run)
    lock = commands.add_parser("lock", help="resolve every requirements.in into its lock", description=_lock.__doc__)
    lock.set_defaults(command=_lock)
    return parser


if __name__ == "__main__":
    sys.exit(main())
