"""A real TorchServe among those who mean it harm: it answers them 4xx, and all others as if there were none."""

import io
import os
import pickle
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event

import numpy as np
import psutil
import pytest

from serving.golden import GoldenError, read_golden
from serving.log import Log
from serving.torchserve.server import TorchServe
from tests.support.grpc_call import call
from tests.support.hostile_images import good_but_odd
from tests.support.hostile_requests import KINDS, LIMIT, PATH, Attack, attacks, http
from tests.support.model_archive import CLASSES, NAME, ROOT, VERSION, archive, picture, png, write_model

EACH = 90
ATTACKERS, CLIENTS = 8, 3
LARGEST = 100  # of the largest requests at the same time
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    mar = archive(write_model(tmp_path_factory.mktemp("model")), tmp_path_factory.mktemp("store") / "model.mar")
    with TorchServe(mar, NAME, log=Log(tmp_path_factory.mktemp("log") / "torchserve.log")) as running:
        yield running


def processes(server: TorchServe) -> list[psutil.Process]:
    """Java, then its workers."""
    java = psutil.Process(server._java.pid)
    return [java, *java.children(recursive=True)]


def listening(server: TorchServe) -> set[int]:
    """The ports of Java."""
    return {each.laddr.port for each in processes(server)[0].net_connections() if each.status == "LISTEN"}


def status_of(port: int, attack: Attack) -> int | None:
    """The status that is answered; None if the connection is closed without one. TimeoutError if nothing happens."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with suppress(OSError):  # it may have heard enough; its answer lies there all the same
            for number, piece in enumerate(attack.pieces):
                time.sleep(attack.pause if number else 0)
                connection.sendall(piece)
            if attack.silent:  # more is awaited, perhaps
                connection.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while not complete(answer) and (piece := connection.recv(1 << 16)):
                answer += piece
    version, _, rest = answer.partition(b" ")
    assert not answer or version.startswith(b"HTTP/1."), answer[:100]
    return int(rest[:3]) if answer else None


def complete(answer: bytes) -> bool:
    """TorchServe keeps a connection open after some answers, whatever the request says of it."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"^content-length: (\d+)", head, re.IGNORECASE | re.MULTILINE)
    return bool(end) and length is not None and len(body) >= int(length[1])


def assault(server: TorchServe, seed: int, each: int) -> tuple[Counter[tuple[str, int | None]], list[str]]:
    """How often each kind was answered with what, and what was no answer to it."""
    wrong = []

    def attack(one: Attack) -> tuple[str, int | None]:
        try:
            status = status_of(server.port, one)
        except TimeoutError:
            status = -1
        fits = one.silent if status is None else status in (one.statuses or range(400, 500))
        if not fits:
            wrong.append(f"{one.kind}: {status} for {b''.join(one.pieces)[:240]!r}")
        return one.kind, status

    with ThreadPoolExecutor(ATTACKERS) as attackers:
        return Counter(attackers.map(attack, attacks(seed, each))), wrong


def test_malformed_requests_get_4xx_and_disturb_nobody(server: TorchServe) -> None:
    odd = list(good_but_odd().values())
    images = [(png(picture(number % 4)), CLASSES[number % 4]) for number in range(4)] + odd
    stop = Event()

    def ask_on(client: int) -> Counter[tuple[int, bool]]:
        answers: Counter[tuple[int, bool]] = Counter()
        while not stop.is_set():
            image, label = images[(client + answers.total()) % len(images)]
            status, answer = server.predict(image)
            answers[status, (answer.get("label"), answer.get("model")) == (label, MODEL)] += 1
        return answers

    assault(server, seed=1, each=EACH // 3)  # what only the first requests cost is not of interest
    before = processes(server)
    memory = [process.memory_info().rss for process in before]
    with ThreadPoolExecutor(CLIENTS) as clients:
        asked = [clients.submit(ask_on, client) for client in range(CLIENTS)]
        try:
            found, wrong = assault(server, seed=2, each=EACH)
        finally:
            stop.set()
        valid = sum((each.result() for each in asked), Counter())
    grown = [process.memory_info().rss - was for process, was in zip(before, memory, strict=True)]

    print(f"{found.total()} malformed: {dict(sorted(found.items(), key=str))}")
    print(f"{valid.total()} valid: {dict(valid)}; grown by {[round(each / MEBIBYTE) for each in grown]} MiB")
    assert not wrong, "\n".join(wrong)
    assert found.total() >= 1000
    assert {kind for kind, _ in found} == set(KINDS)
    assert len(KINDS) >= 10
    assert set(valid) == {(200, True)}
    assert valid.total() >= 100
    assert [process.pid for process in processes(server)] == [process.pid for process in before]
    assert grown[0] < 96 * MEBIBYTE, "Java's heap may still grow to what vmargs in config.properties allows"
    assert max(grown[1:]) < 48 * MEBIBYTE


MODEL = {"name": NAME, "version": VERSION}


@pytest.mark.parametrize("name", good_but_odd())
def test_odd_images_are_images(server: TorchServe, name: str) -> None:
    image, label = good_but_odd()[name]
    status, answer = server.predict(image)
    assert (status, answer["label"]) == (200, label), answer


def test_clients_that_send_a_byte_at_a_time_hold_nobody_up(server: TorchServe) -> None:
    request = http(png(picture(3)), line=f"PUT {PATH} HTTP/1.1")
    pieces = [request[i : i + 1] for i in range(len(request))]
    slow = Attack("slow", pieces, pause=0.01)
    with ThreadPoolExecutor(20) as clients:
        waiting = [clients.submit(status_of, server.port, slow) for _ in range(20)]
        asked = 0
        while not all(each.done() for each in waiting):
            began = time.monotonic()
            assert server.predict(png(picture(0)))[0] == 200
            assert time.monotonic() - began < 2
            asked += 1
    assert [each.result() for each in waiting] == [200] * 20
    assert asked >= 20


def test_no_address_on_the_network_changes_what_is_served(server: TorchServe) -> None:
    ports = listening(server)
    assert server.port in ports
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


def test_grpc_answers_predictions_alone(server: TorchServe) -> None:
    named = b"\x0a" + len(NAME).to_bytes(1) + NAME.encode()  # the field 1, which is a model's name
    pings = 0
    for port in listening(server) - {server.port}:
        pings += b"Healthy" in call(port, "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping")
        for method in ("ListModels", "DescribeModel", "UnregisterModel"):
            answered = call(port, f"/org.pytorch.serve.grpc.management.ManagementAPIsService/{method}", named)
            assert answered == b"", method
    assert pings >= 2, "or this test does not ask as it should"
    read_golden(server.mar).check(server.url)


def test_many_of_the_largest_requests_at_once_are_answered(server: TorchServe) -> None:
    before = [process.pid for process in processes(server)]
    body = os.urandom(LIMIT)

    def ask(number: int) -> int:
        return server.predict(body if number % 10 else png(picture(0)))[0]

    with ThreadPoolExecutor(LARGEST) as clients:
        answers = list(clients.map(ask, range(LARGEST)))
    assert answers == [400 if number % 10 else 200 for number in range(LARGEST)]
    assert [process.pid for process in processes(server)] == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is a port of loopback")
def test_only_its_own_user_can_reach_the_management(server: TorchServe) -> None:
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    sockets = [path for path in server.folder.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
    assert [path.name for path in sockets if "management" in path.name] == ["ts_management_address"]
    connections = psutil.Process(server._java.pid).net_connections("unix")
    outside = {each.laddr for each in connections if each.laddr and not each.laddr.startswith(str(server.folder))}
    assert not outside


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("unshare") or os.geteuid() != 0, reason="needs root, to take the network away from it"
)
def test_it_starts_and_answers_without_a_network(server: TorchServe, tmp_path: Path) -> None:
    program = """
import socket, subprocess, sys
from pathlib import Path
from serving.golden import GoldenError, read_golden
from serving.log import Log
from serving.torchserve.server import TorchServe
mar, name, log = sys.argv[1:]
assert [name for _, name in socket.if_nameindex()] == ["lo"]
with TorchServe(Path(mar), name, log=Log(Path(log))) as server:
    read_golden(Path(mar)).check(server.url)
"""
    words = ["unshare", "-n", "sh", "-c", 'ip link set lo up || ifconfig lo up; exec "$0" "$@"']
    words += [sys.executable, "-c", program, str(server.mar), NAME, str(tmp_path / "log")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.marker), "w")


def traps(marker: Path) -> dict[str, bytes]:
    """Files that leave the marker behind when they are unpickled, as the loaders of each kind would find them."""
    plain = pickle.dumps(Trap(marker))
    numpy_file, torch_file = io.BytesIO(), io.BytesIO()
    np.save(numpy_file, np.array([Trap(marker)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(torch_file, "w") as packed:  # as torch.save does
        packed.writestr("archive/data.pkl", plain)
        packed.writestr("archive/version", "3\n")
        packed.writestr("archive/byteorder", "little")
    return {"pickle": plain, "npy": numpy_file.getvalue(), "pt": torch_file.getvalue()}


def test_the_traps_snap(tmp_path: Path) -> None:
    for kind, data in traps(tmp_path / "marker").items():
        with suppress(Exception):
            np.load(io.BytesIO(data), allow_pickle=True) if kind == "npy" else pickle.loads(
                zipfile.ZipFile(io.BytesIO(data)).read("archive/data.pkl") if kind == "pt" else data
            )
        (tmp_path / "marker").unlink()


VICTIMS = ("network.onnx", "index.faiss", "labels.json", "model.json", "golden.json")
LOAD = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
import decode, payload, predictor
opened = []
sys.addaudithook(lambda event, found: opened.append(Path(str(found[0])).name) if event == "open" else None)
sys.addaudithook(lambda event, _: sys.exit(f"it unpickles: {event}") if event.startswith("pickle.") else None)
predictor.Predictor(folder, decode, payload)
sys.exit(None if opened == ["model.json", "labels.json"] and "torch" not in sys.modules else f"it opened {opened}")
"""


def fill_with_traps(folder: Path, kind: str, data: bytes) -> None:
    for name in (f"model.{kind}", "model.pth", "state.pkl", "index.npy", "labels.pkl", "index_to_name.json"):
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("victim", [None, *VICTIMS])
def test_a_pickle_in_an_archive_is_never_executed(tmp_path: Path, victim: str | None) -> None:
    """Python opens two files of JSON there; ONNX Runtime and FAISS, which know no pickle, their own."""
    marker = tmp_path / "marker"
    for kind, data in traps(marker).items():
        folder = write_model(tmp_path / kind)
        fill_with_traps(folder, kind, data)
        if victim:
            (folder / victim).write_bytes(data)
        words = [sys.executable, "-c", LOAD, str(folder)]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == (victim in (None, "golden.json")), done.stderr
        assert "it unpickles" not in done.stderr
        with suppress(GoldenError):
            read_golden(Path(shutil.make_archive(str(folder), "zip", folder)))
        assert not marker.exists()


@pytest.mark.slow
def test_a_real_server_answers_beside_pickles_and_executes_none(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    for kind, data in traps(tmp_path / "marker").items():
        fill_with_traps(folder, kind, data)
    with TorchServe(archive(folder, tmp_path / "model.mar"), NAME, log=Log(tmp_path / "log")) as server:
        read_golden(server.mar).check(server.url)
    assert not (tmp_path / "marker").exists()
