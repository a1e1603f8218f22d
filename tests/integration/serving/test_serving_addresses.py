"""Where a server listens, and where its files are: IPv6, sockets, private folders; keys where there are no sockets."""

import contextlib
import json
import os
import shutil
import socket
import stat
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from serving.connection import send_local
from serving.front import configuration
from serving.front.configuration import Address, AddressError, listen, parse_address, reserve
from serving.log import Log
from serving.server import Server
from serving.system import folder as folder_module
from serving.system.folder import private_folder, refresh
from serving.torchserve import launch
from tests.support.model_archive import CLASSES, NAME, archive, picture, png, write_model
from tests.support.torchserve_process import listening


@pytest.fixture(scope="module")
def mar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(write_model(tmp_path_factory.mktemp("model")), tmp_path_factory.mktemp("store") / "model.mar")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_all_addresses_of_both_families_and_metrics_on_another(mar: Path, tmp_path: Path) -> None:
    metrics = reserve(Address("::1"), "--metrics")
    with Server(mar, NAME, Address("::"), metrics, log=Log(tmp_path / "log")) as server:
        assert server.url == f"http://[::1]:{server.port}/predictions/{NAME}"
        assert server.predict(png(picture(2)))[1]["label"] == CLASSES[2]
        connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/ping")
        assert connection.getresponse().status == 200
        assert server.metrics_url == f"http://[::1]:{metrics.port}/metrics"
        found, deadline = "", time.monotonic() + 30
        while "serving_http_requests_total{" not in found:  # the access log is read in bulk
            assert time.monotonic() < deadline, found
            connection = HTTPConnection("::1", metrics.port, timeout=10)
            connection.request("GET", "/metrics")
            found = connection.getresponse().read().decode()
            time.sleep(0.1)
        assert "ts_inference_requests_total{" in found


@pytest.mark.slow
def test_a_port_that_another_process_takes_meanwhile_is_replaced(
    mar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as faster:
        taken = Address(port=faster.getsockname()[1])
        found = iter([taken])
        monkeypatch.setattr(
            "serving.server.reserve", lambda address, option: next(found, None) or reserve(address, option)
        )
        with Server(mar, NAME, log=Log(tmp_path / "log")) as started:
            assert started.port != taken.port
            assert started.predict(png(picture(1)))[1]["label"] == CLASSES[1]


@pytest.mark.slow
def test_unix_sockets_instead_of_ports(mar: Path, tmp_path: Path) -> None:
    with TemporaryDirectory(prefix="s-") as folder:
        path, metrics = Path(folder, "predict"), Path(folder, "metrics")
        with socket.socket(socket.AF_UNIX) as left:  # a stale socket is no obstacle
            left.bind(str(path))
        with Server(mar, NAME, Address(path=path), Address(path=metrics), log=Log(tmp_path / "log")):
            said = send_local(path, "PUT", f"/predictions/{NAME}", body=png(picture(1)))
            assert json.loads(said.body)["label"] == CLASSES[1]
            assert b"serving_model_info" in send_local(metrics, "GET", "/metrics").body
            with pytest.raises(AddressError, match="cannot be used \\(Address already in use\\)"):
                reserve(Address(path=path), "--socket")


@pytest.mark.slow
def test_where_there_are_no_sockets_torchserve_answers_nobody_without_its_keys(
    mar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "socket_path", lambda *_: None)
    with Server(mar, NAME, log=Log(tmp_path / "log")) as server:
        assert server.predict(png(picture(3)))[1]["label"] == CLASSES[3]
        assert server.is_ready()
        assert b"ts_inference_requests_total" in server.monitor.render()
        refused = 0
        for port in {port for _, port in listening(server)}:
            for method, path in (
                ("DELETE", f"/models/{NAME}"),
                ("PUT", f"/models/{NAME}?min_worker=0"),
                ("PUT", f"/predictions/{NAME}"),
            ):
                try:
                    status = send_local(port, method, path, timeout=5).status
                except OSError:
                    continue  # gRPC's ports do not speak HTTP 1
                assert status in (400, 401, 404, 405), (port, method, path)
                refused += 1
        assert refused >= 6
        assert server.predict(png(picture(3)))[1]["label"] == CLASSES[3]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("[::1]:80", Address("::1", 80)),
        ("localhost:0", Address("localhost", 0)),
        ("unix:/run/x", Address(path=Path("/run/x"))),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "80", ":80", "host", "host:port", "host:65536", "host:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="is no address: give HOST:PORT"):
        parse_address(text)


def test_a_taken_port_a_foreign_address_and_a_bad_path_are_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=rf"port {port} of 127.0.0.1 .*in use.*--port"):
            reserve(Address("127.0.0.1", port), "--port")
    with pytest.raises(AddressError, match="of 192.0.2.1 cannot be used"):
        reserve(Address("192.0.2.1"), "--port")
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "none/x", "No such"),
        (tmp_path / ("x" * 99), "at most"),
        (tmp_path / "file", "exists"),
    ):
        with pytest.raises(AddressError, match=rf"cannot be used \(.*{reason}.*--socket"):
            reserve(Address(path=path), "--socket")
    assert listen(Address("::", 80)) == "listen [::]:80 backlog=1024 ipv6only=off;"


def test_paths_that_nginx_cannot_read_are_refused() -> None:
    assert configuration.quote("/a b/c") == '"/a b/c"'
    for path in ('/a"', "/a;b", "/$a", "/a\nb"):
        with pytest.raises(AddressError, match="characters that nginx.conf cannot hold"):
            configuration.quote(path)


def test_the_private_folder_is_in_the_runtime_directory_if_that_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, temporary = tmp_path / "run", tmp_path / "tmp"
    for each in (runtime, temporary):
        each.mkdir()
    monkeypatch.setattr(folder_module.tempfile, "gettempdir", lambda: str(temporary))  # type: ignore[attr-defined]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    found = private_folder("x-")
    assert found.parent == runtime
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    assert private_folder("x-", large=True).parent == temporary
    with monkeypatch.context() as patched:
        patched.setattr(folder_module, "allows_execution", lambda _: False)
        assert private_folder("x-").parent == temporary
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    assert private_folder("x-").parent == temporary
    for each in (runtime, temporary):
        shutil.rmtree(each)


def test_the_times_of_a_private_folder_are_kept_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_FRESH_SECONDS", 0.05)
    monkeypatch.setattr(folder_module.tempfile, "gettempdir", lambda: str(tmp_path))  # type: ignore[attr-defined]
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    folder = private_folder("x-")
    (folder / "deep").mkdir()
    # Its path is too long for a socket's address.
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(folder):
        listener.bind("socket")
    paths = [folder, folder / "deep", folder / "socket"]
    for path in paths:
        os.utime(path, (0, 0))
    deadline = time.monotonic() + 5
    while any(path.stat().st_mtime < 1 for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    shutil.rmtree(folder)
    refresh(folder)  # a folder that has gone is no error


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm")
def test_a_folder_without_exec_is_found() -> None:
    assert folder_module.allows_execution(Path("/nonexistent"))
