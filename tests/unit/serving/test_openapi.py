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


DOOR = (ROOT / "serving/front/nginx.conf").read_text()
# With their statuses, as nginx.conf has them.
OF_THE_DOOR = {
    rule: int(changed or statuses.split()[0])
    for statuses, changed, rule in re.findall(r"error_page ([\d ]+?)(?: =(\d+))? /_error/([a-z-]+);", DOOR)
}
OF_THE_DOOR |= {"wrong-type": 415, "wrong-encoding": 415, "unavailable": 503, "not-ready": 503}
RULES = set(SPEC["components"]["schemas"]["error"]["properties"]["error"]["properties"]["rule"]["enum"])


def of_the_worker() -> set[str]:
    source = "".join(
        (ROOT / path).read_text() for path in ("serving/model/payload.py", "steps/common/images/decode.py")
    )
    return set(re.findall(r'(?:Rejected|BadImage)\(\s*"([a-z0-9-]+)"', source)) - {"unknown-parameter"} | {INTERNAL}


def test_the_rules_are_those_of_the_worker_and_the_door() -> None:
    assert of_the_worker() | set(OF_THE_DOOR) == RULES
    assert set(_STATUS) <= RULES
    [messages] = re.findall(r"map \$rule \$message \{(.*?)\n    \}", DOOR, re.DOTALL)
    said = set(re.findall(r"^ +([a-z-]+) \"", messages, re.MULTILINE)) - {"default"}
    assert said == set(OF_THE_DOOR) - {"not-ready"}
    assert '"rule": "not-ready"' in (ROOT / "serving/control.py").read_text()


def test_every_error_status_is_described_for_each_prediction_path() -> None:
    predictions = [item["post"] for item in SPEC["paths"].values() if "post" in item]
    assert len(predictions) == 2
    for operation in predictions:
        statuses = {200, _BAD_REQUEST, *_STATUS.values(), *OF_THE_DOOR.values()}
        assert {str(status) for status in statuses} == set(operation["responses"])


def test_the_clients_page_has_the_same_errors_keys_and_defaults() -> None:
    page = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
    schemas, rows = SPEC["components"]["schemas"], re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)
    named = {
        int(status): set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+|empty|truncated|busy|unavailable)`", text))
        for status, text in rows
    }
    assert set().union(*named.values()) & RULES == RULES
    for rule in RULES:
        assert rule in named[OF_THE_DOOR.get(rule) or _STATUS.get(rule, _BAD_REQUEST)]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(schemas["prediction"]["properties"])
    params = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))
    defaults = re.findall(r"`([a-z]+)\.([a-z_]+)`\s\((.+?)\)", page)
    assert len(defaults) == 2
    assert all(str(params[section][key]) == value for section, key, value in defaults)
