"""Images of clients are kept through the real door and TorchServe: what was asked for, with its answer, and no more."""

import base64
import json
import subprocess
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from contract.loop.collected import Collected, read_all, read_image
from tests.support.grpc_call import call
from tests.support.model_archive import CLASSES, NAME, ROOT, instances, picture, png
from tests.support.serving_start import ONE, SERVING, TWO, Start, Volumes, deployed

GREY = [png(np.full((8, 8), level, np.uint8)) for level in range(90, 98)]  # unknown
SURE = [png(picture(quarter)) for quarter in range(4)]
FORM = b'--x\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\n%b\r\n--x--\r\n'


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return deployed(tmp_path / "volumes")


def send(start: Start, body: bytes, kind: str = "image/png", path: str = f"/predictions/{NAME}", id: str = "") -> str:
    """Send a request through the door; its id."""
    connection = HTTPConnection("127.0.0.1", start.port, timeout=30)
    try:
        headers = {"Content-Type": kind} | ({"X-Request-Id": id} if id else {})
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        response.read()
        return response.getheader("X-Request-Id") or ""
    finally:
        connection.close()


def send_by_grpc(start: Start, image: bytes) -> None:
    """Send a prediction to TorchServe's port for gRPC, which is on the loopback address."""
    [java] = [each for each in start.children() if "org.pytorch.serve.ModelServer" in each.cmdline()]
    entry = b"".join(bytes([key, *varint(len(text))]) + text for key, text in ((0x0A, b"body"), (0x12, image)))
    fields = ((0x0A, NAME.encode()), (0x1A, entry))
    message = b"".join(bytes([key, *varint(len(text))]) + text for key, text in fields)
    method = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
    assert b'"label"' in call(int(java.environ()["TS_GRPC_INFERENCE_PORT"]), method, message)


def varint(number: int) -> bytes:
    low, high = number & 127, number >> 7
    return bytes([low | 128]) + varint(high) if high else bytes([low])


def kept(volumes: Volumes) -> dict[bytes, Collected]:
    folder = volumes.root / "collect"
    return {read_image(folder, record.digest) or b"": record for record in read_all(folder)}


def until_kept(start: Start, volumes: Volumes, enough: Callable[[dict[bytes, Collected]], bool]) -> None:
    start.until(lambda: enough(kept(volumes)))


def counted(start: Start, name: str) -> dict[str, float]:
    lines = [line for line in start.metrics().splitlines() if line.startswith(name + "{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines if float(line.split()[-1])}


def make(target: str, volumes: Volumes, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*SERVING, target, "--volumes", str(volumes.root), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_share_of_all_keeps_whatever_way_it_comes(volumes: Volumes, tmp_path: Path) -> None:
    volumes.add(TWO)
    with Start(volumes.root, tmp_path, SERVING_COLLECT="share=1") as start:
        start.until_ready()
        assert f"images that clients send are kept in {volumes.root / 'collect'}: " in start.output()
        assert "500 MB and 30 days at most" in start.output()
        assert start.probe() == 0
        ids = [send(start, SURE[0]), send(start, FORM % SURE[1], "multipart/form-data; boundary=x", id="my-form")]
        ids.append(send(start, instances(SURE[2], GREY[0], GREY[1]).body, "application/json"))
        ids.append(send(start, SURE[3], path=f"/v1/models/{NAME}:predict", id="with:v1"))
        ids.append(send(start, SURE[0], id="again"))
        send_by_grpc(start, GREY[3])
        until_kept(start, volumes, lambda found: len(found) == 7 and len(found[SURE[0]].requests) == 2)
        found = kept(volumes)
        assert set(found) == {*SURE, GREY[0], GREY[1], GREY[3]}
        assert set(found[SURE[0]].requests) == {ids[0], "again"}
        assert [found[image].requests for image in (SURE[1], SURE[2], SURE[3])] == [
            ("my-form",),
            (ids[2],),
            ("with:v1",),
        ]
        assert found[GREY[0]].requests == found[GREY[1]].requests == (ids[2],)
        assert [found[image].label for image in SURE] == CLASSES
        assert {record.version for record in found.values()} == {ONE}
        start.until(lambda: counted(start, "serving_collected_total") == {"random": 4, "unknown": 3})
        assert counted(start, "serving_collect_dropped_total") == {}
        # The golden predictions of a new version are asked at a switch; they are the same images.
        volumes.point(TWO)
        start.until(lambda: f"switched from {ONE} to {TWO}" in start.output())
        send(start, GREY[2])
        until_kept(start, volumes, lambda found: GREY[2] in found)
        after = kept(volumes)
        assert after[GREY[2]].version == TWO
        assert {image: record for image, record in after.items() if image != GREY[2]} == found
        text = start.log.read_text() + start.output() + start.errors()
        for image in (*SURE, *GREY[:4]):
            for form in (base64.b64encode(image).decode()[:40], image.hex()[:60], repr(image[-20:])[2:-1]):
                assert form not in text

        shown = json.loads(make("collected", volumes, "--json").stdout)
        assert (shown["images"], shown["unknown"], shown["drawn"]) == (8, 4, 8)
        done = make("forget", volumes, "--request", ids[2])
        assert done.stdout == f"3 images removed from {volumes.root / 'collect'}\n"
        assert set(kept(volumes)) == {SURE[0], SURE[1], SURE[3], GREY[2], GREY[3]}


@pytest.mark.slow
def test_with_a_share_of_none_only_the_unknown_are_kept_and_within_the_limits(volumes: Volumes, tmp_path: Path) -> None:
    with Start(volumes.root, tmp_path, SERVING_COLLECT="share=0,max_mb=1") as start:
        start.until_ready()
        for image in (*SURE, *GREY):
            send(start, image)
        until_kept(start, volumes, lambda found: len(found) == len(GREY))
        assert set(kept(volumes)) == set(GREY)
        assert not any(record.random for record in kept(volumes).values())
        many = {png(np.full((8, 8), level, np.uint8)) + bytes([number]) for level in (80, 81) for number in range(60)}
        for image in many:
            send(start, image)
        start.until(lambda: counted(start, "serving_collected_total").get("unknown") == len(GREY) + len(many))
        start.until(lambda: sum(record.disk_bytes for record in kept(volumes).values()) <= 1_000_000)
        left = set(kept(volumes))
        assert len(left) > 100
        assert not left >= set(GREY), "the oldest went first"


@pytest.mark.slow
def test_off_nothing_is_written_and_no_thread_runs(volumes: Volumes, tmp_path: Path) -> None:
    threads = {}
    for name, more in (("off", {}), ("on", {"SERVING_COLLECT": "share=0"})):
        with Start(volumes.root, tmp_path, **more) as start:
            workers = start.until_ready().workers()
            for image in (*SURE, *GREY):
                send(start, image)
            if name == "off":
                assert "images that clients send" not in start.output()
                assert not (volumes.root / "collect").exists()
                assert "serving_collected" not in start.metrics()
            threads[name] = sorted(worker.num_threads() for worker in workers)
    assert [on - off for on, off in zip(threads["on"], threads["off"], strict=True)] == [1, 1]
