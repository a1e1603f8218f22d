"""serving/openapi.yaml and docs/clients.md: valid, with the same rules and statuses as the code."""

import re
from typing import Any

import yaml
from openapi_spec_validator import validate

from contract.paths import ROOT
from serving.model.predictor import _BAD_REQUEST, _STATUS, INTERNAL
from tests.support.settings import PARAMS_FILE

SPEC: dict[str, Any] = yaml.safe_load((ROOT / "serving/openapi.yaml").read_text())


def test_the_description_is_valid_openapi() -> None:
    validate(SPEC)


def test_the_rules_are_those_of_the_code() -> None:
    source = "".join(
        (ROOT / path).read_text() for path in ("serving/model/payload.py", "steps/common/images/decode.py")
    )
    rules = set(re.findall(r'(?:Rejected|BadImage)\(\s*"([a-z0-9-]+)"', source)) | {INTERNAL}
    rules.remove("unknown-parameter")  # possible only in the query of paths that are not described
    assert rules == set(SPEC["components"]["schemas"]["error"]["properties"]["error"]["properties"]["rule"]["enum"])
    assert set(_STATUS) <= rules


def test_every_error_status_is_described_for_each_prediction_path() -> None:
    predictions = [item["post"] for path, item in SPEC["paths"].items() if path != "/ping"]
    assert len(predictions) == 3
    for operation in predictions:
        assert {str(status) for status in (200, _BAD_REQUEST, *_STATUS.values())} <= set(operation["responses"])


def test_the_clients_page_has_the_same_errors_keys_and_defaults() -> None:
    page = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
    schemas, rows = SPEC["components"]["schemas"], re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)
    named = {
        int(status): set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+|empty|truncated)`", text)) for status, text in rows
    }
    rules = set(schemas["error"]["properties"]["error"]["properties"]["rule"]["enum"])
    assert set().union(*named.values()) & rules == rules
    for rule in rules:
        assert rule in named[_STATUS.get(rule, _BAD_REQUEST)]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(schemas["prediction"]["properties"])
    params = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))
    defaults = re.findall(r"`([a-z]+)\.([a-z_]+)`\s\((.+?)\)", page)
    assert len(defaults) == 2
    assert all(str(params[section][key]) == value for section, key, value in defaults)
