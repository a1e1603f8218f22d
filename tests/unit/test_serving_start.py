"""What is decided before TorchServe starts: the pointer, the configuration, the environment, the archive's canary."""

import hashlib
import json
import re
import socket
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from serving import launch, log
from serving.pointer import PointerError, check_archive, read_pointer
from serving.server import TorchServe, TorchServeError


def write_pointer(volume: Path, **changes: Any) -> Path:
    mar = volume / "model-store" / "digits_1.mar"
    mar.parent.mkdir(parents=True)
    mar.write_bytes(b"archive")
    pointer = {"name": "digits", "version": "1", "mar": mar.name, "sha256": hashlib.sha256(b"archive").hexdigest()}
    (volume / "current.json").write_text(json.dumps(pointer | changes))
    return mar


def test_the_pointer_names_the_archive(tmp_path: Path) -> None:
    mar = write_pointer(tmp_path, accuracy=0.99)
    pointer = read_pointer(tmp_path)
    assert (pointer.name, pointer.version, pointer.mar) == ("digits", "1", mar)
    check_archive(pointer)


def test_no_pointer_says_make_run(tmp_path: Path) -> None:
    with pytest.raises(PointerError, match=rf"nothing is deployed yet, {tmp_path}/current.json .* make run"):
        read_pointer(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"name": "digits"}', "\udcff"])
def test_a_damaged_pointer_names_its_path_and_the_remedy(tmp_path: Path, content: str) -> None:
    (tmp_path / "current.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(PointerError, match=rf"{tmp_path}/current.json is damaged .*: remove it"):
        read_pointer(tmp_path)


@pytest.mark.parametrize("change", [{"mar": "../../secret.mar"}, {"name": "a=b,c"}, {"name": ""}, {"mar": "-x"}])
def test_a_pointer_out_of_the_model_store_is_refused(tmp_path: Path, change: dict[str, str]) -> None:
    write_pointer(tmp_path, **change)
    with pytest.raises(PointerError, match=re.escape(repr(*change.values()))):
        read_pointer(tmp_path)


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    mar = write_pointer(tmp_path)
    mar.unlink()
    with pytest.raises(PointerError, match=rf"names {mar}, which cannot be read .*: restore it"):
        check_archive(read_pointer(tmp_path))


def test_a_changed_archive_is_refused(tmp_path: Path) -> None:
    mar = write_pointer(tmp_path)
    mar.write_bytes(b"other")
    with pytest.raises(PointerError, match=rf"{mar} has SHA-256 \w+ where the pointer says .*: remove it"):
        check_archive(read_pointer(tmp_path))


def properties() -> dict[str, str]:
    lines = launch.CONFIG.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_torchserve_knows_every_property() -> None:
    spec = find_spec("ts")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    with zipfile.ZipFile(Path(spec.submodule_search_locations[0], "frontend", "model-server.jar")) as jar:
        known = jar.read("org/pytorch/serve/util/ConfigManager.class")
    unknown = [key for key in properties() if len(key).to_bytes(2) + key.encode() not in known]
    assert unknown == ["vmargs"]  # which the launcher reads, not Java


def test_what_torchserve_leaves_open_is_closed() -> None:
    closed = properties()
    for key in ("inference_address", "management_address", "metrics_address"):
        assert closed[key].startswith("http://127.0.0.1:")
    assert closed["grpc_inference_address"] == closed["grpc_management_address"] == "127.0.0.1"
    for key in ("enable_model_api", "install_py_dep_per_model", "use_env_allowed_urls"):
        assert closed[key] == "false"
    for url in ("http://example.org/x.mar", "https://example.org/x.mar", "file:///etc/x.mar"):
        assert not re.fullmatch(closed["allowed_urls"], url)
    assert not [key for key in closed if key.startswith("cors")]


def test_the_worker_gets_no_secret_and_every_listener_a_loopback_address() -> None:
    caller = {"PATH": "/bin", "AWS_SECRET": "x", "PYTHONPATH": "/y", "TS_LOAD_MODELS": "all", "TS_CONFIG_FILE": "/z"}
    environment = launch.environment(Path("/folder"), "127.0.0.1", range(9000, 9006), caller)
    assert {key: environment.get(key) for key in caller} == {**dict.fromkeys(caller), "PATH": "/bin"}
    assert environment["TS_INFERENCE_ADDRESS"] == "http://127.0.0.1:9000"
    assert environment["TS_MANAGEMENT_ADDRESS"] == "http://127.0.0.1:9001"
    assert environment["TS_METRICS_ADDRESS"] == "http://127.0.0.1:9002"
    assert environment["TS_GRPC_INFERENCE_PORT"] == "9003"
    assert environment["TMPDIR"] == environment["LOG_LOCATION"] == "/folder"


def test_a_listener_can_be_set_by_the_caller() -> None:
    caller = {"TS_METRICS_ADDRESS": "http://0.0.0.0:8082"}
    environment = launch.environment(Path("/folder"), "0.0.0.0", range(9000, 9006), caller)
    assert environment["TS_METRICS_ADDRESS"] == "http://0.0.0.0:8082"
    assert environment["TS_INFERENCE_ADDRESS"] == "http://0.0.0.0:9000"


def test_free_ports_differ_and_a_taken_one_is_named() -> None:
    ports = launch.free_ports("127.0.0.1", 0)
    assert len(set(ports)) == len(launch.LISTENERS) + 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(launch.AddressError, match=rf"port {port} of 127.0.0.1 .*in use.*--port"):
            launch.free_ports("127.0.0.1", port)


def test_an_archive_without_a_canary_is_refused(tmp_path: Path) -> None:
    mar = tmp_path / "x.mar"
    for content in (None, b"no zip"):
        if content:
            mar.write_bytes(content)
        with pytest.raises(TorchServeError, match=rf"{mar} is no archive of this project .*make run"):
            TorchServe(mar, "x", log=tmp_path / "log")


def test_the_end_of_the_log_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        "WARNING: java says\n"
        "2026-01-01T00:00:00,000 INFO  MODEL_LOG - Backend worker process died.\n"
        "2026-01-01T00:00:00,000 INFO  MODEL_LOG - ValueError: wrong weights\n"
        "2026-01-01T00:00:00,000 ERROR WorkerThread - Backend worker error\n"
        "java.lang.Exception: died\n\tat org.pytorch.serve(Unknown)\n\t... 4 more\n"
    )
    assert log.failure(path)
    assert log.tail(path).splitlines() == [
        f"the end of its log, {path}:",
        "  Backend worker process died.",
        "  ValueError: wrong weights",
        "  Backend worker error",
        "  java.lang.Exception: died",
    ]
