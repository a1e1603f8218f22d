"""Pickles in an archive are never loaded: a Trap creates a file when it is unpickled."""

import io
import pickle
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from serving.golden import GoldenError, read_golden
from serving.log import Log
from serving.server import Server
from tests.support.model_archive import NAME, archive, write_model


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.marker), "w")


def traps(marker: Path) -> dict[str, bytes]:
    """Pickle, NumPy and PyTorch files that create the marker when they are unpickled."""
    plain = pickle.dumps(Trap(marker))
    numpy_file, torch_file = io.BytesIO(), io.BytesIO()
    np.save(numpy_file, np.array([Trap(marker)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(torch_file, "w") as packed:  # as torch.save does
        packed.writestr("archive/data.pkl", plain)
        packed.writestr("archive/version", "3\n")
        packed.writestr("archive/byteorder", "little")
    return {"pickle": plain, "npy": numpy_file.getvalue(), "pt": torch_file.getvalue()}


def test_unpickling_a_trap_creates_the_marker(tmp_path: Path) -> None:
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
import deadline, decode, payload, predictor
opened = []
sys.addaudithook(lambda event, found: opened.append(Path(str(found[0])).name) if event == "open" else None)
sys.addaudithook(lambda event, _: sys.exit(f"it unpickles: {event}") if event.startswith("pickle.") else None)
predictor.Predictor(folder, decode, payload, deadline)
sys.exit(None if opened == ["model.json", "labels.json"] and "torch" not in sys.modules else f"it opened {opened}")
"""


def fill_with_traps(folder: Path, kind: str, data: bytes) -> None:
    for name in (f"model.{kind}", "model.pth", "state.pkl", "index.npy", "labels.pkl", "index_to_name.json"):
        (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    "victim", [None, VICTIMS[0], *(pytest.param(victim, marks=pytest.mark.slow) for victim in VICTIMS[1:])]
)
def test_a_pickle_in_an_archive_is_never_executed(tmp_path: Path, victim: str | None) -> None:
    """Python opens only two JSON files; ONNX Runtime and FAISS open theirs, and cannot unpickle."""
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
def test_a_real_server_ignores_pickles_in_its_archive(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    for kind, data in traps(tmp_path / "marker").items():
        fill_with_traps(folder, kind, data)
    with Server(archive(folder, tmp_path / "model.mar"), NAME, log=Log(tmp_path / "log")) as server:
        read_golden(server.mar).check(server.url)
    assert not (tmp_path / "marker").exists()
