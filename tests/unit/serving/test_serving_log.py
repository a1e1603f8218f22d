"""The log's file outlives its writer and bears a second one; its end says what killed a worker."""

from pathlib import Path

import pytest

from serving import log as log_module
from serving.log import Log

DEATHS = Path(__file__).with_name("worker_deaths")  # what TorchServe 0.12.0 printed at a switch, with other paths


@pytest.mark.parametrize(
    ("death", "cause"),
    [
        ("import", "ImportError: libnothing.so.1 is missing"),
        ("network", "onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf: [ONNXRuntimeError] : 7"),
    ],
)
def test_the_end_of_the_log_says_what_killed_the_worker(death: str, cause: str, tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    with (DEATHS / f"{death}.txt").open("rb") as output:
        log.follow_java(output).join()
    where, *shown = log.tail().splitlines()
    assert where.startswith("the end of its log, ")
    assert [line for line in shown if line.startswith(f"  {cause}")]
    assert len(shown) < 20


def test_a_new_start_goes_on_after_what_the_log_holds(tmp_path: Path) -> None:
    for text in (b"crashed\n", b"started\n"):
        Log(tmp_path / "log").write(text)
    assert (tmp_path / "log").read_bytes() == b"crashed\nstarted\n"


def test_two_servers_with_one_log_overwrite_nothing_of_one_another(tmp_path: Path) -> None:
    logs = [Log(tmp_path / "log"), Log(tmp_path / "log")]
    for number in range(4):
        logs[number % 2].write(b"%d\n" % number)
    assert (tmp_path / "log").read_bytes() == b"0\n1\n2\n3\n"


def test_a_log_that_was_large_before_begins_anew_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "ROTATE_BYTES", 10)
    (tmp_path / "log").write_bytes(b"of the last server\n")
    Log(tmp_path / "log").write(b"new\n")
    assert (tmp_path / "log").read_bytes() == b"new\n"
    assert (tmp_path / "log.1").read_bytes() == b"of the last server\n"


def test_what_one_server_put_aside_the_other_does_not_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "ROTATE_BYTES", 10)
    one, other = Log(tmp_path / "log"), Log(tmp_path / "log")
    one.write(b"one is large\n")
    other.write(b"other\n")
    one.write(b"one\n")
    other.write(b"other\n")
    assert (tmp_path / "log.1").read_bytes() == b"one is large\nother\n"
    assert (tmp_path / "log").read_bytes() == b"one\nother\n"


def test_a_large_log_that_was_moved_away_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "ROTATE_BYTES", 10)
    log = Log(tmp_path / "log")
    log.write(b"this is large\n")
    (tmp_path / "log").unlink()
    log.write(b"new\n")
    assert (tmp_path / "log").read_bytes() == b"new\n"
