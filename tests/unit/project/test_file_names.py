"""A file named in a message, a comment, a workflow, a Dockerfile, a page or a digest's sources exists."""

import fnmatch
import re
from pathlib import Path

import pytest

from contract.paths import ROOT
from pipeline.images.tag import NAMES, dockerfile, sources
from tests.support.named_files import TEXTS, named_in, repository_files, with_folders, wrong_name

FILES = repository_files(ROOT)
PATHS = with_folders(FILES)
# What a run, a command or a server writes.
PRODUCTS = {
    *(
        "pixels.json",
        "labels.npy",
        "classes.json",
        "rows.json",
        "report.json",
        "last-data.json",
        "unchanged.json",
        "looks.json",
        "copied.json",
    ),  # datasets and their validation
    *("network.json", "history.json", "embeddings.npy", "features.npy", "labels.json", "manifest.json"),
    *("index.faiss", "features.npz"),  # models
    *(
        "answers.npz",
        "answers.json",
        "seen.npz",
        "evaluation.json",
        "mistakes.json",
        "golden.json",
        "reference.json",
        "confusion.png",
        "confusion.json",
        "advice.json",
        "open-set.json",
        "page.json",
        "verdict.json",
        "report.html",
        "report.md",
    ),  # verdicts
    *(
        "*.mar",
        "model.json",
        "network.onnx",
        "provenance.json",
        "thumbnails.webp",
        "thumbnails.json",
        "MAR-INF/MANIFEST.json",
    ),  # archives
    *("current.json", "audit.jsonl", "versions/*.json", "settled.json"),  # releases
    *("run-*.log", "torchserve.log", "torchserve.json", "serving-*.json", "response.json"),  # logs and answers
    *("access.log", "copies.log", "error.log", "key_file.json"),  # of a running server
    *("journal.log", "trials.png"),  # make tune
    "copied.json",  # make run IMAGES=
    "drift.json",  # make drift
    *("labels.jsonl", "measured.json"),  # make review
    "pipeline.yaml",  # make compile
    *("installed.json", "uv.txt"),  # make install
}
# What is no file of the repository, and only looks like one.
OTHERS = {
    "cookiecutter.json": "the template's",
    "digit.png": "an example of a user's file",
    "train/a/p01_3.png": "likewise",
    "pipeline/runid": "a label of Kubeflow's pods",
    "../common/requirements.in": "in CONTRIBUTING.md's example of a step",
    "census.json": "the same",
    "steps/census": "the same",
    "steps/census/*": "the same",
    "steps/preprocess/sources/stripes.py": "CONTRIBUTING.md's example of a source",
    "tests/test_it.py": "put into a copy by a test",
    "tests/unit/__pycache__/b.pyc": "put into a copy by a test",
    "torch.onnx": "a module",
}


def known(name: str) -> bool:
    others = any(fnmatch.fnmatchcase(name, other) for other in OTHERS)
    return others or any(fnmatch.fnmatchcase(f"/{name}", f"*/{product}") for product in PRODUCTS)


def wrong_names(files: list[Path]) -> list[str]:
    """`file:line: name` for each wrong name; tests name what is not there, so of theirs only tests count."""
    wrong = []
    for path in files:
        if path.suffix not in TEXTS or path.name in ("LICENSE", Path(__file__).name) or "worker_deaths" in path.parts:
            continue
        for line, name in named_in(ROOT, path):
            if path.parts[0] in ("tests", "benchmarks") and not re.fullmatch(r"tests/\S+\.(py|yaml)", name):
                continue
            if wrong_name(name, PATHS) and not known(name):
                wrong.append(f"{path}:{line}: {name}")
    return wrong


def test_every_file_that_is_named_exists() -> None:
    assert wrong_names(FILES) == []


@pytest.mark.parametrize(
    "name",
    [
        *("steps/train/trian.py", "infra/pv-pvc/kustomisation.yaml", "docs/kubeflw.md", "digests.py", "paramz.yaml"),
        *("steps/{}/requirement.txt", "tests/unit/test_<name>.py", "pipeline/submit.py", ".github/workflows/cd.yml"),
    ],
)
def test_a_wrong_name_is_found(name: str) -> None:
    assert wrong_name(name, PATHS)


@pytest.mark.parametrize("name", ["steps/train", "steps/{}/requirements.txt", "deploy/deploy.py", "params.yaml", "e.g"])
def test_a_right_name_is_not(name: str) -> None:
    assert not wrong_name(name, PATHS)


def test_names_are_found_in_strings_and_comments_and_nowhere_else(tmp_path: Path) -> None:
    source = "import b.py\n'''see\nc.py'''  # and d/e.py\nprint(f'no {x.json} in {y}/f.py', 'g.md')\n"
    (tmp_path / "a.py").write_text(source)
    assert set(named_in(tmp_path, Path("a.py"))) >= {(3, "c.py"), (3, "d/e.py"), (4, "{}/f.py"), (4, "g.md")}
    assert not {"b.py", "x.json"} & {name for _, name in named_in(tmp_path, Path("a.py"))}


@pytest.mark.parametrize("image", NAMES)
def test_what_an_image_is_made_of_exists(image: str) -> None:
    assert [path for path in (*sources(image), dockerfile(image)) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("dockerfile", ["steps/Dockerfile", "serving/Dockerfile"])
def test_what_a_dockerfile_copies_exists(dockerfile: str) -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / dockerfile).read_text(), re.MULTILINE)
    assert copied
    assert [path for words in copied for path in words.split() if not (ROOT / path).exists()] == []
