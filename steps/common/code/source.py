"""One source file: a digest of its code without prose, what it imports, and the strings in it.

All of it follows from the bytes of the file. It is kept beside the byte code, since seven steps ask for it in each run.
"""

import ast
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.util import cache_from_source
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from steps.common.digest import digest

_LONGEST_PATH = 200
_NOTHING: tuple[Any, ...] = (None, [])


class Source(NamedTuple):
    """What a source file says.

    Attributes:
        form: Digest of its syntax tree without comments, docstrings and descriptions, the same in every Python.
        imports: Level, module and names of each import; no names for `import module`.
        strings: Those that may name a file.
    """

    form: str
    imports: list[tuple[int, str, list[str]]]
    strings: list[str]


def read_source(file: Path) -> Source:
    """Read a source file, or what was kept of it; keeps it where byte code is kept and can be written.

    Args:
        file: A Python file.

    Returns:
        What it says.

    Raises:
        SyntaxError: It is no Python.
    """
    data = file.read_bytes()
    key = [sha256(data).hexdigest(), _reader()]
    kept = _kept(file)
    with suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(kept.read_bytes()) if kept else {}
        if found["key"] == key:
            return Source(
                found["form"], [(level, module, names) for level, module, names in found["imports"]], found["strings"]
            )
    source = _parsed(data)
    if kept and not sys.dont_write_bytecode:
        with suppress(OSError):
            kept.parent.mkdir(exist_ok=True)
            new = kept.with_name(f"{kept.name}.{os.getpid()}")
            new.write_text(json.dumps({"key": key, **source._asdict()}))
            new.replace(kept)
    return source


@cache
def _reader() -> str:
    """Digest of this module: what another one kept is not read."""
    return sha256(Path(__file__).read_bytes()).hexdigest()


def _kept(file: Path) -> Path | None:
    """Where it is kept; None where this Python keeps no byte code."""
    with suppress(NotImplementedError):
        return Path(cache_from_source(str(file))).with_suffix(".json")
    return None


@cache
def _parsed(data: bytes) -> Source:
    tree = ast.parse(data)
    nodes = list(ast.walk(tree))
    return Source(digest(_form(tree)), list(_imports(nodes)), list(dict.fromkeys(_strings(nodes))))


def _imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str, list[str]]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]


def _strings(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and 0 < len(text) <= _LONGEST_PATH and text.isprintable():
            yield text


def _form(node: Any) -> Any:
    """A syntax tree as a JSON value: no line numbers, docstrings and descriptions, and the same in every Python."""
    if isinstance(node, list):
        return [_form(each) for each in node if not _is_prose(each)]
    if isinstance(node, ast.Constant):
        value = node.value if isinstance(node.value, str) else repr(node.value)
        return [type(node.value).__name__, value]
    if not isinstance(node, ast.AST):
        return node
    # Empty fields are left out below, since newer versions of Python have more of them (`type_params`).
    fields = {name: value for name, value in ast.iter_fields(node) if name not in ("ctx", "type_comment")}
    if isinstance(node, ast.JoinedStr):
        fields["values"] = list(_joined(node.values))
    if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "Field":
        fields["keywords"] = [word for word in node.keywords if word.arg != "description"]
    forms = {name: _form(value) for name, value in fields.items()}
    return [type(node).__name__, {name: form for name, form in forms.items() if form not in _NOTHING}]


def _is_prose(node: Any) -> bool:
    """Whether this is a string that stands alone, as docstrings do, or the `pass` that one may stand for."""
    docstring = (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )
    return docstring or isinstance(node, ast.Pass)


def _joined(values: Iterable[ast.expr]) -> Iterator[ast.expr]:
    """The parts of an f-string, neighbouring pieces of text as one: versions of Python cut them differently."""
    for is_text, group in groupby(values, lambda value: isinstance(value, ast.Constant)):
        if is_text:
            text = "".join(str(piece.value) for piece in group if isinstance(piece, ast.Constant))
            yield from [ast.Constant(text)] if text else []
        else:
            yield from group
