"""Edits, each with the steps that must run again after it and the images that must be built; and no others."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest

from contract.paths import ROOT
from pipeline.images import tag as images
from pipeline.images.tag import NAMES, tag
from pipeline.settings import load_params
from steps.common import store
from steps.common.code import deciding
from steps.common.code.deciding import deciding_code
from steps.common.digest import file_sha256
from steps.deploy.deploy import ARCHIVE
from steps.preprocess.preprocess import PIXELS
from steps.registry import STEP_NAMES

Edit = Callable[[Path], None]

# What each step reads of the others' results, as the pipeline's graph has it.
READS: dict[str, tuple[str, ...]] = {
    "preprocess": (),
    "validate": ("preprocess",),
    "train": ("preprocess",),
    "embed": ("preprocess", "train"),
    "index": ("embed",),
    "analyse": ("preprocess", "train", "index"),
    "deploy": ("train", "index"),
}
SECTIONS = {"preprocess": "data", "analyse": "gate"}  # the others' parameters are in a section of the step's name
ALL, NONE = set(STEP_NAMES), set[str]()
FROM_TRAIN = {"train", "embed", "index", "analyse", "deploy"}
FROM_INDEX = {"index", "analyse", "deploy"}
WITH_TORCH = {"train", "embed", "analyse", "deploy", "serving"}
SERVED = {"serving", "deploy"}
EVERY_IMAGE = {*STEP_NAMES, "serving"}
OF_OTHERS = ("tests/unit/steps/test_code.py", "docs/serving.md", "pipeline/pipeline.py")


def append(file: str, text: str = "# a comment\n") -> Edit:
    return lambda tree: (tree / file).write_bytes((tree / file).read_bytes() + text.encode()) and None


def replace(file: str, pattern: str, new: str) -> Edit:
    """Replace the first match in a file, which must have one."""

    def edit(tree: Path) -> None:
        text = (tree / file).read_text(encoding="utf-8")
        changed, count = re.subn(pattern, new, text, count=1)
        assert (count, changed != text) == (1, True), f"{file} has no {pattern}"
        (tree / file).write_text(changed, encoding="utf-8")

    return edit


def write(file: str, text: str) -> Edit:
    return lambda tree: (tree / file).write_text(text) and None


def both(*edits: Edit) -> Edit:
    def edit(tree: Path) -> None:
        for one in edits:
            one(tree)

    return edit


def other_modes(tree: Path) -> None:
    for path in (tree / "steps").rglob("*.py"):
        path.chmod(0o755)


EDITS: dict[str, tuple[Edit, set[str], set[str]]] = {
    "a comment in a step": (append("steps/train/fit.py"), NONE, {"train"}),
    "a docstring": (replace("steps/index/index.py", '"""Make a', '"""Makes a'), NONE, {"index"}),
    "formatting": (
        replace("steps/index/index.py", r"(parameters=)(parameters.deciding\(\)),", r"\1(\n\2\n),"),
        NONE,
        {"index"},
    ),
    "a comment in steps/Dockerfile": (append("steps/Dockerfile"), NONE, ALL),
    "a comment in serving/Dockerfile": (append("serving/Dockerfile"), NONE, SERVED),
    "the webhook's message": (replace("steps/report/report.py", "was not told", "did not hear"), NONE, {"validate"}),
    "an error of the store": (replace("steps/common/store.py", "is missing or incomplete", "is gone"), NONE, ALL),
    "what a step says at its start": (
        replace("steps/common/progress.py", r"Started\(step\)", "Started(step.upper())"),
        NONE,
        ALL,
    ),
    "an error of a full disk": (replace("steps/common/files.py", "free some space", "make room"), NONE, ALL),
    "a description in the environment": (
        replace("contract/environment.py", "The folder of", "A folder of"),
        NONE,
        EVERY_IMAGE,
    ),
    "a field of an event": (replace("contract/events.py", 'made: str = ""', 'made: str = "-"'), NONE, EVERY_IMAGE),
    "a typo in the API's description": (replace("serving/openapi.yaml", "label", "lable"), NONE, SERVED),
    "a message of the server's log": (replace("serving/commands.py", '"stopped"', '"ended"'), NONE, SERVED),
    "how TorchServe is started": (append("serving/torchserve/launch.py", "\nNEW = 1\n"), NONE, SERVED),
    "how a version is switched to": (append("steps/deploy/release/switch.py", "\nNEW = 1\n"), NONE, {"deploy"}),
    "how an archive is proved": (append("steps/deploy/proof.py", "\nNEW = 1\n"), NONE, {"deploy"}),
    "the handler": (append("serving/model/predictor.py", "\nNEW = 1\n"), {"deploy"}, SERVED),
    "what the archive shares": (append("contract/loop/collected.py", "\nNEW = 1\n"), {"deploy"}, EVERY_IMAGE),
    "a comment in the handler": (append("serving/model/predictor.py"), NONE, SERVED),
    "a batch's size": (
        replace("serving/model/model-config.yaml", "batchSize: 8", "batchSize: 4"),
        {"deploy"},
        SERVED,
    ),
    "a comment on it": (append("serving/model/model-config.yaml"), NONE, SERVED),
    "what is exported": (append("steps/deploy/export.py", "\nNEW = 1\n"), {"deploy"}, {"deploy"}),
    "how an image is decoded": (replace("steps/common/images/decode.py", "LANCZOS", "BILINEAR"), ALL, ALL),
    "how the network is fitted": (replace("steps/train/fit.py", "fused=True", "fused=False"), FROM_TRAIN, {"train"}),
    "the network": (replace("steps/common/models/network.py", "_POOLED = 3", "_POOLED = 2"), FROM_TRAIN, ALL),
    "the name of a variable": (replace("steps/index/index.py", "vectors = np", "rows = np"), FROM_INDEX, {"index"}),
    "the gate": (replace("steps/analyse/judge.py", "accuracy > gate", "accuracy >= gate"), {"analyse"}, {"analyse"}),
    "the report page": (append("steps/analyse/page/model.html.jinja", "<p>"), {"analyse"}, {"analyse"}),
    "what all steps set first": (append("steps/__init__.py", "\nNEW = 1\n"), ALL, ALL),
    "a module that nothing imports": (write("steps/common/new.py", "NEW = 1\n"), NONE, ALL),
    "a module that a step imports": (
        both(write("steps/common/new.py", "NEW = 1\n"), append("steps/index/index.py", "\nimport steps.common.new\n")),
        FROM_INDEX,
        ALL,
    ),
    "the range of a parameter": (replace("steps/train/parameters.py", "lt=1.5", "lt=1.4"), NONE, {"train"}),
    "a source": (
        both(
            write("steps/preprocess/sources/web.py", "NEW = 1\n"),
            append("steps/preprocess/sources/__init__.py", "import steps.preprocess.sources.web\n"),
        ),
        NONE,
        {"preprocess"},
    ),
    "how a source is downloaded": (append("steps/preprocess/sources/download.py", "\nNEW = 1\n"), NONE, {"preprocess"}),
    **{f"what is no step's, in {file}": (append(file, "\nNEW = 1\n"), NONE, NONE) for file in OF_OTHERS},
    "the lock of a step": (append("steps/index/requirements.txt"), NONE, {"index"}),
    "the lock of serving": (append("serving/requirements.txt"), NONE, SERVED),
    "the lock of torch": (append("steps/torch.txt"), NONE, WITH_TORCH),
    "a comment in params.yaml": (append("params.yaml"), NONE, NONE),
    "the epochs": (replace("params.yaml", "epochs: auto", "epochs: 99"), FROM_TRAIN, NONE),
    "the factory": (replace("params.yaml", "factory: auto", "factory: HNSW32"), FROM_INDEX, NONE),
    "the server's limit": (replace("params.yaml", r"(deploy:(?s:.*?)max_pixels): \d+", r"\1: 9"), {"deploy"}, NONE),
    "the collector's limit": (replace("params.yaml", r"(data:(?s:.*?)max_pixels): \d+", r"\1: 9"), ALL, NONE),
    "modes of files": (other_modes, NONE, NONE),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project; of folders that count for nothing, it has the files that are edited."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for folder in ("contract", "serving", "steps"):
        shutil.copytree(ROOT / folder, tmp_path / "tree" / folder, ignore=ignored)
    for file in ("params.yaml", ".gitattributes", *OF_OTHERS):
        (tmp_path / "tree" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / "tree" / file)
    return tmp_path / "tree"


@pytest.fixture(autouse=True)
def _no_build_arguments(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for key in ("TORCH", "BASE_IMAGE"):
        monkeypatch.delenv(key, raising=False)
    deciding_code.cache_clear()
    yield
    deciding_code.cache_clear()


def ids(tree: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The id of each step's result in this tree, of data that stay the same."""
    named_files = deciding._named_files
    with monkeypatch.context() as patched:
        patched.setattr(store, "deciding_code", partial(deciding_code, root=tree))
        once = {name: cache(getattr(deciding, name)) for name in ("_file", "read_source")}
        named = cache(lambda file: [*named_files(once["read_source"](file), tree, file)])
        once["_named_files"] = lambda _source, _root, file: named(file)
        for name, look in once.items():  # the steps have most modules in common
            patched.setattr(deciding, name, look)
        params = load_params(tree / "params.yaml").model_dump(by_alias=True)
        found: dict[str, str] = {}
        for step, inputs in READS.items():
            parameters = params[SECTIONS.get(step, step)]
            modules = {"preprocess": PIXELS, "deploy": ARCHIVE}.get(step, ())
            found[step] = store.artefact_id(step, parameters, {name: found[name] for name in inputs}, modules)
    return found


def tags(tree: Path) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(images, "file_sha256", cache(file_sha256))
        return {name: tag(name, tree) for name in NAMES}


@cache
def tags_here() -> dict[str, str]:
    return tags(ROOT)


@cache
def ids_here() -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patched:
        return ids(ROOT, patched)


def different(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(("edit", "again", "built"), EDITS.values(), ids=EDITS)
def test_an_edit_runs_and_builds_what_it_decides_and_nothing_else(
    tree: Path, monkeypatch: pytest.MonkeyPatch, edit: Edit, again: set[str], built: set[str]
) -> None:
    edit(tree)
    assert different(ids_here(), ids(tree, monkeypatch)) == again
    assert different(tags_here(), tags(tree)) == built


@pytest.mark.parametrize(
    ("library", "version", "again"),
    [
        ("torch", "99.0", FROM_TRAIN),
        ("faiss", "99.0", {"validate", *FROM_INDEX}),
        ("PIL", "99.0", ALL),
        ("onnxruntime", "99.0", {"analyse", "deploy"}),
        ("pydantic", "99.0", NONE),
        ("filelock", "99.0", NONE),
        ("kubernetes", "99.0", NONE),
    ],
)
def test_another_version_of_a_library_runs_what_computes_with_it(
    monkeypatch: pytest.MonkeyPatch, library: str, version: str, again: set[str]
) -> None:
    before, installed = ids_here(), deciding._version
    deciding_code.cache_clear()
    monkeypatch.setattr(deciding, "_version", lambda name: version if name == library else installed(name))
    assert different(before, ids(ROOT, monkeypatch)) == again


def test_line_endings_decide_no_result(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in tree.rglob("*"):
        if file.is_file() and b"\0" not in (data := file.read_bytes()):
            file.write_bytes(data.replace(b"\n", b"\r\n"))
    assert different(ids_here(), ids(tree, monkeypatch)) == NONE


@pytest.mark.parametrize("attributes", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_checkout_that_converts_line_endings_changes_neither_ids_nor_tags(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attributes: bool
) -> None:
    if not attributes:  # to see that Git would convert
        (tree / ".gitattributes").unlink()
    who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "core.autocrlf=false")
    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "-m", "One")):
        subprocess.run(["git", *who, *words], cwd=tree, check=True)
    clone = tmp_path / "clone"
    command = ["git", "clone", "--quiet", "-c", "core.autocrlf=true", str(tree), str(clone)]
    subprocess.run(command, check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})
    assert different(ids_here(), ids(clone, monkeypatch)) == NONE
    assert different(tags_here(), tags(clone)) == (NONE if attributes else EVERY_IMAGE)
