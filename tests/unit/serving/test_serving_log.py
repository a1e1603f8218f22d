"""The log file: appended to, shared by two servers, rotated; its tail names the exception that killed a worker."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contract.paths import ROOT
from serving import log as log_module
from serving.log import Log

DEATHS = Path(__file__).with_name("worker_deaths")  # output of TorchServe 0.12.0 at a switch, with other paths


@pytest.mark.parametrize(
    ("death", "cause"),
    [
        ("import", "ImportError: libnothing.so.1 is missing"),
        ("network", "onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf: [ONNXRuntimeError] : 7"),
    ],
)
def test_the_tail_names_the_exception_that_killed_the_worker(death: str, cause: str, tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    with (DEATHS / f"{death}.txt").open("rb") as output:
        log.follow_java(output, lambda: None).join()
    where, *shown = log.tail().splitlines()
    assert where.startswith("the end of its log, ")
    assert [line for line in shown if line.startswith(f"  {cause}")]
    assert len(shown) < 20


def test_a_new_start_appends_to_the_log(tmp_path: Path) -> None:
    for text in (b"crashed\n", b"started\n"):
        Log(tmp_path / "log").write(text)
    assert (tmp_path / "log").read_bytes() == b"crashed\nstarted\n"


def test_two_servers_do_not_overwrite_each_other_in_one_log(tmp_path: Path) -> None:
    logs = [Log(tmp_path / "log"), Log(tmp_path / "log")]
    for number in range(4):
        logs[number % 2].write(b"%d\n" % number)
    assert (tmp_path / "log").read_bytes() == b"0\n1\n2\n3\n"


def test_a_log_that_is_already_too_large_is_rotated_at_the_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "ROTATE_BYTES", 10)
    (tmp_path / "log").write_bytes(b"of the last server\n")
    Log(tmp_path / "log").write(b"new\n")
    assert (tmp_path / "log").read_bytes() == b"new\n"
    assert (tmp_path / "log.1").read_bytes() == b"of the last server\n"


def test_the_second_server_does_not_rotate_a_rotated_log_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "ROTATE_BYTES", 10)
    one, other = Log(tmp_path / "log"), Log(tmp_path / "log")
    one.write(b"one is large\n")
    other.write(b"other\n")
    one.write(b"one\n")
    other.write(b"other\n")
    assert (tmp_path / "log.1").read_bytes() == b"one is large\nother\n"
    assert (tmp_path / "log").read_bytes() == b"one\nother\n"


def test_a_log_that_was_moved_away_is_created_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "ROTATE_BYTES", 10)
    log = Log(tmp_path / "log")
    log.write(b"this is large\n")
    (tmp_path / "log").unlink()
    log.write(b"new\n")
    assert (tmp_path / "log").read_bytes() == b"new\n"


PRINTED = b"""WARNING: java says
2026-01-01T00:00:00.000Z INFO  MODEL_LOG - Backend worker process died.
2026-01-01T00:00:00.000Z INFO  MODEL_LOG - ValueError: wrong weights
2026-01-01T00:00:00.000Z ERROR WorkerThread - Backend worker error
java.lang.Exception: died
\tat org.pytorch.serve(Unknown)
\t... 4 more
"""


def test_the_log_is_json_lines_and_its_tail_is_readable(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    failures: list[None] = []
    log.follow_java(io.BytesIO(PRINTED), lambda: failures.append(None)).join()
    assert len(failures) == 1
    assert log.tail().splitlines() == [
        f"the end of its log, {tmp_path / 'log'}:",
        "  Backend worker process died.",
        "  ValueError: wrong weights",
        "  Backend worker error",
        "  java.lang.Exception: died",
    ]
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {
        "time": "2026-01-01T00:00:00.000Z",
        "level": "ERROR",
        "logger": "WorkerThread",
        "message": "Backend worker error",
    } in lines


def test_a_log_that_grows_too_large_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "ROTATE_BYTES", 100)
    log = Log(tmp_path / "log")
    for number in range(3):
        log.write(b"%d" % number * 120 + b"\n")
    assert (tmp_path / "log").read_bytes() == b"2" * 120 + b"\n"
    assert (tmp_path / "log.1").read_bytes() == b"1" * 120 + b"\n"


def test_request_lines_from_the_pipe_stay_whole(tmp_path: Path) -> None:
    pipe = tmp_path / "requests"
    os.mkfifo(pipe)
    log = Log(tmp_path / "log")
    end = log.follow_requests(pipe)
    handle = os.open(pipe, os.O_WRONLY)
    wanted = b"".join(b'{"request": %d}\n' % number for number in range(5000))
    for start in range(0, len(wanted), 1000):  # cuts lines
        os.write(handle, wanted[start : start + 1000])
    deadline = time.monotonic() + 10
    while (tmp_path / "log").read_bytes() != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    end()
    os.close(handle)
    assert (tmp_path / "log").read_bytes() == wanted


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_a_full_disk_raises_nothing() -> None:
    log = Log(Path("/dev/full"))
    log.write_line("lost")
    assert log.dropped == 1


PIPED = """
import sys, time
from serving.log import Log
log = Log(None)
line = "x" * 1000
began = time.monotonic()
for number in range(5000):
    log.write_line(line)
print(log.dropped, time.monotonic() - began, file=sys.stderr)
"""


def test_output_that_nobody_reads_delays_nobody_and_is_counted() -> None:
    words = [sys.executable, "-c", PIPED]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        dropped, seconds = process.stderr.read().split()
        written = process.stdout.read()
    assert 4000 < int(dropped) < 5000
    assert float(seconds) < 5
    whole = written[: written.rindex(b"\n") + 1].splitlines()
    assert len(whole) + int(dropped) in (4999, 5000)
    assert {json.loads(line)["message"] for line in whole} == {"x" * 1000}


def test_output_that_is_read_slowly_is_whole() -> None:
    words = [sys.executable, "-c", PIPED.replace("5000", "300")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = list(process.stdout)
        dropped, _ = process.stderr.read().split()
    assert (len(lines), int(dropped)) == (300, 0)
