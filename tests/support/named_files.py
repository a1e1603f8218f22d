"""Names of files in the repository's texts: strings and comments of Python, whole texts of all else."""

import ast
import fnmatch
import io
import posixpath
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

OTHERS = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", "volumes"}  # not the repository's
TEMPLATE = "{{cookiecutter.project_slug}}"  # links to what is looked at anyway
TEXTS = {".in", ".jinja", ".json", ".md", ".properties", ".py", ".toml", ".xml", ".yaml", ".yml", ""}
SOURCES = ("in", "jinja", "md", "properties", "py", "toml", "xml", "yaml", "yml")
PRODUCTS = ("faiss", "html", "json", "jsonl", "log", "mar", "npy", "npz", "onnx", "png", "pt", "txt")
_PART = r"(?:[\w*.-]|\{[^{}\s/]*\}|<[\w-]+>)+"
_NAME = re.compile(rf"(?<![\w/.{{}}<>$:*~@#&=%-]){_PART}(?:/{_PART})*")


def repository_files(root: Path) -> list[Path]:
    """Every file that belongs to the repository at `root`, relative to it: Git's, or all there is in a new project."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    files = [Path(name) for name in done.stdout.split("\0") if name]
    if not files:
        tops = [path for path in root.iterdir() if path.name not in OTHERS]
        inner = [path for top in tops for path in (top.rglob("*") if top.is_dir() else [top])]
        files = [path.relative_to(root) for path in inner]
    kept = {path for path in files if (root / path).is_file() and not {"__pycache__", TEMPLATE} & set(path.parts)}
    return sorted(kept)


def named_in(root: Path, path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers and names of files that the text file at `path` below `root` mentions."""
    text = (root / path).read_text(encoding="utf-8")
    for line, piece in _python_texts(text) if path.suffix == ".py" else enumerate(text.splitlines(), 1):
        for match in _NAME.finditer(piece):
            name = match[0].rstrip("./").removeprefix("./")
            yield line, posixpath.normpath(f"{path.parent}/{name}") if name.startswith("../") else name


def with_folders(files: list[Path]) -> frozenset[str]:
    """The paths of files and of the folders that they are in."""
    return frozenset(str(each) for path in files for each in (path, *path.parents))


def wrong_name(name: str, paths: frozenset[str]) -> bool:
    """Whether `name` is a path in the repository, or a source file's name, and there is no such file or folder.

    `*`, `{...}` and `<...>` stand for anything. A path may leave out the folders that it is told in.
    """
    pattern = re.sub(r"\{[^{}]*\}|<[\w-]+>", "*", name)
    extension = Path(name).suffix.removeprefix(".")
    in_repository = "/" in name and name.split("/", maxsplit=1)[0] in paths
    if not in_repository and (extension not in (*SOURCES, *PRODUCTS) or pattern.strip("*.") in ("", extension)):
        return False
    if pattern in paths:
        return False
    whole = re.compile(fnmatch.translate(pattern if in_repository else f"*/{pattern}"))
    return not any(whole.match(path if in_repository else f"/{path}") for path in paths)


def _python_texts(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    yield from _strings(ast.parse(text))


def _strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
        yield node.lineno, "".join(map(str, parts))
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from _strings(part.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        for number, line in enumerate(node.value.splitlines()):
            yield node.lineno + number, line
    else:
        for child in ast.iter_child_nodes(node):
            yield from _strings(child)
