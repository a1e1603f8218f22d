"""A run of the same work as the last one has nothing to do, and any doubt means that it has."""

from pathlib import Path
from typing import Any

import pytest

from contract.events import Settled, parse
from steps.common.settled import recall, remember, work_of
from steps.common.store import produce
from steps.common.volumes import model_volume
from steps.deploy.release.rollback import rollback
from tests.support.switching import served

PARAMETERS: Any = ["digits", {"epochs": 2}]
IDS = {"train": "1", "test": "2"}
WORK = work_of("images", PARAMETERS, IDS)
OUTCOME = "UNCHANGED v2: because"


def made() -> dict[str, str]:
    """A verdict on the model volume."""

    def build(folder: Path) -> dict[str, Any]:
        (folder / "verdict.json").write_text("{}")
        return {}

    one = produce(
        model_volume(), "verdict", "analyse", parameters={}, inputs={}, build=build, code=("steps.index.index",)
    )
    return {"verdict": one.id}


@pytest.fixture
def ended(deploy_volume: Path) -> Path:
    """The volumes after two runs; the last one deployed v2."""
    served("v1")
    served("v2")
    remember(WORK, OUTCOME, made())
    return deploy_volume


def test_the_same_work_is_done(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recall(WORK, "preprocess")
    assert [parse(line) for line in capsys.readouterr().out.splitlines()] == [Settled(OUTCOME, "preprocess")]


@pytest.mark.parametrize(
    "other",
    [
        work_of("other images", PARAMETERS, IDS),
        work_of("images", ["digits", {"epochs": 3}], IDS),
        work_of("images", PARAMETERS, {**IDS, "test": "3"}),
        "",
    ],
)
def test_other_work_is_to_be_done(ended: Path, other: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not recall(other, "preprocess")
    assert capsys.readouterr().out == ""


def test_without_a_digest_of_the_code_work_has_no_name(ended: Path) -> None:
    nameless = work_of("", PARAMETERS, IDS)
    remember(nameless, OUTCOME, {})
    assert not recall(nameless, "preprocess")
    assert recall(WORK, "preprocess"), "and nothing was forgotten for it"


def test_what_was_rolled_back_since_is_to_be_done(ended: Path) -> None:
    rollback()
    assert not recall(WORK, "preprocess")
    rollback("v2")
    assert not recall(WORK, "preprocess")


def test_what_was_deployed_since_is_to_be_done(ended: Path) -> None:
    served("v3")
    assert not recall(WORK, "preprocess")


@pytest.mark.parametrize("lost", ["current.json", "audit.jsonl", "model-store/digits_v2.mar"])
def test_what_was_lost_of_the_deploy_volume_is_to_be_done(ended: Path, lost: str) -> None:
    (ended / lost).unlink()
    assert not recall(WORK, "preprocess")


def test_what_was_lost_or_cut_short_of_the_model_volume_is_to_be_done(ended: Path) -> None:
    (verdict,) = model_volume().glob("verdict/*/verdict.json")
    verdict.write_text("{} and more")
    assert not recall(WORK, "preprocess")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"work": "%s"}', '{"work": "%s", "served": [], "made": 1}']
)
def test_a_damaged_record_counts_as_none(ended: Path, content: str) -> None:
    (model_volume() / "settled.json").write_text(content.replace("%s", WORK))
    assert not recall(WORK, "preprocess")
