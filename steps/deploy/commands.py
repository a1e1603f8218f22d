"""The commands of the versions: they call the module with the work, and print its result."""

from argparse import Namespace

from contract.environment import Environment
from steps.common.files import readable_by_all
from steps.deploy.release import rollback as release
from steps.deploy.release import versions as table

_FOLLOWS = "; a running server takes it within seconds, or its log says why not"


def rollback(options: Namespace) -> int:
    """Serve an earlier version."""
    with readable_by_all():
        line = release.rollback(options.version or None)
    follows = line.startswith("ROLLED BACK") and not Environment().serving_namespace
    print(line + (_FOLLOWS if follows else ""))
    return 0


def versions(options: Namespace) -> int:
    """List the versions, or rebuild their files."""
    with readable_by_all():
        lines = table.rebuild() if options.rebuild else table.versions()
    print("\n".join(lines))
    return 0
