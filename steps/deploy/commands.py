"""The commands of the versions and of their volumes: they call the module with the work, and print its result."""

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


def gc(options: Namespace) -> int:
    """Show or delete what nothing needs any more."""
    from steps.deploy.gc.command import gc as collect
    from steps.deploy.gc.parameters import Gc

    keep_days = Gc().keep_days if options.keep_days is None else options.keep_days
    print(collect(keep_days, yes=options.yes, as_json=options.json))
    return 0
