"""Before TorchServe starts: the pointer, the configuration, the environment, the archive's golden predictions."""

import hashlib
import json
import os
import re
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serving.log import Log
from serving.pointer import PointerError, check_archive, read_pointer
from serving.torchserve import launch
from serving.torchserve.server import TorchServe, TorchServeError


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


def test_a_folder_with_a_path_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    launch.check_length(Path("/tmp/ts-12345678"))
    folder = tmp_path / ("f" * 80)
    with pytest.raises(TorchServeError, match="at most 10[37] bytes, .*: set TMPDIR to a folder with a shorter path"):
        launch.check_length(folder)


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
    assert unknown == ["vmargs"]  # read by launch.py, not by Java


def test_open_defaults_of_torchserve_are_closed() -> None:
    closed = properties()
    for key in ("inference_address", "management_address", "metrics_address"):
        assert closed[key].startswith("http://127.0.0.1:")
    assert closed["grpc_inference_address"] == closed["grpc_management_address"] == "127.0.0.1"
    for key in ("install_py_dep_per_model", "use_env_allowed_urls"):
        assert closed[key] == "false"
    for url in ("http://example.org/x.mar", "https://example.org/x.mar", "file:///etc/x.mar"):
        assert not re.fullmatch(closed["allowed_urls"], url)
    assert not [key for key in closed if key.startswith("cors")]


def test_the_worker_gets_no_secret_and_each_listener_its_own_address() -> None:
    caller = {"PATH": "/bin", "AWS_SECRET": "x", "PYTHONPATH": "/y", "TS_LOAD_MODELS": "all", "TS_CONFIG_FILE": "/z"}
    environment = launch.environment(Path("/folder"), range(9000, 9006), caller)
    assert {key: environment.get(key) for key in caller} == {**dict.fromkeys(caller), "PATH": "/bin"}
    assert environment["TS_GRPC_INFERENCE_PORT"] == "9000"
    assert environment["TMPDIR"] == environment["LOG_LOCATION"] == "/folder"


SOCKETS = {"TS_INFERENCE_ADDRESS", "TS_MANAGEMENT_ADDRESS", "TS_METRICS_ADDRESS"}


@pytest.mark.skipif(sys.platform != "linux", reason="TorchServe supports Unix sockets on Linux only")
def test_torchserve_listens_on_unix_sockets_in_the_private_folder() -> None:
    environment = launch.environment(Path("/folder"), range(9000, 9006), {})
    for key in SOCKETS:
        path = launch.address(Path("/folder"), range(9000, 9006), key)
        assert path == Path("/folder") / key.lower()
        assert environment[key] == f"unix:{path}"
    assert environment["TS_DISABLE_TOKEN_AUTHORIZATION"] == "true"


def without_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> Path:
    if why == "noexec":
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    else:
        monkeypatch.setattr(sys, "platform", why)
    return tmp_path


@pytest.mark.parametrize("why", ["darwin", "noexec"])
def test_elsewhere_it_listens_on_loopback_ports_that_ask_for_a_key(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = without_sockets(tmp_path, monkeypatch, why)
    environment = launch.environment(folder, range(9000, 9006), {})
    assert {environment[key] for key in SOCKETS} == {f"http://127.0.0.1:{port}" for port in (9003, 9004, 9005)}
    assert launch.address(folder, range(9000, 9006), "TS_MANAGEMENT_ADDRESS") == 9004
    assert environment["TS_DISABLE_TOKEN_AUTHORIZATION"] == "false"


def test_free_ports_differ() -> None:
    assert len(set(launch.free_ports())) == len(launch.LISTENERS) + len(launch.SOCKETS)


def test_an_archive_without_golden_predictions_is_refused(tmp_path: Path) -> None:
    mar = tmp_path / "x.mar"
    for content in (None, b"no zip"):
        if content:
            mar.write_bytes(content)
        with pytest.raises(TorchServeError, match=rf"{mar} is no archive of this project .*make run"):
            TorchServe(mar, "x", log=Log(tmp_path / "log"))


@pytest.mark.parametrize("version", ["../x", "-v", "a b"])
def test_an_invalid_version_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(PointerError, match="and not letters, digits"):
        read_pointer(tmp_path, version)


def test_a_version_deployed_before_is_found_by_its_record(tmp_path: Path) -> None:
    mar = write_pointer(tmp_path)
    (tmp_path / "versions").mkdir()
    (tmp_path / "current.json").rename(tmp_path / "versions/1.json")
    assert read_pointer(tmp_path, "1").mar == mar
    (tmp_path / "backup").mkdir()
    mar.rename(tmp_path / "backup" / mar.name)
    check_archive(read_pointer(tmp_path, "1"))
    with pytest.raises(PointerError, match="no version 2 was ever deployed"):
        read_pointer(tmp_path, "2")
