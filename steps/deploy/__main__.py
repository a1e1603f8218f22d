"""The command line of the versions and their volumes: `python -m steps.deploy rollback`, `versions` and `gc`."""

import sys

from contract.commands import Command, argument
from contract.commands import main as run_command

_DESCRIPTION = (
    "Change or show the version that is served. VOLUMES is the folder of the volumes. With SERVING_NAMESPACE set, a "
    "rollback also rolls the Deployment SERVING_DEPLOYMENT in that namespace, and asks its Service at SERVING_URL."
)
COMMANDS = (
    Command(
        "rollback",
        "serve an earlier version",
        "steps.deploy.commands:rollback",
        (argument("--version", help="the version (default: the one served before the current one)"),),
        "Serve an earlier version. The version left is not deployed again until a rollback names it. The last line "
        "begins with ROLLED BACK, or says that the version is served already.",
    ),
    Command(
        "versions",
        "list the versions",
        "steps.deploy.commands:versions",
        (argument("--rebuild", action="store_true", help="write pointer and records anew from the journal"),),
        "List the versions, from when until when the pointer named each, and what disagrees with the journal, "
        "audit.jsonl. A running server follows the pointer within seconds, and keeps its version if it cannot serve "
        "the new one.",
    ),
    Command(
        "gc",
        "show or delete what nothing needs any more",
        "steps.deploy.commands:gc",
        (
            argument("--keep-days", type=int, help="what runs of these last days used is kept (default: 30)"),
            argument("--yes", action="store_true", help="delete it"),
            argument("--json", action="store_true", help="print every item with its reason, as JSON"),
        ),
        "Show what no version and no run of the last days needs, and what deleting it frees; with --yes, delete it. "
        "What a running run uses is kept.",
    ),
)


def main(words: list[str] | None = None) -> int:
    """Run a command.

    Args:
        words: The arguments; None takes those of the process.

    Returns:
        The exit status: 0 done, 1 for a rollout that failed, 2 for a version that cannot be served, 130 interrupted.
    """
    return run_command("python -m steps.deploy", _DESCRIPTION, COMMANDS, words)


if __name__ == "__main__":
    sys.exit(main())
