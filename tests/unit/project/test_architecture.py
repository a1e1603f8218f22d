"""docs/architecture.md names the packages, the import contracts and the changed classes as they are."""

import re
import tomllib

import pytest

from contract.paths import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_packages_are_in_the_order_of_the_contract() -> None:
    layers = next(contract["layers"] for contract in CONTRACTS if contract["id"] == "layers")
    drawn = " --> ".join(layers).replace(" | ", " & ")
    assert f"    {drawn}\n" in section("Lines that no import crosses")


@pytest.mark.parametrize(
    "contract", [each for each in CONTRACTS if each["type"] == "forbidden"], ids=lambda each: each["id"]
)
def test_a_room_with_a_contract_of_its_own_is_named(contract: dict[str, list[str]]) -> None:
    for module in contract["source_modules"]:
        assert f"| `{module.replace('.', '/')}/` |" in section("Lines that no import crosses")


def test_every_module_that_changes_a_class_of_torchserve_is_named() -> None:
    folder = ROOT / "serving/torchserve"
    changing = {path.name for path in folder.glob("*.py") if re.search(r"= ClassPatch\(", path.read_text())}
    named = re.findall(r"^\| `serving/torchserve/(\w+\.py)` \|", section("Why classes of TorchServe are changed"), re.M)
    assert changing
    assert sorted(named) == sorted(changing)


def test_terms_are_in_alphabetical_order_and_none_twice() -> None:
    terms = re.findall(r"^\| ([\w, -]+?) \| ", section("Terms"), re.MULTILINE)[1:]
    assert len(terms) > 20
    assert terms == sorted(set(terms), key=str.lower)
