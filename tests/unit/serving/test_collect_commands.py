"""The limits of what is kept, how they reach a server, and the commands that show and remove what was kept."""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from contract.errors import InputError
from contract.loop.collected import read_all
from contract.loop.collecting import VARIABLE, Limits
from pipeline.__main__ import main as pipeline
from serving.__main__ import main
from steps.deploy.parameters import Collect
from tests.support.collected_images import kept
from tests.support.settings import PARAMS_FILE


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Five images: two of one request, and one older than the others."""
    folder = tmp_path / "collect"
    kept(folder, b"1", label="unknown", reason="unknown", unknown_by=("distance",), requests=("two", "three"))
    kept(folder, b"2", label="7", reason="near", random=True, requests=("two",), version="2222bbbb")
    kept(folder, b"3", label="7", time="2026-11-24T23:59:59.999+00:00")
    kept(folder, b"4", label="8", time="2026-11-25T00:00:00.000+00:00")
    kept(folder, b"5", label="7")
    return tmp_path


def test_the_text_of_the_limits_is_read_again() -> None:
    limits = Limits(share=0.25, near=0, max_mb=3, max_days=7)
    assert limits.text() == "share=0.25,near=0.0,max_mb=3,max_days=7"
    assert Limits.parsed(limits.text()) == limits
    assert Limits.parsed(" max_mb = 3 ") == Limits(max_mb=3)
    assert Limits.parsed(Collect(enabled=True, share=0.5).text()) == Limits(share=0.5)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("share=2", "share: Input should be less than or equal to 1"),
        ("share=nan", "share: Input should be "),
        ("max_mb=0", "max_mb: Input should be greater than or equal to 1"),
        ("max_days=1.5", "max_days: Input should be a valid integer"),
        ("days=3", "days: Extra inputs are not permitted"),
        ("true", "'true' has no value"),
        ("share=0.1,", "'' has no value"),
    ],
)
def test_a_wrong_limit_is_one_sentence(text: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        Limits.parsed(text)
    assert str(error.value).startswith(f"{VARIABLE} is {text!r} ({problem}")
    assert "give limits such as share=0.01,near=0.1,max_mb=500,max_days=30" in str(error.value)


@pytest.mark.parametrize(
    ("enabled", "given", "limits"),
    [
        (False, None, ""),
        (True, None, "share=0.5,near=0.1,max_mb=500,max_days=30"),
        (False, "share=1", "share=1"),
        (True, "share=1", "share=1"),
    ],
)
@pytest.mark.parametrize("runner", ["subprocess", "docker"])
def test_make_serve_carries_the_settings_to_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool, given: str | None, limits: str, runner: str
) -> None:
    params = yaml.safe_load(PARAMS_FILE.read_text())
    params["serving"]["collect"] |= {"enabled": enabled, "share": 0.5}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.delenv(VARIABLE, raising=False)
    if given:
        monkeypatch.setenv(VARIABLE, given)
    started: list[str] = []

    class Replaced(Exception):
        pass

    def replace(program: str, words: list[str], environment: dict[str, str]) -> None:
        assert (program, words[1:4]) == (sys.executable, ["-m", "serving", "start"])
        assert words[4:] == ["--volumes", str(tmp_path), "--port", "8099"]
        started.append(environment[VARIABLE])
        raise Replaced

    def in_docker(*arguments: object) -> None:
        started.append(str(arguments[-1]))
        raise Replaced

    monkeypatch.setattr(os, "execve", replace)
    monkeypatch.setattr("pipeline.local.serve.serve", in_docker)
    words = ["serve", "--runner", runner, "--volumes", tmp_path, "--port", "8099", "--params", tmp_path / "params.yaml"]
    with pytest.raises(Replaced):
        pipeline(list(map(str, words)))
    assert started == [limits]


def test_collected_shows_how_many_of_which_answer_and_why(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collected", "--volumes", str(volumes)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "answer   images  unknown  near  random  drawn       since (UTC)",
        "7             3        0     1       2      3  2026-11-24 23:59",
        "8             1        0     0       1      1  2026-11-25 00:00",
        "unknown       1        1     0       0      0  2026-11-26 05:00",
        "all           5        1     1       3      4  2026-11-24 23:59",
        f"5 images of 2 versions, 0.0 MB in {volumes / 'collect'}",
    ]
    assert main(["collected", "--volumes", str(volumes), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["images"], shown["bytes"], list(shown["answers"])) == (5, 5 * 8192, ["7", "8", "unknown"])
    assert shown["answers"]["unknown"]["since"] == "2026-11-26T05:00:00.000+00:00"


def test_nothing_collected_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collected", "--volumes", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"no images in {tmp_path / 'collect'}: serving.collect in params.yaml")
    assert main(["collected", "--volumes", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 0


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--request", "two"], {"3", "4", "5"}),
        (["--request", "three"], {"2", "3", "4", "5"}),
        (["--request", "tw"], {"1", "2", "3", "4", "5"}),
        (["--before", "2026-11-25"], {"1", "2", "4", "5"}),
        (["--before", "2026-11-25T01:00+02:00"], {"1", "2", "3", "4", "5"}),
        (["--before", "2026-11-25T02:00:00.001+02:00"], {"1", "2", "5"}),
        (["--before", "2027-01-01"], set()),
    ],
)
def test_forget_removes_what_was_named(
    volumes: Path, capsys: pytest.CaptureFixture[str], words: list[str], left: set[str]
) -> None:
    assert main(["forget", "--volumes", str(volumes), *words]) == 0
    removed = 5 - len(left)
    said = f"{removed} image{'' if removed == 1 else 's'} removed from {volumes / 'collect'}\n"
    assert capsys.readouterr().out == said
    files = {path.read_bytes().decode() for path in (volumes / "collect").rglob("*") if len(path.name) == 64}
    assert files == left
    assert len(list(read_all(volumes / "collect"))) == len(left)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what is to be forgotten: make forget REQUEST=id, or make forget BEFORE=2026-11-26"),
        (["--request", "a", "--before", "2026-11-26"], "say what is to be forgotten: "),
        (["--before", "yesterday"], "BEFORE is 'yesterday' (Invalid isoformat string: 'yesterday'): give a date such"),
        (["--before", "0001-01-01T00:00+14:00"], "BEFORE is '0001-01-01T00:00+14:00' (date value out of range): "),
    ],
)
def test_forget_without_one_that_it_knows_removes_nothing(
    volumes: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["forget", "--volumes", str(volumes), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert len(list(read_all(volumes / "collect"))) == 5


def test_an_image_that_cannot_be_removed_is_named(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", fail)
    assert main(["forget", "--volumes", str(volumes), "--request", "two"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: 0 images removed; {volumes / 'collect/images'}")
    assert error.endswith(".json cannot be: Read-only file system\n")


def test_a_folder_that_is_not_ours_is_not_taken_for_an_empty_one(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    for words in (["collected"], ["forget", "--request", "two"]):
        assert main([*words, "--volumes", str(volumes)]) == 2
        assert "cannot be read: only the user who serves may" in capsys.readouterr().err
