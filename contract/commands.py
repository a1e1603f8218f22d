"""The command lines of the project: a table of commands, parsed, run and ended by one `main`.

A command's module is imported only when the command runs, so `--help` stays fast.
"""

import argparse
import io
import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from contract.errors import ProjectError
from contract.version import VERSION

INTERRUPTED = 130  # as of a shell: 128 and the number of SIGINT


class Argument(NamedTuple):
    """One argument of a command, as `argparse` takes it; `variable` names the environment variable of its default."""

    names: tuple[str, ...]
    options: Mapping[str, Any]
    variable: str | None


class Command(NamedTuple):
    """One command: `function` is "module:function", which takes the parsed arguments and returns the exit status."""

    name: str
    help: str
    function: str
    arguments: tuple[Argument, ...] = ()
    description: str | None = None


def argument(*names: str, variable: str | None = None, **options: Any) -> Argument:
    """Declare an argument.

    Args:
        names: The name of a positional argument, or the flags of an option.
        variable: The environment variable with the default. `options` has the default without it.
        options: What `argparse.ArgumentParser.add_argument` takes.

    Returns:
        The argument, for the table of commands.
    """
    return Argument(names, options, variable)


def main(prog: str, description: str, commands: Iterable[Command], words: list[str] | None = None) -> int:
    """Run one command of a table, and print the message of a ProjectError to stderr.

    Args:
        prog: How the command line is started, such as `python -m pipeline`.
        description: What the commands are for.
        commands: The table of commands.
        words: The arguments; None takes those of the process.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label that the terminal's encoding lacks is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser(prog, description, commands).parse_args(words)
    module, _, function = options.function.partition(":")
    try:
        status: int = getattr(import_module(module), function)(options)
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted: finished work is kept, and the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    return status


def port(text: str) -> int:
    """Parse the port of a server; 0 is any free port.

    Args:
        text: A number from 0 to 65535.

    Returns:
        The port.

    Raises:
        argparse.ArgumentTypeError: The number is no port.
    """
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"is {number}; it must be 1 to 65535, or 0 for any free port")
    return number


def positive(text: str) -> float:
    """Parse a number above 0.

    Args:
        text: A number, such as of seconds.

    Returns:
        The number.

    Raises:
        argparse.ArgumentTypeError: The number is 0 or less, no number, or infinite.
    """
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"is {text}; it must be more than 0")
    return number


def _parser(prog: str, description: str, commands: Iterable[Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--version", action="version", version=f"{prog} {VERSION}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in commands:
        text = command.description or f"{command.help[0].upper()}{command.help[1:]}."
        subparser = subparsers.add_parser(command.name, help=command.help, description=text)
        for names, options, variable in command.arguments:
            default = (os.environ.get(variable) if variable else None) or options.get("default")
            subparser.add_argument(*names, **{**options, **({"default": default} if default is not None else {})})
        subparser.set_defaults(function=command.function)
    return parser
