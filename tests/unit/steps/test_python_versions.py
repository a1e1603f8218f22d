"""Which Python runs the steps decides nothing: every one that will do computes the same ids."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from contract.paths import ROOT
from install import pythons
from steps.common.code.deciding import deciding_code
from steps.common.digest import digest
from steps.registry import STEP_NAMES
from tests.support.examples import PARAMS

_SCRIPT = """
import json, sys
from steps.common.code.deciding import deciding_code
from steps.common.digest import digest
given = json.load(sys.stdin)
print(json.dumps({step: digest([given[1], deciding_code(f"steps.{step}.{step}").digest]) for step in given[0]}))
"""


def interpreters() -> list[str]:
    """This one, and the others of this machine, a path for each version."""
    beside = {
        version: sorted(Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python3")) for version in pythons.KNOWN
    }
    found = {}
    for version in pythons.KNOWN:
        for path in [*pythons._places(f"python{version}"), *map(str, beside[version])]:
            if (facts := pythons.ask(path)) and facts["version"] == version:
                found[version] = path
    return [sys.executable, *found.values()]


HERE, *OTHERS = interpreters()


@pytest.mark.parametrize(
    "python", [HERE, *OTHERS[-1:], *(pytest.param(python, marks=pytest.mark.slow) for python in OTHERS[:-1])]
)
def test_ids_do_not_depend_on_the_python(python: str) -> None:
    given = json.dumps([STEP_NAMES, PARAMS])
    said = subprocess.run([python, "-c", _SCRIPT], cwd=ROOT, input=given, capture_output=True, text=True, check=True)
    wanted = {step: digest([PARAMS, deciding_code(f"steps.{step}.{step}").digest]) for step in STEP_NAMES}
    assert json.loads(said.stdout) == wanted
