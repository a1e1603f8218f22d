"""What decides a result is found from the code: what runs counts, and what only people read does not."""

import ast
import json
import shutil
from pathlib import Path

import pytest

from contract.paths import ROOT
from pipeline.images.tag import source_files, sources
from steps.common.code import deciding, source
from steps.common.code.deciding import PACKAGES, PLUMBING, deciding_code
from steps.common.digest import digest
from steps.deploy.deploy import ARCHIVE
from steps.registry import STEP_NAMES

MODULES = {**{step: (f"steps.{step}.{step}",) for step in STEP_NAMES}, "deploy": ARCHIVE}


def project(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def form(text: str) -> str:
    return json.dumps(source._form(ast.parse(text)))


SAME = [
    ("x = 1", "x = 1  # one"),
    ("x = 1", "# one\n\nx = 1\n"),
    ("def f(a, b):\n    return a", 'def f(\n    a,\n    b,\n):\n    """What it gives."""\n    return (a)'),
    ('"""A module."""\nx = 1', '"""Another."""\nx = 1'),
    ("class A:\n    x: int", 'class A:\n    """An A."""\n\n    x: int\n    """An x."""'),
    ("def f(): pass", 'def f():\n    """Nothing."""'),
    ("x = 'a' 'b'", 'x = "ab"'),
    ("x = 1000", "x = 1_000"),
    ("x = 1\r\ny = '''a\r\nb'''", "x = 1\ny = '''a\nb'''"),
    ("x: int = Field(gt=0, description='a')", "x: int = Field(gt=0, description='b')"),
    ("x: Annotated[int, pydantic.Field(gt=0)]", "x: Annotated[int, pydantic.Field(gt=0, description='b')]"),
]
OTHER = [
    ("x = 1", "x = 2"),
    ("x = 1", "x = 1.0"),
    ("x = 1", "x = True"),
    ("x = 'a'", "x = b'a'"),
    ("x = None", "x = ...  # which is no None"),
    ("f(a, None)", "f(a)"),
    ("f(None, *a)", "f(*a)"),
    ("x = f'{a}'", "x = f'{b}'"),
    ("x = f'{a}b'", "x = f'{a}c'"),
    ("x = f'{a:.1f}'", "x = f'{a:.2f}'"),
    ("x = f'{a!r}'", "x = f'{a}'"),
    ("def f(a): return a", "def f(b): return b"),
    ("def f(a=1): ...", "def f(*, a=1): ..."),
    ("x = a + b", "x = a - b"),
    ("x = a < b", "x = a <= b"),
    ("from a import b", "from .a import b"),
    ("raise E('a')", "raise E('b')"),
    ("x: int = Field(gt=0)", "x: int = Field(gt=1)"),
    ("f(description='a')", "f(description='b')"),
    ("x = {**a, 'b': 1}", "x = {'b': 1, **a}"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_people_read_does_not_count(one: str, other: str) -> None:
    assert form(one) == form(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_runs_counts(one: str, other: str) -> None:
    assert form(one) != form(other)


def test_versions_of_python_agree() -> None:
    """Python 3.11, 3.12 and 3.13 all gave this digest; each cuts f-strings and fills fields in its own way."""
    text = """
import os.path as path
from . import y
@d(1, *a, **b)
class A(B, metaclass=C):
    x: int = 1
    async def f(self, a, /, b=1, *c, d, e=None, **g) -> "A":
        async with h as i, j:
            yield f"{a}{b:>{c}}{'' if d else 'e'!r}" "x" f"{e}" f""
        return f"{k:%Y-%m-%d}{l=}{{}}", b"\\xff", 1e-4, 1j, ..., not None, 10 ** 30, "\\ud800é\\u0378"
match z:
    case {"a": [1, *_], **rest} | A(b=2) as n if n: lambda: (yield)
    case _: pass
try:
    del q[1:2, ...]
except* (E, F) as e:
    raise e from None
print({k: v for k, v in u if (w := k)}, {*s}, *t, sep="")
"""
    assert digest(form(text)) == "81c333fa08a570dd"


def test_imports_are_followed_wherever_they_stand(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        {
            "steps/one/__init__.py": "from steps.one.run import run",
            "steps/one/run.py": "def run():\n    from steps.one import late\n    import steps.common.deep as d",
            "steps/one/late.py": "from .near import x",
            "steps/one/near.py": "from ..common import level",
            "steps/common/level.py": "x = 1",
            "steps/common/deep.py": "from steps.common.names import NAME",
            "steps/common/names.py": "NAME = 1",
            "steps/common/unused.py": "x = 1",
            "steps/two/__init__.py": "x = 1",
        },
    )
    before = deciding_code("steps.one", root=root)
    counted = set()
    for path in sorted(root.rglob("*.py")):
        text = path.read_text()
        path.write_text(text + "\nmore = 1")
        deciding_code.cache_clear()
        if deciding_code("steps.one", root=root) != before:
            counted.add(path.relative_to(root).as_posix())
        path.write_text(text)
    assert counted == {
        "steps/one/__init__.py",
        "steps/one/run.py",
        "steps/one/late.py",
        "steps/one/near.py",
        "steps/common/level.py",
        "steps/common/deep.py",
        "steps/common/names.py",
    }


def test_the_packages_around_a_module_count_and_what_they_import_for_others_does_not(tmp_path: Path) -> None:
    files = {
        "steps/__init__.py": "x = 1",
        "steps/one/__init__.py": "from steps.one.other import run",
        "steps/one/other.py": "x = 1",
        "steps/one/made.py": "x = 1",
    }
    root = project(tmp_path, files)

    def now() -> str:
        deciding_code.cache_clear()
        return deciding_code("steps.one.made", root=root).digest

    before = now()
    project(root, {"steps/one/other.py": "x = 2"})
    assert now() == before
    project(root, {"steps/__init__.py": "x = 2"})
    assert now() != before


def test_files_that_the_code_names_count(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        {
            "steps/one/__init__.py": "A, B, C = 'page.jinja', 'serving/model/code.py', 'serving/model/set.yaml'",
            "steps/one/page.jinja": "<p>",
            "steps/one/notes.md": "unnamed",
            "serving/model/code.py": "import beside",
            "serving/model/beside.py": "x = 1",
            "serving/model/set.yaml": "# workers\na: 1\n",
        },
    )

    def changes(name: str, text: str) -> bool:
        deciding_code.cache_clear()
        before = deciding_code("steps.one", root=root)
        project(root, {name: text})
        deciding_code.cache_clear()
        return deciding_code("steps.one", root=root) != before

    assert changes("steps/one/page.jinja", "<b>")
    assert changes("serving/model/code.py", "import beside\nx = 1")
    assert changes("serving/model/beside.py", "x = 2")
    assert changes("serving/model/set.yaml", "a: 2\n")
    assert not changes("serving/model/set.yaml", "# of workers\n\na: 2  \r\n")
    assert not changes("serving/model/code.py", "import beside\nx = 1  # one")
    assert not changes("steps/one/notes.md", "still unnamed")


def test_libraries_that_compute_count_by_the_name_they_are_imported_by() -> None:
    libraries = {step: deciding_code(*modules).libraries for step, modules in MODULES.items()}
    assert set(libraries["train"]) == {"numpy", "safetensors", "timm", "torch"}
    assert {"PIL", "faiss"} <= set(libraries["analyse"])
    assert {"onnxruntime", "onnxscript", "torch"} <= set(libraries["deploy"])
    for found in libraries.values():
        assert not set(found) & {"pydantic", "filelock", "kubernetes", "requests", "pooch", *PACKAGES}
        assert not [version for version in found.values() if "+" in version]


def test_a_build_for_other_hardware_is_the_same_version(monkeypatch: pytest.MonkeyPatch) -> None:
    deciding._version.cache_clear()
    monkeypatch.setattr(deciding.metadata, "version", lambda _: "2.6.0+cu126")
    assert deciding._version("torch") == "2.6.0"
    deciding._version.cache_clear()


def test_an_image_gives_its_results_the_ids_that_they_have_here(tmp_path: Path) -> None:
    """It holds less than the working tree; what it lacks must not count."""
    for step, modules in MODULES.items():
        for file in source_files(sources(step)):
            copy = tmp_path / step / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
        assert deciding_code(*modules, root=tmp_path / step) == deciding_code(*modules), step


def test_plumbing_is_there() -> None:
    assert [name for name in PLUMBING if deciding._file(ROOT, name) is None] == []


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"steps\.nothing is no module of this project"):
        deciding_code("steps.nothing")
