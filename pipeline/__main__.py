"""The pipeline's command line: `python -m pipeline <command>`; each Makefile target is a line over it."""

import argparse
import os
import sys
from operator import attrgetter
from pathlib import Path

from contract.paths import ROOT
from pipeline.images.docker import DockerError, DockerMissingError
from pipeline.kubeflow.commands import add_remote_commands
from pipeline.settings import SettingsError, load_params, load_project
from steps.common.errors import StepError

DOCKER = "docker"


def main(words: list[str] | None = None) -> int:
    """Run a command; the exit status is 0 for done, 1 for failed, 2 for wrong input, 130 for interrupted."""
    options = _parser().parse_args(words)
    try:
        status: int = options.command(options)
    except (SettingsError, DockerMissingError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, and another run goes on from there", file=sys.stderr)
        return 130
    return status


def _run(options: argparse.Namespace) -> int:
    project, params = load_project(options.project), load_params(options.params)

    from rich.console import Console

    from pipeline.local.run import run  # kfp takes half a second to import; --help and a wrong setting need none
    from pipeline.outcome import RunError

    try:
        outcome = run(project, params, options.volumes, Console(file=sys.stdout), docker=options.runner == DOCKER)
    except (RunError, StepError, DockerError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{outcome.word} {outcome.reason}")
    return 0


def _images(options: argparse.Namespace) -> int:
    from rich.console import Console

    from pipeline.images import build as images
    from pipeline.images.registry import RegistryError
    from pipeline.images.tag import NAMES

    project, console = load_project(options.project), Console(file=sys.stdout)
    names = [options.name] if options.name else NAMES
    try:
        work = options.work(images)(project, names, console)
    except (DockerError, RegistryError) as error:
        print(error, file=sys.stderr)
        return 1
    console.print(work.table())
    return 0


def _serve(options: argparse.Namespace) -> int:
    """Serve the model that the pointer names in the serving image, until Ctrl-C or SIGTERM."""
    project = load_project(options.project)

    from rich.console import Console

    from pipeline.local.serve import serve
    from serving.pointer import PointerError
    from serving.torchserve.launch import AddressError

    try:
        serve(project, options.volumes, options.port, Console(file=sys.stdout))
    except (PointerError, AddressError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DockerError as error:
        print(error, file=sys.stderr)
    return 1


def _compile(options: argparse.Namespace) -> int:
    """Write the pipeline as the package that Kubeflow takes."""
    project = load_project(options.project)

    from pipeline.kubeflow.compile import write_package

    write_package(project, options.output)
    print(f"{options.output}: the pipeline {project.name}")
    return 0


def _login(options: argparse.Namespace) -> int:
    """Log Docker in to the registry, as $REGISTRY_USER with $REGISTRY_PASSWORD."""
    project = load_project(options.project)

    from pipeline.images.login import login

    try:
        print(login(project))
    except DockerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _compare(options: argparse.Namespace) -> int:
    """Run the pipeline of another revision, then this one's against it, and show how both did."""
    from pipeline.local.compare import compare
    from pipeline.outcome import RunError

    try:
        print(compare(options.base, options.volumes), end="")
    except RunError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _matrix(_: argparse.Namespace) -> int:
    """Print the names of all images as JSON; in GitHub Actions, write them to the outputs of the step."""
    from pipeline.images.matrix import write_matrix

    write_matrix()
    return 0


def _lock(_: argparse.Namespace) -> int:
    """Resolve every requirements.in into the requirements.txt beside it."""
    from pipeline.images.lock import lock

    lock()
    return 0


def _pin(options: argparse.Namespace) -> int:
    """Write this revision's images into infra/torchserve, whose manifests name them by their digest."""
    project = load_project(options.project)

    from pipeline.images.kustomization import pin

    for path in pin(project):
        print(f"{path.relative_to(ROOT)}: pinned")
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
    _add_volumes(run)
    run.add_argument("--params", type=Path, default=Path("params.yaml"), help="how to train (default: params.yaml)")
    run.add_argument(
        "--runner",
        choices=("subprocess", DOCKER),
        default="subprocess",
        help="how the steps run: as processes of this Python, or in containers of their images",
    )
    _add_project(run)
    run.set_defaults(command=_run)
    for name, work, text in (
        ("images", "build_images", "build the images that this machine's Docker lacks"),
        ("push", "push_images", "push the images that the registry lacks, building what is missing here too"),
    ):
        images = commands.add_parser(name, help=text, description=f"{text.capitalize()}; or the one that is named.")
        images.add_argument("name", nargs="?", help="a step, or serving (default: all eight)")
        _add_project(images)
        images.set_defaults(command=_images, work=attrgetter(work))
    serve = commands.add_parser(
        "serve", help="serve the model in the serving image, by Docker", description=_serve.__doc__
    )
    _add_volumes(serve)
    serve.add_argument("--port", type=int, default=8080, help="the port that answers predictions (default: 8080)")
    _add_project(serve)
    serve.set_defaults(command=_serve)
    package = commands.add_parser("compile", help="write the pipeline's package", description=_compile.__doc__)
    package.add_argument(
        "--output", type=Path, default=Path("pipeline.yaml"), help="the package (default: pipeline.yaml)"
    )
    _add_project(package)
    package.set_defaults(command=_compile)
    login = commands.add_parser("login", help="log Docker in to the registry", description=_login.__doc__)
    _add_project(login)
    login.set_defaults(command=_login)
    matrix = commands.add_parser("matrix", help="print the names of the images, for CI", description=_matrix.__doc__)
    matrix.set_defaults(command=_matrix)
    compare = commands.add_parser("compare", help="compare with another revision's model", description=_compare.__doc__)
    compare.add_argument("--base", required=True, help="the other revision, such as origin/master")
    _add_volumes(compare)
    compare.set_defaults(command=_compare)
    add_remote_commands(commands)
    lock = commands.add_parser("lock", help="resolve every requirements.in into its lock", description=_lock.__doc__)
    lock.set_defaults(command=_lock)
    pin = commands.add_parser("pin", help="write the images into infra/torchserve", description=_pin.__doc__)
    _add_project(pin)
    pin.set_defaults(command=_pin)
    return parser


def _add_volumes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--volumes",
        type=Path,
        default=Path(os.environ.get("VOLUMES") or "volumes"),
        help="folder of the volumes data/, model/ and deploy-model/ (default: $VOLUMES, or ./volumes)",
    )


def _add_project(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--project", type=Path, default=Path("project.yaml"), help="who this is (default: project.yaml)"
    )


if __name__ == "__main__":
    sys.exit(main())
