"""`dsl.ParallelFor` in a run on this machine: one task after the other, up to the first that fails."""

from pathlib import Path

import pytest
from kfp import dsl

from pipeline.local.subprocesses import run_in_subprocesses


def test_tasks_of_a_loop_run_one_by_one_up_to_a_failure(tmp_path: Path) -> None:
    @dsl.component(base_image="python", install_kfp_package=False)
    def names(first: str) -> list:  # type: ignore[type-arg]
        return [first, "fails", "c"]

    @dsl.component(base_image="python", install_kfp_package=False)
    def note(path: str, name: str) -> None:
        open(f"{path}/{name}", "x").close()
        if name == "fails":
            raise ValueError(name)

    @dsl.pipeline  # type: ignore[untyped-decorator]
    def loop(path: str, first: str) -> None:
        listed = names(first=first)
        with dsl.If(first != "", name="some"):
            with dsl.ParallelFor(listed.output, parallelism=3) as name:
                noted = note(path=path, name=name)
            note(path=path, name="after").after(noted)

    (tmp_path / "noted").mkdir()
    with (tmp_path / "log").open("w") as log, pytest.raises(RuntimeError):
        run_in_subprocesses(loop, {"path": str(tmp_path / "noted"), "first": "a"}, log)
    assert {path.name for path in (tmp_path / "noted").iterdir()} == {"a", "fails"}
