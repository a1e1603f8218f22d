"""The files of the repository are as .editorconfig has editors write them."""

import configparser
from pathlib import Path

import pytest

from contract.paths import ROOT
from tests.support.named_files import TEXTS, repository_files

FILES = [path for path in repository_files(ROOT) if path.suffix in TEXTS]


def rules() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string("[head]\n" + (ROOT / ".editorconfig").read_text(encoding="utf-8"))
    return parser


def trouble(content: bytes, *, tabs: bool = False) -> str:
    """What a text file has that the rules for all files forbid, or nothing."""
    text = content.decode("utf-8")
    if "\r" in text:
        return "a carriage return"
    if text and not text.endswith("\n"):
        return "no newline at the end"
    if any(line != line.rstrip() for line in text.split("\n")):
        return "white space at the end of a line"
    return "a tab that indents" if not tabs and any(line.startswith("\t") for line in text.split("\n")) else ""


def test_every_text_file_keeps_to_the_rules() -> None:
    everywhere = rules()["*"]
    assert (everywhere["end_of_line"], everywhere["charset"], everywhere["indent_style"]) == ("lf", "utf-8", "space")
    assert everywhere["insert_final_newline"] == everywhere["trim_trailing_whitespace"] == "true"
    assert len(FILES) > 100
    found = {str(path): trouble((ROOT / path).read_bytes(), tabs=path.name == "Makefile") for path in FILES}
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize("content", [b"a\r\n", b"a", b"a \n", b"\ta\n"])
def test_a_file_that_does_not_is_found(content: bytes) -> None:
    assert trouble(content)


def test_python_is_indented_as_ruff_formats_it() -> None:
    assert next(rules()[head]["indent_size"] for head in rules().sections() if "*.py" in head) == "4"
    assert Path(ROOT, "pyproject.toml").read_text().count("line-length = " + rules()["*"]["max_line_length"]) == 1
