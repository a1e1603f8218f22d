"""A folder in which `make install` can be tried in a moment: this project's installation, small locks, fake Pythons."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from contract.paths import ROOT

_SHELL = f"""#!/bin/sh
case "$1" in
-c) exit 0 ;;
-E) while read -r line; do echo "$line"; done <"$0.facts"; exit 0 ;;
esac
exec {shlex.quote(sys.executable)} -S {shlex.quote(str(Path(__file__).with_name("fake_python.py")))} "$0" "$@"
"""
FACTS = {
    "version": "3.12",
    "ensurepip": True,
    "implementation": "CPython",
    "threaded": False,
    "bits": 64,
    "system": "Linux",
    "machine": "x86_64",
    "musl": False,
}


class Project:
    """In `folder`; what is on the path lies in `bin`, and nothing else does."""

    def __init__(self, place: Path, name: str = "project") -> None:
        self.folder, self.bin, self._calls = place / name, place / "bin", place / "calls"
        (self.folder / "steps").mkdir(parents=True)
        self.bin.mkdir()
        for file in ("Makefile", "steps/torch.txt", "steps/torch-cuda.txt", "steps/torch_build.py"):
            shutil.copy(ROOT / file, self.folder / file)
        shutil.copytree(ROOT / "install", self.folder / "install", ignore=shutil.ignore_patterns("__pycache__"))
        lock = "filelock==1.0\njinja2==1.0\nmarkupsafe==1.0\nuv==1.0 \\\n    --hash=sha256:00\n"
        (self.folder / "requirements.txt").write_text(lock)

    def python(self, name: str, *, runs: bool = True, fails: tuple[str, ...] = (), **facts: Any) -> Path:
        """Put an interpreter on the path, with these facts about it; `pip` are the settings of its pip."""
        path, pip = self.bin / name, facts.pop("pip", {})
        said = {**FACTS, **facts}
        path.write_text(_SHELL)
        path.chmod(0o755)
        Path(f"{path}.facts").write_text(json.dumps(said) + "\n" if runs else "command not found")
        Path(f"{path}.json").write_text(json.dumps({"version": said["version"], "pip": pip, "fails": fails}))
        return path

    def mend(self, *, fails: tuple[str, ...] = ()) -> None:
        """Let these calls fail from now on, and no others, of every interpreter that there is."""
        for path in [*self.bin.glob("*.json"), *self.folder.glob(".venv/bin/*.json")]:
            path.write_text(json.dumps({**json.loads(path.read_text()), "fails": fails}))

    def make(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`make install`, with nothing of this machine's environment."""
        make = shutil.which("make")
        assert make
        given = {"PATH": str(self.bin), "HOME": str(self.folder.parent), "CALLS": str(self._calls), **environment}
        return subprocess.run(
            [make, "install", *words], cwd=self.folder, env=given, capture_output=True, text=True, check=False
        )

    def calls(self, *, of: str = "") -> list[list[str]]:
        """How pip, uv and venv were called since the last time that it was asked; those that hold a word."""
        return [call["words"] for call in self.whole_calls() if of in " ".join(call["words"])]

    def whole_calls(self) -> list[dict[str, Any]]:
        """The same, with the environment of each."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        self._calls.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    @property
    def stamp(self) -> dict[str, str]:
        """What is said to be installed."""
        stamp: dict[str, str] = json.loads((self.folder / ".venv/installed.json").read_text())
        return stamp
