"""The command line of what is served: `python -m steps.deploy rollback`, `python -m steps.deploy versions`."""

import argparse
import os
import sys

from steps.common.errors import StepError
from steps.deploy.release.rollback import rollback
from steps.deploy.release.switch import SwitchError
from steps.deploy.release.versions import rebuild, versions

_FOLLOWS = "; a running server takes it within seconds, or its log says why not"
_VERSIONS = (
    "List the versions, and from when until when the pointer named each. A running server follows within seconds, and "
    "keeps the one before if it cannot serve the new one. What disagrees with the journal, audit.jsonl, is told below."
)


def main(words: list[str] | None = None) -> int:
    """Run a command; the exit status is 0 for done, 1 for a rollout that failed, 2 for what cannot be done."""
    options = _parser().parse_args(words)
    try:
        if options.command == "versions":
            print("\n".join(rebuild() if options.rebuild else versions()))
        else:
            line = rollback(options.version or None)
            follows = line.startswith("ROLLED BACK") and not os.environ.get("SERVING_NAMESPACE")
            print(line + (_FOLLOWS if follows else ""))
    except StepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, SwitchError) else 2
    except KeyboardInterrupt:
        print("interrupted: the same command again goes on from there", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m steps.deploy",
        description="Change or show what is served. VOLUMES is the folder of the volumes; with SERVING_NAMESPACE set, "
        "the Deployment torchserve in that namespace is rolled too, and its Service asked at SERVING_URL.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    back = commands.add_parser(
        "rollback",
        help="serve an earlier version",
        description="Serve an earlier version. The one left is not deployed again until it is gone back to by name. "
        "The last line begins with ROLLED BACK, or says that the version is served already.",
    )
    back.add_argument("--version", help="which (default: the one served before the current)")
    table = commands.add_parser("versions", help="list the versions", description=_VERSIONS)
    table.add_argument("--rebuild", action="store_true", help="write pointer and records anew from the journal")
    return parser


if __name__ == "__main__":
    sys.exit(main())
