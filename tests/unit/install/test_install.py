"""`make install`: what is made of which Python, what is kept, and what is mended."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from install.pythons import KNOWN
from tests.support.install_project import Project

NOTHING: list[list[str]] = []


def test_what_is_installed_is_installed_once(project: Project) -> None:
    project.python("python3")
    assert project.make().returncode == 0
    venv = project.folder / ".venv"
    assert project.calls() == [
        ["-m", "venv", str(venv)],
        ["-m", "pip", "config", "list"],
        ["-m", "pip", "install", "--no-deps", "--only-binary=:all:", "-r", str(venv / "uv.txt")],
        [str(project.folder / "steps/torch_build.py"), "cpu"],
        ["-m", "uv", "install", "--python", str(venv / "bin/python"), "--no-deps", "-r", str(venv / "torch.txt")],
        [
            *("-m", "uv", "install", "--python", str(venv / "bin/python"), "--no-deps"),
            *("-r", str(project.folder / "requirements.txt")),
        ],
    ]
    assert {key: project.stamp[key] for key in ("choice", "build", "torch", "python")} == {
        "choice": "auto",
        "build": "cpu",
        "torch": "2.13.0+cpu",
        "python": "3.12",
    }
    again = project.make()
    assert (again.returncode, again.stdout, again.stderr, project.calls()) == (0, "", "", NOTHING)


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ({"python3.11": "3.11", "python3.12": "3.12", "python3.13": "3.13", "python3": "3.11"}, "3.13"),
        ({"python3.11": "3.11", "python3.12": "3.12", "python3": "3.14"}, "3.12"),
        ({"python3": "3.9", "python3.11": "3.11"}, "3.11"),
        ({"python3": "3.8", "python": "3.12"}, "3.12"),
    ],
)
def test_the_newest_that_will_do_is_taken(project: Project, there: dict[str, str], chosen: str) -> None:
    for name, version in there.items():
        project.python(name, version=version)
    assert project.make().returncode == 0
    assert project.stamp["python"] == chosen


def test_one_that_cannot_make_an_environment_is_passed_over(project: Project) -> None:
    project.python("python3.13", version="3.13", ensurepip=False)
    project.python("python3.12", version="3.12", runs=False)
    project.python("python3.11", version="3.11")
    assert project.make().returncode == 0
    assert project.stamp["python"] == "3.11"


def test_a_python_beside_the_path_is_found(project: Project, tmp_path: Path) -> None:
    (tmp_path / ".local/bin").mkdir(parents=True)
    project.python("python3.13", version="3.13")
    for path in project.bin.glob("python3*"):
        path.rename(tmp_path / ".local/bin" / path.name)
    assert project.make().returncode == 0
    assert project.stamp["python"] == "3.13"


def test_another_python_makes_it_anew_and_none_leaves_it(project: Project) -> None:
    project.python("python3.12", version="3.12")
    project.python("python3.11", version="3.11")
    project.make("PYTHON=python3.11")
    assert project.stamp["python"] == "3.11"
    project.calls()
    assert project.make().returncode == 0
    assert project.calls() == NOTHING
    assert project.make(PYTHON="python3.12").returncode == 0
    assert project.stamp["python"] == "3.12"
    assert len(project.calls(of="-m venv")) == 1


def renamed(project: Project) -> None:
    moved = project.folder.with_name("another ü name")
    project.folder.rename(moved)
    project.folder = moved


def copied(project: Project) -> None:
    copy = project.folder.with_name("copy")
    shutil.copytree(project.folder, copy, symlinks=True)
    project.folder = copy


def of_another_python(project: Project) -> None:
    """As after an upgrade of the system's Python."""
    path = project.folder / ".venv/bin/python.facts"
    path.write_text(path.read_text().replace('"3.12"', '"3.13"'))


def broken(project: Project) -> None:
    (project.folder / ".venv/bin/python").unlink()
    (project.folder / ".venv/bin/python").symlink_to("/gone/python3")


def without_pip(project: Project) -> None:
    (project.folder / ".venv/bin/pip").unlink()


def a_file(project: Project) -> None:
    shutil.rmtree(project.folder / ".venv")
    (project.folder / ".venv").write_text("")


@pytest.mark.parametrize("damage", [renamed, copied, of_another_python, broken, without_pip, a_file])
def test_what_cannot_be_used_is_made_anew(project: Project, damage: Callable[[Project], None]) -> None:
    project.python("python3")
    project.make()
    project.calls()
    damage(project)
    assert project.make().returncode == 0
    assert project.calls()[0] == ["-m", "venv", str(project.folder / ".venv")]
    assert project.stamp["folder"] == str(project.folder / ".venv")
    assert project.make().stderr == ""


def test_a_changed_lock_installs_into_what_is_there(project: Project) -> None:
    project.python("python3")
    project.make()
    project.calls()
    with (project.folder / "requirements.txt").open("a") as lock:
        lock.write("six==1.0\n")
    assert project.make().returncode == 0
    assert project.calls(of="-m venv") == NOTHING
    assert project.make().stderr == ""


def test_what_a_kill_left_half_installed_is_installed_again(project: Project) -> None:
    project.python("python3")
    project.make()
    place = project.folder / ".venv/lib/python3.12/site-packages"
    for name, size in (("whole-1.0", 4), ("halved-1.0", 9)):
        (place / f"{name}.dist-info").mkdir()
        (place / f"{name}.dist-info/RECORD").write_text(f"{name}.py,sha256=0,{size}\n{name}.dist-info/RECORD,,\n")
        (place / f"{name}.py").write_text("code")
    (place / "begun-1.0.dist-info").mkdir()
    (project.folder / ".venv/installed.json").write_text('{"choice": "cpu"}')
    assert project.make().returncode == 0
    assert {path.name for path in place.glob("*.dist-info")} == {"whole-1.0.dist-info", "torch-2.13.0+cpu.dist-info"}
    assert project.stamp["choice"] == "cpu"


def test_a_killed_installation_is_never_taken_for_whole(project: Project) -> None:
    """Ended in each of its calls; the next goes on, and what was chosen is remembered."""
    project.python("python3")
    for fault in ("config list", "torch_build.py", "torch.txt", "project/requirements.txt"):
        project.mend(fails=(fault,))
        assert project.make("TORCH=cuda").returncode == 2
        assert project.stamp == {"choice": "cuda"}
    project.mend()
    assert project.make().returncode == 0
    assert project.stamp["build"] == "cuda"


def test_an_installation_waits_for_another(project: Project) -> None:
    import fcntl

    project.python("python3")
    main = project.folder / "install/__main__.py"
    assert "time.sleep(1)" in main.read_text()
    main.write_text(main.read_text().replace("time.sleep(1)", "time.sleep(0.05)"))
    folder = os.open(project.folder, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    command = [str(project.bin / "python3"), "-m", "install"]
    environment = {"PATH": str(project.bin), "HOME": str(project.folder.parent), "CALLS": os.devnull}
    with subprocess.Popen(command, cwd=project.folder, env=environment, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr
        assert waiting.stderr.readline().startswith("another make is installing here: waiting for it")
        assert not (project.folder / ".venv").exists()
        os.close(folder)
        assert waiting.wait() == 0
    assert project.stamp["torch"] == "2.13.0+cpu"


def test_every_python_that_is_taken_is_tested_by_the_workflow() -> None:
    import yaml

    from contract.paths import ROOT

    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert sorted(jobs["test"]["strategy"]["matrix"]["python"]) == sorted(f"python{version}" for version in KNOWN)
