"""A new project is this repository under another name, whatever the tool and whatever the answers."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from contract.paths import ROOT
from pipeline.settings import Project, load_project

Run = Callable[..., subprocess.CompletedProcess[str]]
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
NAME = "continuous-training"  # the default
NAME_LENGTH, TITLE_LENGTH = (
    next(rule.max_length for rule in Project.model_fields[key].metadata if hasattr(rule, "max_length"))
    for key in ("name", "title")
)


def files(folder: Path) -> list[str]:
    """Every file in a folder, relative to it, without those of Git."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return sorted(str(path) for path in paths if ".git" not in path.parts)


def different(names: list[str], project: Path, template: Path = ROOT) -> list[str]:
    """The files whose content or mode differs from the template's."""
    pairs = {name: (project / name, template / name) for name in names}
    return [
        name
        for name, (new, old) in pairs.items()
        if new.is_symlink()
        or new.read_bytes() != old.read_bytes()
        or os.access(new, os.X_OK) != os.access(old, os.X_OK)
    ]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with those files alone that answers change; the others are copied, whatever the answers."""
    folder = tmp_path_factory.mktemp("rendered")
    shutil.copy(ROOT / "cookiecutter.json", folder)
    shutil.copytree(ROOT / "hooks", folder / "hooks")
    for path in TEMPLATE.rglob("*"):
        if path.is_file() and not path.is_symlink():
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return folder


def test_default_project_is_this_repository(tool: Run, out: Path, travelling: list[str]) -> None:
    done = tool("cookiecutter", ROOT, "--no-input")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{NAME} is ready: cd {NAME} && make run\n"
    assert files(out / NAME) == travelling
    assert different(travelling, out / NAME) == []


def test_tests_start_from_the_settings_of_a_new_project() -> None:
    for name in ("params.yaml", "project.yaml"):
        told, own = ROOT / name, ROOT / "tests/support" / name
        assert own.read_text() == told.read_text(), f"copy {name} to tests/support: its tests are of this project"


def test_readme_names_every_folder(travelling: list[str]) -> None:
    folders = {name.split("/")[0] for name in travelling if "/" in name and not name.startswith(".")}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [folder for folder in sorted(folders) if f"| `{folder}/` |" not in readme] == []


def test_only_what_differs_between_projects_is_rendered() -> None:
    real = {path.name for path in TEMPLATE.rglob("*") if path.is_file() and not path.is_symlink()}
    assert real == {
        ".gitattributes",
        ".gitignore",
        "LICENSE",
        "README.md",
        "project.yaml",
        "kustomization.yaml",
    }  # Git follows no linked .gitattributes and .gitignore
    links = [path for path in TEMPLATE.rglob("*") if path.is_symlink()]
    assert {path: os.readlink(path) for path in links} == {
        path: os.path.relpath(ROOT / path.relative_to(TEMPLATE), path.parent) for path in links
    }


def test_caches_environments_and_volumes_do_not_travel(
    bake: Run, out: Path, clone: Path, travelling: list[str]
) -> None:
    for name in (
        "steps/train/__pycache__/a.pyc",
        "tests/unit/__pycache__/b.pyc",
        "volumes/c",
        ".venv/d",
        ".mypy_cache/e",
    ):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).touch()
    assert bake(clone, "--no-input").returncode == 0
    assert files(out / NAME) == travelling


@pytest.mark.slow
def test_cookiecutter_takes_a_git_repository(tool: Run, out: Path, clone: Path, travelling: list[str]) -> None:
    done = tool("cookiecutter", f"git+file://{clone}", "--no-input")
    assert done.returncode == 0, done.stdout + done.stderr
    assert files(out / NAME) == travelling
    assert different(travelling, out / NAME) == []


@pytest.mark.slow
def test_cruft_creates_and_updates(tool: Run, out: Path, clone: Path, travelling: list[str]) -> None:
    answers = '{"project_title": "Zoë\'s: #1 {digits}", "project_slug": "Ma Ville/2"}'
    done = tool("cruft", "create", clone, "--no-input", "--extra-context", answers)
    assert done.returncode == 0, done.stdout + done.stderr
    project = out / "ma-ville-2"
    assert files(project) == sorted([*travelling, ".cruft.json"])
    folders = ("infra/gc", "infra/pv-pvc", "infra/torchserve", "infra/torchserve/rollback")
    rendered = {"README.md", "project.yaml", *(f"{folder}/kustomization.yaml" for folder in folders)}
    assert set(different(travelling, project, clone)) == rendered
    before = (project / "project.yaml").read_text()

    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "-m", "One")):
        assert tool("git", *words, cwd=project).returncode == 0
    (clone / "params.yaml").write_text((clone / "params.yaml").read_text() + "# newer\n")
    assert tool("git", "commit", "--quiet", "-am", "Two", cwd=clone).returncode == 0
    done = tool("cruft", "update", "--skip-apply-ask", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert different(["params.yaml", "Makefile"], project, clone) == []
    assert (project / "project.yaml").read_text() == before


@pytest.mark.slow
def test_cruft_updates_a_title_with_braces(tool: Run, out: Path, clone: Path) -> None:
    """It renders the stored answers once more."""
    title, author = "{{ 7 * 7 }} {% if %} {# no #} {", "{{ cookiecutter.nothing }}"
    done = tool("cruft", "create", clone, answers=f"{title}\nbraces\n{author}\n")
    assert done.returncode == 0, done.stdout + done.stderr
    project = out / "braces"
    before = {name: (project / name).read_text() for name in ("project.yaml", "README.md", "LICENSE")}
    assert load_project(project / "project.yaml").title == title
    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "-m", "One")):
        assert tool("git", *words, cwd=project).returncode == 0
    for number in range(2):  # the second with the answers that the first has stored
        (clone / "params.yaml").write_text((clone / "params.yaml").read_text() + f"# newer {number}\n")
        assert tool("git", "commit", "--quiet", "-am", "Two", cwd=clone).returncode == 0
        done = tool("cruft", "update", "--skip-apply-ask", cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr
        assert different(["params.yaml"], project, clone) == []
        assert {name: (project / name).read_text() for name in before} == before
        assert tool("git", "commit", "--quiet", "-am", "Updated", cwd=project).returncode == 0


@pytest.mark.parametrize(
    ("branch", "branches"), [("main", ["master", "main"]), ("trunk/1", ["master", "main", "trunk/1"])]
)
def test_the_default_branch_is_that_of_git(tool: Run, bake: Run, out: Path, branch: str, branches: list[str]) -> None:
    assert tool("git", "config", "--global", "init.defaultBranch", branch).returncode == 0
    assert bake(ROOT, "--no-input").returncode == 0
    readme = (out / NAME / "README.md").read_text()
    assert f"a push to `{branch}` runs the tests" in " ".join(readme.split())
    assert "`master`" not in readme
    workflow = yaml.load((out / NAME / ".github/workflows/ct.yml").read_text(), yaml.BaseLoader)
    assert workflow["on"]["push"]["branches"] == branches


def test_in_a_repository_the_default_branch_is_that_of_its_origin(tool: Run, out: Path, clone: Path) -> None:
    assert tool("git", "branch", "--move", "main", cwd=clone).returncode == 0
    assert tool("git", "clone", "--quiet", clone, "larger").returncode == 0
    done = tool("cookiecutter", ROOT, "--no-input", cwd=out / "larger")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a push to `main` runs" in " ".join((out / "larger" / NAME / "README.md").read_text().split())


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("digits-2", "digits-2"),
        ("UPPER case_v.2", "upper-case-v-2"),
        ("../x", "x"),
        ("../../a/../b/c", "a-b-c"),
        ("/tmp/absolute/path", "tmp-absolute-path"),
        ("", "project"),
        ("2nd", "project-2nd"),
        ("a\nb\tc", "a-b-c"),
        ('it\'s "quoted" \\ here', "it-s-quoted-here"),
        ("Zürich 🎉", "zurich"),
        ("🎉", "project"),
        ("$(touch oops); `touch oops`", "touch-oops-touch-oops"),
        ("on", "on"),
        ("x" * 300, "x" * NAME_LENGTH),
        ("9" * 300, "project-" + "9" * (NAME_LENGTH - 8)),
        ("x" * (NAME_LENGTH - 1) + " y", "x" * (NAME_LENGTH - 1)),
    ],
)
def test_any_name_gives_a_valid_one(bake: Run, rendered: Path, out: Path, answer: str, name: str) -> None:
    done = bake(rendered, "--no-input", f"project_slug={answer}")
    assert (done.returncode, done.stderr) == (0, "")
    assert load_project(out / name / "project.yaml").name == name
    assert [path.name for path in out.iterdir()] == [name]
    assert list(out.parent.iterdir()) == [out]


TITLES = [
    "it's a 'title'",
    '"double" \\ back\\slash \\n',
    "{{ cookiecutter }} {% raw %} {# no #}",
    "key: value # no comment",
    "- [a, b] & *c !d |e >f %g @h `i`",
    "Zoë's 数字 🎉 👍🏽 é",
    "<script>alert('x')</script>",
    "$(touch oops) `touch oops` ../x",
    "42",
]


@pytest.mark.parametrize("title", TITLES)
def test_any_title_is_kept(bake: Run, rendered: Path, out: Path, title: str) -> None:
    done = bake(rendered, answers=f"{title}\nsome-name\n{title}\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert load_project(out / "some-name/project.yaml").title == title
    assert (out / "some-name/README.md").read_text().splitlines()[0] == f"# {title}"
    assert f"Copyright (c) {title}\n" in (out / "some-name/LICENSE").read_text()
    assert [path.name for path in out.iterdir()] == ["some-name"]


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("", "Untitled"),
        ("two\nlines\r\n", "two lines"),
        ("bell\a escape\x1b[31m delete\x7f", "bell escape [31m delete"),
        ("next\x85line\u2028and\u2029and\u00a0no", "next line and and no"),
        ("x" * 300, "x" * TITLE_LENGTH),
        ("x" * (TITLE_LENGTH - 1) + " y", "x" * (TITLE_LENGTH - 1)),
    ],
)
def test_a_title_becomes_one_line_of_text(bake: Run, rendered: Path, out: Path, answer: str, title: str) -> None:
    done = bake(rendered, "--no-input", f"project_title={answer}", "project_slug=x", f"author={answer}")
    assert (done.returncode, done.stderr) == (0, "")
    assert load_project(out / "x/project.yaml").title == title


def test_name_follows_from_the_title(bake: Run, out: Path) -> None:
    done = bake(ROOT, answers="Bird songs of 2026!\n\n\n")
    assert done.returncode == 0
    project = load_project(out / "bird-songs-of-2026/project.yaml")
    assert (project.name, project.title) == ("bird-songs-of-2026", "Bird songs of 2026!")
    readme = (out / project.name / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# {project.title}\n")
    assert f"/predictions/{project.name}\n" in readme
    assert "continuous-training" not in readme


def test_at_most_eight_questions_each_with_a_default() -> None:
    asked = yaml.safe_load((ROOT / "cookiecutter.json").read_text())
    questions = {key: default for key, default in asked.items() if not key.startswith("_")}
    assert len(questions) <= 8
    assert all(questions.values())
    assert set(asked["__prompts__"]) == set(questions)


def test_an_existing_folder_is_left_alone(bake: Run, out: Path) -> None:
    (out / NAME).mkdir()
    done = bake(ROOT, "--no-input")
    assert done.returncode == 1
    assert done.stdout == f'Error: "{NAME}" directory already exists\n'
    assert files(out) == []


def test_links_that_became_text_files_are_refused(bake: Run, out: Path, clone: Path) -> None:
    template = clone / TEMPLATE.name
    for link in [path for path in template.rglob("*") if path.is_symlink()]:
        target = os.readlink(link)
        link.unlink()
        link.write_text(target)
    done = bake(clone, "--no-input")
    assert done.returncode == 1
    assert "are not links but text files" in done.stderr
    assert "git clone -c core.symlinks=true" in done.stderr
    assert list(out.iterdir()) == []
