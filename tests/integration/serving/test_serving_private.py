"""The private APIs of a real TorchServe: no network address changes what is served; it needs no network itself."""

import os
import shutil
import stat
import subprocess
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
import pytest

from serving.golden import read_golden
from serving.server import Server
from tests.support.grpc_call import call
from tests.support.model_archive import NAME, ROOT, VERSION
from tests.support.torchserve_process import listening

pytestmark = pytest.mark.slow


def test_torchserve_listens_on_loopback_and_on_linux_with_grpc_alone(server: Server) -> None:
    addresses = listening(server)
    assert {ip for ip, _ in addresses} == {"127.0.0.1"}
    assert len(addresses) == (2 if sys.platform == "linux" else 6)
    assert server.port not in {port for _, port in addresses}


def test_no_listening_port_changes_what_is_served(server: Server) -> None:
    ports = {port for _, port in listening(server)} | {server.port}
    name = f"/models/{NAME}"
    requests = [
        ("POST", "/models?url=model.mar"),
        ("POST", "/models?url=http://127.0.0.1:1/x.mar&initial_workers=1"),
        ("PUT", f"{name}?min_worker=0"),
        ("PUT", f"{name}/{VERSION}/set-default"),
        ("DELETE", name),
        ("DELETE", f"{name}/{VERSION}"),
        ("GET", "/models"),
        ("POST", "/workflows?url=x.war"),
    ]
    for port in ports:
        for method, path in requests:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request(method, path)
                status = connection.getresponse().status
            except (OSError, HTTPException):
                continue  # gRPC's ports do not speak HTTP 1
            finally:
                connection.close()
            assert status in (404, 405), f"{method} {path} at {port}"
    read_golden(server.mar).check(server.url)


def test_grpc_has_no_management(server: Server) -> None:
    named = b"\x0a" + len(NAME).to_bytes(1) + NAME.encode()  # field 1: the model's name
    pings = 0
    for port in {port for _, port in listening(server)}:
        pings += b"Healthy" in call(port, "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping")
        for method in ("ListModels", "DescribeModel", "UnregisterModel"):
            answered = call(port, f"/org.pytorch.serve.grpc.management.ManagementAPIsService/{method}", named)
            assert answered == b"", method
    assert pings >= 2, "both ports answer gRPC, so the calls below are right"
    read_golden(server.mar).check(server.url)


@pytest.mark.skipif(sys.platform != "linux", reason="Unix sockets are used on Linux only")
def test_only_its_own_user_can_reach_management(server: Server) -> None:
    folder = server.torchserve.folder
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(server.door.folder.stat().st_mode) == 0o700
    sockets = [path for path in folder.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
    assert [path.name for path in sockets if "management" in path.name] == ["ts_management_address"]
    connections = psutil.Process(server.torchserve.process).net_connections("unix")
    outside = {each.laddr for each in connections if each.laddr and not each.laddr.startswith(str(folder))}
    assert not outside


@pytest.mark.skipif(
    not shutil.which("unshare") or os.geteuid() != 0, reason="needs root, to start it without a network"
)
def test_it_starts_and_answers_without_a_network(server: Server, tmp_path: Path) -> None:
    program = """
import socket, subprocess, sys
from pathlib import Path
from serving.golden import GoldenError, read_golden
from serving.log import Log
from serving.server import Server
mar, name, log = sys.argv[1:]
assert [name for _, name in socket.if_nameindex()] == ["lo"]
with Server(Path(mar), name, log=Log(Path(log))) as server:
    read_golden(Path(mar)).check(server.url)
"""
    words = ["unshare", "-n", "sh", "-c", 'ip link set lo up || ifconfig lo up; exec "$0" "$@"']
    words += [sys.executable, "-c", program, str(server.mar), NAME, str(tmp_path / "log")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
