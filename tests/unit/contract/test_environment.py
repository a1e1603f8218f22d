"""The environment: one class has every variable, the docs have the same table, and nobody reads past it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from contract.environment import Environment, table, volumes
from contract.paths import ROOT

# Read as it is, each for its reason: what travels in the archive imports nothing of the project; the probe is
# started every few seconds; the folder for sockets, Java's environment and OpenMP are not this project's variables.
# The class's own module looks whether VOLUMES has changed.
PAST_THE_CLASS = {
    "contract/environment.py": {"VOLUMES"},
    "serving/model/collector.py": {"COLLECT"},
    "serving/model/telemetry.py": {"PROMETHEUS_MULTIPROC_DIR", "REQUEST_LOG"},
    "serving/probe.py": {"SERVING_TLS"},
    "serving/system/folder.py": {"XDG_RUNTIME_DIR"},
    "steps/__init__.py": {"OMP_WAIT_POLICY", "PASSIVE"},
}


def test_the_docs_have_the_same_table() -> None:
    text = (ROOT / "docs/environment.md").read_text(encoding="utf-8")
    rows = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in text.splitlines() if "| `" in line]
    assert rows == [(f"`{name}`", f"`{default}`" if default else "", meaning) for name, default, meaning in table()]
    assert all(meaning for *_, meaning in table())


def test_variables_are_read_by_their_names_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, *_ in table():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VOLUMES", "/elsewhere")
    monkeypatch.setenv("RUN_ID", "")
    monkeypatch.setenv("run_id", "not this one")
    monkeypatch.setenv("RANK", "3")
    environment = Environment()
    assert (environment.volumes, environment.run_id, environment.rank) == (Path("/elsewhere"), None, 3)
    assert environment.model_copy(update={"volumes": Path("/"), "rank": 0}) == Environment.model_construct()


def test_nobody_reads_past_the_class() -> None:
    found: dict[str, set[str]] = {}
    for folder in ("contract", "serving", "steps"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            lines = [line for line in text.splitlines() if re.search(r"\bgetenv\b|environ\b(\.\w+\(|\[)", line)]
            names = {name for line in lines for name in re.findall(r'"([A-Z_]{3,})"', line)}
            if names:
                found[path.relative_to(ROOT).as_posix()] = names
    assert found == PAST_THE_CLASS


def test_the_folder_of_the_volumes_is_the_one_named_now(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("/here", "/there", "/here"):
        monkeypatch.setenv("VOLUMES", folder)
        assert volumes() == Path(folder)
    monkeypatch.delenv("VOLUMES")
    assert volumes() == Environment().volumes


@pytest.mark.parametrize("words", [["--help"], ["probe", "--port", "9", "--timeout", "0.1"], ["probe", "--help"]])
def test_what_must_start_fast_imports_no_pydantic(words: list[str]) -> None:
    code = f"import sys\nsys.argv[1:] = {words}\ntry:\n    from serving.__main__ import main; main()\n"
    code += "except SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ("serving.probe" in done.stderr.split()) is ("--help" not in words)
    assert not {"pydantic", "pydantic_settings"} & set(done.stderr.split())
