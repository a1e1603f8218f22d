"""The command lines: every command has its function, every error its exit status, and the version is known."""

import argparse
import ast
import io
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import pipeline.__main__
import serving.__main__
import steps.deploy.__main__
from contract.commands import Command, argument, main, port, positive
from contract.errors import InputError, ProjectError
from contract.paths import ROOT
from contract.version import VERSION

COMMAND_LINES = (pipeline.__main__, serving.__main__, steps.deploy.__main__)
COMMANDS = [command for module in COMMAND_LINES for command in module.COMMANDS]


def echo(options: argparse.Namespace) -> int:
    print(options.word)
    return 0


def fail(options: argparse.Namespace) -> int:
    raise {"project": ProjectError, "input": InputError, "interrupt": KeyboardInterrupt}[options.word]("it is broken")


def three(_: argparse.Namespace) -> int:
    return 3


TABLE = [
    Command(function.__name__, "a test", f"{__name__}:{function.__name__}", (argument("--word", variable="WORD"),))
    for function in (echo, fail, three)
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.function)
def test_every_command_has_its_function(command: Command) -> None:
    module, _, name = command.function.partition(":")
    assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize("module", COMMAND_LINES, ids=lambda module: module.__name__)
def test_help_names_every_command_and_the_version_is_shown(module: object, capsys: pytest.CaptureFixture[str]) -> None:
    run: Callable[[list[str]], int] = module.main  # type: ignore[attr-defined]
    for words in (["--help"], *([command.name, "--help"] for command in module.COMMANDS)):  # type: ignore[attr-defined]
        with pytest.raises(SystemExit, match="0"):
            run(words)
        assert capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        run(["--version"])
    assert capsys.readouterr().out.endswith(f" {VERSION}\n")


@pytest.mark.parametrize(
    ("word", "status", "message"),
    [
        ("project", 1, "error: it is broken\n"),
        ("input", 2, "error: it is broken\n"),
        ("interrupt", 130, "interrupted: finished work is kept, and the same command goes on from there\n"),
    ],
)
def test_every_error_has_its_exit_status(
    word: str, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("test", "A test.", TABLE, ["fail", "--word", word]) == status
    assert capsys.readouterr().err == message


def test_a_commands_status_is_the_exit_status() -> None:
    assert main("test", "A test.", TABLE, ["three"]) == 3


def test_what_the_encoding_of_a_terminal_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="latin-1", write_through=True))
    assert main("test", "A test.", TABLE, ["echo", "--word", "é数"]) == 0
    assert printed.getvalue() == "é\\u6570\n".encode("latin-1")


def test_a_flag_goes_before_its_environment_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORD", "variable")
    main("test", "A test.", TABLE, ["echo"])
    main("test", "A test.", TABLE, ["echo", "--word", "flag"])
    monkeypatch.setenv("WORD", "")
    main("test", "A test.", TABLE, ["echo"])
    assert capsys.readouterr().out == "variable\nflag\nNone\n"


@pytest.mark.parametrize("text", ["-1", "65536", "x"])
def test_a_port_is_a_port(text: str) -> None:
    with pytest.raises((argparse.ArgumentTypeError, ValueError)):
        port(text)
    assert [port("0"), port("65535")] == [0, 65535]


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "x"])
def test_a_duration_is_above_zero(text: str) -> None:
    with pytest.raises((argparse.ArgumentTypeError, ValueError)):
        positive(text)
    assert positive("0.1") == 0.1


def errors_of_their_own(file: Path) -> list[str]:
    classes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ClassDef)]
    return [each.name for each in classes for base in each.bases if ast.unparse(base) in ("Exception", "RuntimeError")]


def test_every_error_for_a_user_is_a_project_error() -> None:
    files = [file for room in ("contract", "pipeline", "steps", "serving") for file in (ROOT / room).rglob("*.py")]
    files = [file for file in files if "model" not in file.parts]  # serving/model imports nothing of the project
    assert {name for file in files for name in errors_of_their_own(file)} == {"ProjectError"}
