"""Measures serving beside a plain handler for the same model, and beside a loop without a server.

Needs wrk: one thread of C, which takes little processor time from the server.
"""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import torch
from onnx.utils import extract_model

from benchmarks.formats import measure_formats, script
from contract.paths import ROOT
from contract.words import counted
from serving import client
from serving.model import deadline, payload
from serving.model.payload import Request
from serving.model.predictor import Predictor
from serving.torchserve import launch
from steps.common.digest import file_sha256
from steps.common.images import decode as images
from steps.common.models.embedding import load_network

CLIENTS = (1, 32)
IMAGE = ROOT / "samples/7.png"
_ROUNDS = 3
_SECONDS = 5
_BATCH = 32
_ASKING, _CROWD = 6, 400  # clients
_SWITCH_SECONDS = 10  # a switch takes half of them
_TIME = r"([\d.]+)(us|ms|s)"
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_LUA = """
local file = io.open("{image}", "rb")
wrk.method, wrk.body = "PUT", file:read("*a")
"""
# For each number of clients the requests per second and the 99th percentile in ms, of each round.
Rates = dict[int, list[tuple[float, float]]]
_PLAIN = """
inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
disable_token_authorization=true
default_workers_per_model=1
"""


def measure() -> list[tuple[str, str]]:
    """Measure both servers in turns, then the loop and a switch; rows of a name and its figure."""
    if shutil.which("wrk") is None:
        return [("nothing", "wrk is missing: apt-get install wrk")]
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        volumes = Path(folder)
        subprocess.run([sys.executable, "-m", "pipeline", "run", "--volumes", volumes], cwd=ROOT, check=True)
        pointer = json.loads((volumes / "deploy-model/current.json").read_text())
        unpacked = volumes / "unpacked"
        with zipfile.ZipFile(volumes / "deploy-model/model-store" / pointer["mar"]) as mar:
            mar.extractall(unpacked)
        plain, ours, starts = in_turns(volumes, unpacked, IMAGE)
        bound = _loop_without_server(unpacked)
        features = _features(volumes, pointer, unpacked)
        switch = _switch(volumes, pointer)
        shadow = _shadow(volumes, pointer)
        crowd = _crowd(volumes)
        network = volumes / "model/network" / pointer["network"]
        model = json.loads((unpacked / "model.json").read_text())
        formats = measure_formats(network, model["image_size"], model["channels"])
    rows = compared(plain, ours)
    rows.append((f"loop without a server, batches of {_BATCH}: images/s", f"{bound:.0f}"))
    rows.append(("this, 32 clients, of the loop without a server", f"{_median(ours[32])[0] / bound:.2f}"))
    rows.append(("cold start to the first answer, s", f"{statistics.median(starts):.1f}"))
    rows += [*features, *switch, *shadow, *crowd]
    return [*rows, *formats]


def in_turns(volumes: Path, unpacked: Path, image: Path) -> tuple[Rates, Rates, list[float]]:
    """Measure both servers in turns, so that other load affects both.

    Args:
        volumes: The volumes with the deployed model.
        unpacked: Its archive, unpacked.
        image: What clients send.

    Returns:
        The figures of the plain server and of this one, and the seconds to the first answer of each start of this one.
    """
    plain: Rates = {count: [] for count in CLIENTS}
    ours: Rates = {count: [] for count in CLIENTS}
    starts = []
    for _ in range(_ROUNDS):
        with _plain(volumes, unpacked) as url:
            _ask(url, volumes, plain, image)
        with _ours(volumes) as (url, start, _):
            starts.append(start)
            _ask(url, volumes, ours, image)
    return plain, ours, starts


def compared(plain: Rates, ours: Rates) -> list[tuple[str, str]]:
    """Rows of the medians of both servers, and of their ratios."""
    rows = []
    for count in CLIENTS:
        (slow, slow_p99), (fast, fast_p99) = _median(plain[count]), _median(ours[count])
        many = counted(count, "client")
        rows.append((f"plain, {many}: requests/s, p99 ms", f"{slow:.0f} {slow_p99:.1f}"))
        rows.append((f"this, {many}: requests/s, p99 ms", f"{fast:.0f} {fast_p99:.1f}"))
        rows.append((f"ratio, {many}: requests/s, p99", f"{fast / slow:.1f} {slow_p99 / fast_p99:.1f}"))
    return rows


def _ask(url: str, folder: Path, into: Rates, image: Path) -> None:
    for count in CLIENTS:
        into[count].append(_warm(url, folder, count, image))


def _warm(url: str, folder: Path, clients: int, image: Path = IMAGE) -> tuple[float, float]:
    """Answers a second, and the 99th percentile of the latency in ms, after Java has compiled hot code."""
    _wrk(url, folder, clients, 2, image)
    asked = _wrk(url, folder, clients, _SECONDS, image)
    return asked.rate, asked.p99


@dataclass(frozen=True)
class _Asked:
    """What wrk's clients got: answers, and answers a second; 99th percentile and maximum of the latency, in ms."""

    answers: int
    rate: float
    p99: float
    longest: float


def _wrk(url: str, folder: Path, clients: int, seconds: int, image: Path = IMAGE) -> _Asked:
    """Ask all the time on kept connections; RuntimeError if a request failed."""
    script = folder / "put.lua"
    script.write_text(_LUA.format(image=image))
    command: list[Any] = [
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{seconds}s",
        "--latency",
        "--timeout=30s",
        "-s",
        script,
        url,
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    found = re.search(
        rf"Latency +\S+ +\S+ +{_TIME}.* 99% +{_TIME}.*?(\d+) requests in.*Requests/sec: +([\d.]+)", said, re.DOTALL
    )
    if found is None:
        raise RuntimeError(said)
    longest, longest_unit, p99, p99_unit, answers, rate = found.groups()
    return _Asked(
        int(answers), float(rate), float(p99) * _MILLISECONDS[p99_unit], float(longest) * _MILLISECONDS[longest_unit]
    )


@contextmanager
def _plain(volumes: Path, unpacked: Path) -> Iterator[str]:
    """TorchServe by its own launcher: one worker, no batching, TorchScript. Yields the prediction URL."""
    store = volumes / "plain"
    if not store.exists():
        store.mkdir()
        model = json.loads((unpacked / "model.json").read_text())
        side, channels = model["image_size"], model["channels"]
        script(
            load_network(unpacked).cpu(), torch.zeros(1, side, side, channels, dtype=torch.uint8), store / "network.pt"
        )
        command: list[Any] = [
            sys.executable,
            "-m",
            "model_archiver.model_packaging",
            "--model-name",
            "plain",
            "--version",
            "1",
        ]
        command += ["--serialized-file", store / "network.pt", "--handler", ROOT / "benchmarks/plain/handler.py"]
        extra = ",".join(str(unpacked / name) for name in ("index.faiss", "labels.json", "model.json"))
        command += ["--extra-files", extra, "--export-path", store]
        subprocess.run(command, check=True)
    port, management, metrics, *grpc = launch.free_ports()
    config = store / "config.properties"
    config.write_text(_PLAIN.format(port=port, management=management, metrics=metrics))
    java = Path(launch._java())
    environment = {**os.environ, "JAVA_HOME": str(java.parents[1]), "TMPDIR": str(store), "LOG_LOCATION": str(store)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment |= {"TS_GRPC_INFERENCE_PORT": str(grpc[0]), "TS_GRPC_MANAGEMENT_PORT": str(grpc[1])}
    environment |= {"METRICS_LOCATION": str(store)}
    command = [Path(sys.executable).with_name("torchserve"), "--start", "--foreground", "--ncs", "--model-store", store]
    command += ["--models", "plain=plain.mar", "--ts-config", config]
    with _running(command, environment, store / "said.log") as process:
        url = f"http://127.0.0.1:{port}/predictions/plain"
        _until_answered(url, process)
        yield url


@contextmanager
def _ours(volumes: Path) -> Iterator[tuple[str, float, Any]]:
    """`python -m serving start`: yields the prediction URL, the seconds to the first answer, and the process."""
    port = launch.free_ports()[0]
    command: list[Any] = [sys.executable, "-m", "serving", "start", "--volumes", volumes, "--port", str(port)]
    name = json.loads((volumes / "deploy-model/current.json").read_text())["name"]
    url = f"http://127.0.0.1:{port}/predictions/{name}"
    with _running(command, dict(os.environ), volumes / "serving.log") as process:
        yield url, _until_answered(url, process), process


@contextmanager
def _running(command: list[Any], environment: dict[str, str], log: Path) -> Iterator[Any]:
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until_answered(url: str, process: Any, version: str | None = None) -> float:
    """Seconds until a prediction succeeds, from `version` if given."""
    began, image = time.perf_counter(), IMAGE.read_bytes()
    while True:
        try:
            status, answer = client.predict(url, image, timeout=5)
            if status == 200 and (version is None or answer["model"]["version"] == version):
                return time.perf_counter() - began
        except OSError:
            pass
        if process.poll() is not None or time.perf_counter() - began > 120:
            raise RuntimeError(f"{url} does not answer")
        time.sleep(0.01)


def _loop_without_server(unpacked: Path) -> float:
    """Images per second of the predictor alone, in one process and one thread, from files to answers."""
    faiss.omp_set_num_threads(1)
    predictor = Predictor(unpacked, images, payload, deadline)
    requests = [Request(IMAGE.read_bytes())] * _BATCH
    predictor.answer(requests)
    rates = []
    for _ in range(_ROUNDS):
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < 2:
            predictor.answer(requests)
            count += _BATCH
        rates.append(count / (time.perf_counter() - began))
    return statistics.median(rates)


def _features(volumes: Path, pointer: dict[str, Any], unpacked: Path) -> list[tuple[str, str]]:
    """What the distance of features costs a lone client: beside the same archive without it, in turns."""
    alone = volumes / "alone.onnx"
    extract_model(unpacked / "network.onnx", alone, ["images"], ["embeddings"])
    golden = [{**each, "features_distance": None} for each in json.loads((unpacked / "golden.json").read_text())]
    without = {"network.onnx": alone.read_bytes(), "golden.json": json.dumps(golden).encode()}
    with_it: list[tuple[float, float]] = []
    without_it: list[tuple[float, float]] = []
    for _ in range(_ROUNDS):
        for files, measured in (({}, with_it), (without, without_it)):
            _point_to_another(volumes, pointer, files)
            with _ours(volumes) as (url, _, _):
                measured.append(_warm(url, volumes, 1))
    (volumes / "deploy-model/current.json").write_text(json.dumps(pointer))
    figures = f"{_median(with_it)[0]:.0f}, {_median(without_it)[0]:.0f}"
    return [("1 client, with the distance of features, and without: requests/s", figures)]


def _switch(volumes: Path, pointer: dict[str, Any]) -> list[tuple[str, str]]:
    """How long a switch takes, and what it does to clients that ask all the time."""
    with _ours(volumes) as (url, _, process), ThreadPoolExecutor() as pool:
        _wrk(url, volumes, _ASKING, 2)
        asking = pool.submit(_wrk, url, volumes, _ASKING, _SWITCH_SECONDS)
        version = _point_to_another(volumes, pointer)
        seconds = _until_answered(url, process, version)
        asked = asking.result()
    return [
        ("a switch, from the pointer's to the new version's first answer, s", f"{seconds:.1f}"),
        (
            f"answers to {_ASKING} clients that ask for {_SWITCH_SECONDS} s meanwhile; an error ends this",
            f"{asked.answers}",
        ),
        ("the longest that one of them waited, ms", f"{asked.longest:.0f}"),
    ]


def _shadow(volumes: Path, pointer: dict[str, Any]) -> list[tuple[str, str]]:
    """What clients feel while another version gets copies of all their requests: before and meanwhile."""
    rows = []
    for count in CLIENTS:
        before: list[tuple[float, float]] = []
        meanwhile: list[tuple[float, float]] = []
        for _ in range(_ROUNDS):
            (volumes / "deploy-model/current.json").write_text(json.dumps(pointer))
            with _ours(volumes) as (url, _, _):
                before.append(_warm(url, volumes, count))
                limits = {"before": pointer["version"], "seconds": 60, "share": 1.0, "min_requests": 30}
                limits |= {"max_errors": 1.0, "max_slower": 60.0, "min_equal": 0.0, "max_unknown": 1.0}
                _point_to_another(volumes, pointer, shadow=limits)
                while "gets copies of" not in (volumes / "serving.log").read_text():
                    time.sleep(0.1)
                meanwhile.append(_warm(url, volumes, count))
        figures = ", ".join(f"{rate:.0f} {p99:.1f}" for rate, p99 in (_median(before), _median(meanwhile)))
        rows.append((f"before and while shadowing, {counted(count, 'client')}: requests/s, p99 ms", figures))
    return rows


def _point_to_another(
    volumes: Path, pointer: dict[str, Any], files: Mapping[str, bytes] | None = None, **more: Any
) -> str:
    """Let the pointer name a copy of the version that has another name, and other contents in `files`; returns that."""
    store = volumes / "deploy-model/model-store"
    second = store / "second.mar"
    version = f"{pointer['version']}2"
    with zipfile.ZipFile(store / pointer["mar"]) as old, zipfile.ZipFile(second, "w") as new:
        for name in old.namelist():
            content = (files or {}).get(name) or old.read(name)
            if name in ("model.json", "MAR-INF/MANIFEST.json"):
                content = content.replace(pointer["version"].encode(), version.encode())
            new.writestr(name, content)
    changed = {**pointer, "version": version, "mar": second.name, "sha256": file_sha256(second), **more}
    (volumes / "new.json").write_text(json.dumps(changed))
    os.replace(volumes / "new.json", volumes / "deploy-model/current.json")
    return version


def _crowd(volumes: Path) -> list[tuple[str, str]]:
    """What 400 clients get that send 4 MiB at once, and how a lone client fares before, and five seconds later."""

    def lone() -> float:
        return statistics.median(_ask_for(url, 100))

    def send(_: int) -> int:
        try:
            return client.predict(url, body, timeout=60)[0]
        except OSError:
            return 0

    body = os.urandom(4 << 20)
    with _ours(volumes) as (url, _, _), ThreadPoolExecutor(_CROWD) as clients:
        before = lone()
        found = Counter(clients.map(send, range(_CROWD)))
        time.sleep(5)
        after = lone()
    said = ", ".join(f"{status or 'no answer'}: {count}" for status, count in sorted(found.items()))
    return [
        (f"{_CROWD} clients that send 4 MiB at once get", said),
        ("a lone client's median before, and 5 s later, ms", f"{1000 * before:.1f} {1000 * after:.1f}"),
    ]


def _ask_for(url: str, count: int) -> list[float]:
    """The seconds of so many requests, one after the other."""
    image, times = IMAGE.read_bytes(), []
    for _ in range(count):
        began = time.perf_counter()
        client.predict(url, image, timeout=30)
        times.append(time.perf_counter() - began)
    return times


def _median(measured: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(each[0] for each in measured), statistics.median(each[1] for each in measured)
