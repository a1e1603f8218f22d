"""The command of a TrainJob's processes: `python -m torch.distributed.run --module steps.train`, one of several."""

import sys

from contract.commands import Command, argument
from contract.commands import main as run_command

_DESCRIPTION = "Train a network, as one of the processes that torchrun starts. VOLUMES is the folder of the volumes."
COMMANDS = (
    Command(
        "network",
        "train a network",
        "steps.train.process:network",
        (
            argument("--train", required=True, help="the id of the split to train on"),
            argument("--validation", required=True, help="the id of the split on which accuracy is measured"),
            argument("--weights", help="the id of the backbone's pretrained weights, if it has any"),
            argument("--parameters", required=True, help="the section train of params.yaml, as JSON"),
        ),
    ),
)


def main(words: list[str] | None = None) -> int:
    """Run a command.

    Args:
        words: The arguments; None takes those of the process.

    Returns:
        The exit status: 0 trained, or there already; 1 failed, 2 wrong input.
    """
    return run_command("python -m steps.train", _DESCRIPTION, COMMANDS, words)


if __name__ == "__main__":
    sys.exit(main())
