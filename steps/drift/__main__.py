"""The command line within the cluster: `python -m steps.drift check`, which the CronJob drift runs."""

import sys

from contract.commands import Command, argument, positive
from contract.commands import main as run_command

COMMANDS = (
    Command(
        "check",
        "compare what is served with test, and start a run if they differ",
        "steps.drift.commands:check",
        (
            argument("--days", type=int, help="the images of these last days are compared"),
            argument("--min-images", type=int, help="with fewer images no run is started"),
            argument("--significance", type=float, help="chance of a false alarm"),
            argument("--classes", choices=("true", "false"), help="compare the shares of the classes, too"),
            argument("--experiment", required=True, help="the project's name, which its experiment has"),
            argument("--cooldown-hours", type=positive, default=24.0, help="from one run to the next (default: 24)"),
            argument("--host", variable="KFP_HOST", help="Kubeflow's address (default: $KFP_HOST); none: only look"),
            argument("--namespace", variable="KFP_NAMESPACE", help="on a multi-user server (default: $KFP_NAMESPACE)"),
            argument("--token-file", variable="KFP_TOKEN_FILE", help="a bearer token (default: $KFP_TOKEN_FILE)"),
        ),
        "Compare what is served with what analyse saw on test. If the answer is retrain, start a run on Kubeflow as "
        "the last one was, unless one is in progress or the last began too short a time ago.",
    ),
)


def main(words: list[str] | None = None) -> int:
    """Run a command.

    Args:
        words: The arguments; None takes those of the process.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted.
    """
    return run_command("python -m steps.drift", "Tell whether what is served has changed.", COMMANDS, words)


if __name__ == "__main__":
    sys.exit(main())
