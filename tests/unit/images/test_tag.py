"""A tag changes if, and only if, something that goes into its image does."""

import itertools
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.paths import ROOT
from pipeline.images import tag as tags
from pipeline.images.tag import NAMES, dockerfile, source_files, sources, tag
from steps.registry import STEP_NAMES

IMAGES = set(NAMES)
WITH_TORCH = {"train", "embed", "analyse", "deploy", "serving"}
SKIPPED = shutil.ignore_patterns("__pycache__", ".*")


@pytest.fixture(autouse=True)
def _no_build_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("TORCH", "BASE_IMAGE"):
        monkeypatch.delenv(key, raising=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of everything that goes into images, and of what does not."""
    for folder in ("contract", "steps", "serving", "pipeline"):
        shutil.copytree(ROOT / folder, tmp_path / "tree" / folder, ignore=SKIPPED)
    for file in ("README.md", "params.yaml", "Makefile", "requirements.txt"):
        shutil.copy(ROOT / file, tmp_path / "tree" / file)
    return tmp_path / "tree"


def changed(tree: Path, change: Callable[[], object]) -> set[str]:
    before = {name: tag(name, tree) for name in IMAGES}
    change()
    return {name for name in IMAGES if tag(name, tree) != before[name]}


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("steps/train/train.py", {"train"}),
        ("steps/deploy/deploy.py", {"deploy"}),
        ("steps/index/requirements.txt", {"index"}),
        ("steps/preprocess/sample.npz", {"preprocess"}),
        ("steps/common/store.py", set(STEP_NAMES)),
        ("steps/common/kfp.txt", set(STEP_NAMES)),
        ("steps/__init__.py", set(STEP_NAMES)),
        ("steps/Dockerfile", set(STEP_NAMES)),
        ("steps/torch.txt", WITH_TORCH),
        ("steps/torch-cuda.txt", WITH_TORCH),
        ("steps/torch-dependencies.txt", WITH_TORCH),
        ("steps/torch_build.py", WITH_TORCH),
        ("serving/model/predictor.py", {"serving", "deploy"}),
        ("serving/Dockerfile", {"serving", "deploy"}),
        ("serving/requirements.txt", {"serving", "deploy"}),
        ("README.md", set()),
        ("params.yaml", set()),
        ("Makefile", set()),
        ("requirements.txt", set()),
        ("pipeline/pipeline.py", set()),
    ],
)
def test_a_comment_changes_the_images_that_hold_the_file(tree: Path, file: str, images: set[str]) -> None:
    def change() -> None:
        with (tree / file).open("a") as opened:
            opened.write("# a comment\n")

    assert changed(tree, change) == images


def test_a_new_a_renamed_and_a_removed_file_change_the_tag(tree: Path) -> None:
    file = tree / "steps/train/new.py"
    assert changed(tree, lambda: file.write_text("")) == {"train"}
    assert changed(tree, lambda: file.rename(file.with_name("newer.py"))) == {"train"}
    assert changed(tree, lambda: file.with_name("newer.py").unlink()) == {"train"}


def test_what_images_leave_out_does_not_count(tree: Path) -> None:
    def litter() -> None:
        for name in ("__pycache__/train.cpython-311.pyc", ".hidden", ".cache/file", "left.pyc", "empty/folder"):
            path = tree / "steps/train" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir() if name == "empty/folder" else path.write_text("anything")

    assert changed(tree, litter) == set()


def test_neither_modes_nor_times_count(tree: Path) -> None:
    def change() -> None:
        for path in (tree / "steps").rglob("*.py"):
            path.chmod(0o700)
            path.touch()

    assert changed(tree, change) == set()


def test_the_order_of_a_listing_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tag("train")
    monkeypatch.setattr(tags, "source_files", lambda *args: reversed(list(source_files(*args))))
    assert tag("train") == before


def test_the_same_sources_elsewhere_have_the_same_tags(tree: Path) -> None:
    assert {name: tag(name, tree) for name in IMAGES} == {name: tag(name) for name in IMAGES}


def test_tags_differ_from_each_other() -> None:
    assert len({tag(name) for name in IMAGES}) == len(IMAGES)


def test_sources_are_what_the_dockerfiles_copy() -> None:
    """Else an image would hold what its tag does not tell."""
    parents, copied = stages("steps/Dockerfile")
    serving_parents, serving_copied = stages("serving/Dockerfile")
    parents, copied = {**parents, **serving_parents}, {**copied, **serving_copied}
    parents["deploy"] = "serving"
    parents["base"] = ""
    for name in IMAGES:
        lineage = list(itertools.takewhile(bool, ancestors(name, parents)))
        held = {file for stage in lineage for file in source_files(copied[stage])}
        assert held == set(source_files(sources(name))), name
        assert copied.keys() & set(stages(dockerfile(name))[0]) >= {name}


def test_an_unknown_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no image is called 'nothing'; the images are preprocess, "):
        sources("nothing")


def ancestors(stage: str, parents: dict[str, str]) -> list[str]:
    return [stage, *ancestors(parents[stage], parents)] if stage else [""]


def stages(dockerfile: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Each build stage's parent, and the paths that it copies to where they were."""
    parents: dict[str, str] = {}
    copied: dict[str, list[str]] = {}
    for line in (ROOT / dockerfile).read_text().splitlines():
        if found := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            parent, stage = found.groups()
            parents[stage], copied[stage] = parent, []
        elif line.startswith("COPY "):
            *froms, to = line.split()[1:]
            for path in froms:
                assert to in (path, str(Path(path).parent) + "/"), line
            copied[stage] += froms
    return parents, copied
