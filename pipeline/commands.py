"""The commands that need no Kubeflow: they read the settings, call the module with the work, and print its result."""

import os
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from contract.loop.collecting import VARIABLE
from contract.paths import ROOT
from pipeline.settings import load_params, load_project

if TYPE_CHECKING:
    from rich.console import Console

# Each function imports what its command needs: kfp alone takes half a second, and wrong settings need none of it.


def run(options: Namespace) -> int:
    """Run the pipeline on this machine."""
    project, params = load_project(options.project), load_params(options.params)

    from pipeline.local.run import run

    result = run(project, params, options.volumes, _console(), docker=options.runner == "docker", images=options.images)
    print(result.outcome)
    return 0


def splits(options: Namespace) -> int:
    """Show how the images of the source are split."""
    params = load_params(options.params)

    from pipeline.local.splits import show_splits

    show_splits(params, options.volumes, _console(), as_json=options.json)
    return 0


def runs(options: Namespace) -> int:
    """List the runs that the volumes remember."""
    from pipeline.local.show_history import show_runs

    show_runs(options.volumes, _console(), as_json=options.json, page=options.html)
    return 0


def diff(options: Namespace) -> int:
    """Show two runs side by side."""
    from pipeline.local.show_history import show_diff

    show_diff(options.volumes, options.a, options.b, _console(), as_json=options.json, page=options.html)
    return 0


def drift(options: Namespace) -> int:
    """Tell whether what is served has changed."""
    params = load_params(options.params)

    from pipeline.loop.drift import show_drift

    os.environ["VOLUMES"] = str(options.volumes.absolute())
    return show_drift(params.drift, options.metrics, _console(), as_json=options.json, page=options.html)


def notify_new_data(options: Namespace) -> int:
    """Tell GitHub that there are new data."""
    from pipeline.loop.notify import notify

    print(notify({"reason": options.reason} if options.reason else {}))
    return 0


def watch(options: Namespace) -> int:
    """Run the pipeline here whenever the data change."""
    load_project(options.project), load_params(options.params)

    from pipeline.loop.watch import watch

    watch(options.project, options.params, options.volumes, options.seconds)
    return 0


def tune(options: Namespace) -> int:
    """Search for better parameters of training."""
    params = load_params(options.params)

    from pipeline.local.tune import tune

    tune(params, options.volumes, _console(), trials=options.trials, minutes=options.minutes)
    return 0


def curve(options: Namespace) -> int:
    """Train on parts of the data, and show whether more would help."""
    params = load_params(options.params)

    from pipeline.local.curve import curve

    curve(params, options.volumes, _console())
    return 0


def gc(options: Namespace) -> int:
    """Show or delete what nothing on the volumes needs any more."""
    params = load_params(options.params)

    from steps.deploy.gc.command import gc as collect

    os.environ["VOLUMES"] = str(options.volumes.absolute())
    print(collect(params.gc.keep_days, yes=options.yes, as_json=options.json))
    return 0


def images(options: Namespace) -> int:
    """Build the images that this machine's Docker lacks."""
    project, console = load_project(options.project), _console()

    from pipeline.images.build import build_images
    from pipeline.images.tag import NAMES

    console.print(build_images(project, [options.name] if options.name else NAMES, console).table())
    return 0


def push(options: Namespace) -> int:
    """Push the images that the registry lacks."""
    project, console = load_project(options.project), _console()

    from pipeline.images.build import push_images
    from pipeline.images.tag import NAMES

    console.print(push_images(project, [options.name] if options.name else NAMES, console).table())
    return 0


def serve(options: Namespace) -> int:
    """Serve the model, in place of this process."""
    collect = load_params(options.params).serving.collect
    # Whoever sets the variable means this server.
    limits = os.environ.get(VARIABLE) or (collect.text() if collect.enabled else "")

    if options.runner == "docker":
        from pipeline.local.serve import serve

        serve(load_project(options.project), options.volumes, options.port, _console(), limits)
    words = ["-m", "serving", "start", "--volumes", str(options.volumes), "--port", str(options.port)]
    os.execve(sys.executable, [sys.executable, *words], {**os.environ, VARIABLE: limits})  # noqa: S606


def review(options: Namespace) -> int:
    """Serve the page on which collected images get labels."""
    params = load_params(options.params)

    from pipeline.loop.review.command import review

    review(params, options.volumes, options.port)
    return 0


def compile(options: Namespace) -> int:
    """Write the pipeline's package."""
    project, params = load_project(options.project), load_params(options.params)

    from pipeline.kubeflow.compile import write_package
    from pipeline.pipeline import arguments

    write_package(project, options.output, arguments(project, params))
    print(f"{options.output}: the pipeline {project.name}")
    return 0


def login(options: Namespace) -> int:
    """Log Docker in to the registry."""
    project = load_project(options.project)

    from pipeline.images.login import login

    print(login(project))
    return 0


def missing(options: Namespace) -> int:
    """Print the names of the images that the registry lacks, for CI."""
    project = load_project(options.project)

    from pipeline.images.build import missing
    from pipeline.images.matrix import write_matrix

    write_matrix(missing(project))
    return 0


def compare(options: Namespace) -> int:
    """Compare this model with the model of another revision."""
    from pipeline.local.compare import compare

    print(compare(options.base, options.volumes), end="")
    return 0


def lock(_: Namespace) -> int:
    """Resolve every requirements.in into its lock."""
    from pipeline.images.lock import lock

    lock()
    return 0


def pin(options: Namespace) -> int:
    """Write the images into infra/."""
    project = load_project(options.project)

    from pipeline.images.kustomization import pin

    for path in pin(project):
        print(f"{path.relative_to(ROOT)}: pinned")
    return 0


def _console() -> "Console":
    from rich.console import Console

    return Console(file=sys.stdout)
