"""The pipeline's command line, `python -m pipeline COMMAND`: each Makefile target is a line over it."""

import sys
from pathlib import Path

from contract.commands import Argument, Command, argument, port, positive
from contract.commands import main as run_command

_VOLUMES = argument(
    "--volumes",
    type=Path,
    default="volumes",
    variable="VOLUMES",
    help="folder of the volumes data/, model/ and deploy-model/ (default: $VOLUMES, or ./volumes)",
)
_PROJECT = argument("--project", type=Path, default="project.yaml", help="the project (default: project.yaml)")
_PARAMS = argument("--params", type=Path, default="params.yaml", help="the parameters (default: params.yaml)")
_RUNNERS = ("subprocess", "docker")
_HTML = argument("--html", type=Path, help="write it to this file as a page, too")
_IMAGE = argument("name", nargs="?", help="a step, or serving (default: all eight)")
_SERVER = (
    argument("--host", variable="KFP_HOST", help="the server's address (default: $KFP_HOST)"),
    argument("--token", variable="KFP_TOKEN", help="a bearer token, as of a service account (default: $KFP_TOKEN)"),
    argument("--namespace", variable="KFP_NAMESPACE", help="on a multi-user server (default: $KFP_NAMESPACE)"),
    _PROJECT,
    _PARAMS,
)


def _here(name: str, text: str, *arguments: Argument, description: str | None = None) -> Command:
    return Command(name, text, f"pipeline.commands:{name.replace('-', '_')}", arguments, description)


def _kubeflow(name: str, text: str, *arguments: Argument, description: str | None = None) -> Command:
    return Command(name, text, f"pipeline.kubeflow.commands:{name}", (*_SERVER, *arguments), description)


COMMANDS = (
    _here(
        "run",
        "run the pipeline on this machine",
        _VOLUMES,
        _PARAMS,
        argument(
            "--runner",
            choices=_RUNNERS,
            default=_RUNNERS[0],
            help="how the steps run: as processes of this Python (default), or in containers of their images",
        ),
        argument("--images", type=Path, help="a folder of own images, which are copied to the data volume and used"),
        _PROJECT,
        description="Run the pipeline on this machine. Steps whose inputs have not changed are skipped. The last line "
        "begins with DEPLOYED, UNCHANGED or REJECTED.",
    ),
    _here(
        "splits",
        "show how the images are split, and why",
        _VOLUMES,
        _PARAMS,
        argument("--json", action="store_true", help="print a list of {name, label, split, group, key, why}"),
        description="Show the split of each image of the source, its group, its key and why it is there, and the "
        "counts of each class. Nothing is trained, and no draw is kept.",
    ),
    _here(
        "tune",
        "search for better parameters of training, on validation",
        _VOLUMES,
        _PARAMS,
        argument("--trials", type=int, default=20, help="trials in all, with those of earlier calls (default: 20)"),
        argument("--minutes", type=positive, default=30, help="no trial begins later than this (default: 30)"),
        description="Try values of the parameters of training between the ranges in steps/train/parameters.py, and "
        "print the best. Only the validation split is looked at. Ended at any time, the next call goes on.",
    ),
    _here(
        "curve",
        "train on parts of the images, to see whether more would help",
        _VOLUMES,
        _PARAMS,
        description="Train on 25, 50 and 75 % of the training images and on all, and show the accuracy on validation "
        "of each. That takes two and a half trainings at most. Ended at any time, the next call goes on.",
    ),
    _here(
        "runs",
        "list the runs that the volumes remember",
        _VOLUMES,
        argument("--json", action="store_true", help="print a list with all that is known of each run"),
        _HTML,
        description="List the runs: when each was judged, its accuracy, whether it was deployed, and what changed in "
        "code, libraries, parameters and data since the one before. Runs that failed or found nothing to do are left "
        "out.",
    ),
    _here(
        "diff",
        "show two runs side by side",
        argument("--a", default="", help="the one: the first characters of its id or version (default: that before B)"),
        argument("--b", default="", help="the other (default: the last)"),
        _VOLUMES,
        argument("--json", action="store_true", help="print an object with both, and the comparison"),
        _HTML,
        description="Show the figures of two runs and what is different: code, libraries, parameters, data, classes, "
        "and how many test images each alone answers rightly.",
    ),
    _here(
        "gc",
        "show or delete what nothing on the volumes needs any more",
        _VOLUMES,
        _PARAMS,
        argument("--yes", action="store_true", help="delete it"),
        argument("--json", action="store_true", help="print every item with its reason, as JSON"),
        description="Show what no version and no run of the last gc.keep_days needs, and what deleting it frees; with "
        "--yes, delete it. What a running run uses is kept.",
    ),
    _here(
        "drift",
        "tell whether what is served has changed",
        _VOLUMES,
        _PARAMS,
        argument(
            "--metrics",
            variable="METRICS",
            default="http://127.0.0.1:8082/metrics",
            help="of a running server, where no image was collected (default: $METRICS, or the port of make serve)",
        ),
        argument("--json", action="store_true", help="print an object with the tests and what they say"),
        _HTML,
        description="Compare what was served with what analyse saw on test: collected images, or else the metrics of a "
        "running server. The last line begins with none, watch or retrain, and the exit status is 0, 3 or 4.",
    ),
    _here(
        "notify-new-data",
        "tell GitHub that there are new data",
        argument("--reason", default="", help="what the workflow may read as client_payload.reason"),
        description="Send a repository_dispatch of the type new-data, at which the workflow ct runs. GITHUB_TOKEN is "
        "the token; GITHUB_REPOSITORY the repository, as owner/name, by default that of the remote origin.",
    ),
    _here(
        "watch",
        "run the pipeline here whenever the data change",
        _VOLUMES,
        _PARAMS,
        argument("--seconds", type=positive, default=60.0, help="between two looks (default: 60)"),
        _PROJECT,
        description="Run the pipeline once, and again whenever the images or the parameters change. A run that fails "
        "is tried again later. Ctrl-C ends the watch, and a run in progress with it.",
    ),
    _here("images", "build the images that this machine's Docker lacks", _IMAGE, _PROJECT),
    _here("push", "push the images that the registry lacks, built first where Docker lacks them", _IMAGE, _PROJECT),
    _here(
        "serve",
        "serve the model on this machine",
        _VOLUMES,
        argument("--port", type=int, default=8080, help="the port for predictions (default: 8080)"),
        argument(
            "--runner",
            choices=_RUNNERS,
            default=_RUNNERS[1],
            help="how it is served: as processes of this Python, or in a container of the serving image (default)",
        ),
        _PROJECT,
        _PARAMS,
        description="Serve the model that the pointer names, until Ctrl-C or SIGTERM. serving.collect says whether "
        "images that clients send are kept.",
    ),
    _here(
        "review",
        "label what the server collected, on a page",
        _VOLUMES,
        argument("--port", type=port, default=8090, help="of loopback, 0: any free one (default: 8090)"),
        _PARAMS,
        description="Serve a page on loopback on which collected images get labels, until Ctrl-C or SIGTERM. It prints "
        "the address, whose token nobody else has. The images go to the data volume, which the next run reads.",
    ),
    _here(
        "compile",
        "write the pipeline's package for Kubeflow",
        argument("--output", type=Path, default="pipeline.yaml", help="the package (default: pipeline.yaml)"),
        _PROJECT,
        _PARAMS,
    ),
    _here(
        "login",
        "log Docker in to the registry",
        _PROJECT,
        description="Log Docker in to the registry, as $REGISTRY_USER with $REGISTRY_PASSWORD.",
    ),
    _here(
        "missing",
        "print the images that the registry lacks, for CI",
        _PROJECT,
        description="Print the names of the images that the registry lacks, as JSON; in GitHub Actions, write them to "
        "the outputs of the step, too.",
    ),
    _here(
        "compare",
        "compare this model with the model of another revision",
        argument("--base", required=True, help="the other revision, such as origin/master"),
        _VOLUMES,
        description="Run the pipeline of another revision, then this one's, and show both results.",
    ),
    _kubeflow(
        "submit",
        "run the pipeline on Kubeflow",
        argument("--wait", action="store_true", help="wait for the end; the last line is as that of run"),
        argument("--poll", type=positive, default=10.0, help="seconds between two looks (default: 10)"),
        argument("--timeout", type=positive, help="minutes to wait (default: project.yaml's timeout_minutes)"),
        description="Run the pipeline of the commit that is checked out. With --wait, the last line begins with "
        "DEPLOYED, UNCHANGED or REJECTED, and the exit status is 0 for each.",
    ),
    _kubeflow(
        "schedule",
        "run the pipeline on Kubeflow again and again",
        argument("--cron", required=True, help="when, in UTC: minute, hour, day, month, day of the week"),
        description="Create or change the one recurring run, for the commit that is checked out. Runs never overlap, "
        "and missed runs are skipped.",
    ),
    _kubeflow(
        "unschedule",
        "remove the schedule",
        argument("--now", action="store_true", help="stop a run of it that is in progress"),
        description="Remove the recurring run. While a run of it is in progress, it is disabled only, since Kubernetes "
        "would delete that run's pods with it.",
    ),
    _kubeflow(
        "status",
        "list the last runs on Kubeflow, with their verdicts",
        argument("--count", type=int, choices=range(1, 101), default=10, metavar="1-100", help="how many"),
        description="List the last runs on Kubeflow, the newest first: time, name and result.",
    ),
    _kubeflow(
        "doctor",
        "check what the first push needs",
        description="Check settings, revision, images, Kubeflow, claims, serving and GPUs: a line each, ok or what "
        "to do.",
    ),
    _here("lock", "resolve every requirements.in into its lock"),
    _here(
        "pin",
        "write the images into infra/",
        _PROJECT,
        description="Write this revision's images into infra/, whose manifests name each image by its tag.",
    ),
)


def main(words: list[str] | None = None) -> int:
    """Run a command.

    Args:
        words: The arguments; None takes those of the process.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted.
    """
    return run_command("python -m pipeline", "Train, judge and deploy the model.", COMMANDS, words)


if __name__ == "__main__":
    sys.exit(main())
