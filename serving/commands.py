"""The commands of serving: they read the pointer and image files, and print to the terminal."""

import argparse
import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from contract.errors import InputError
from contract.loop.collected import FOLDER
from contract.paths import ROOT
from serving import client
from serving.log import Log
from serving.pointer import (
    NothingDeployedError,
    Pointer,
    PointerError,
    read_deployed,
    read_pointer,
    served_first,
    wait_for_first,
)

if TYPE_CHECKING:
    from serving.collect.keeper import Keeper
    from serving.server import Server

WRONG_INPUT = InputError.exit_status


class UsageError(InputError):
    """Wrong input; the message says why, and what to do."""


def start(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM.

    Args:
        arguments: `volumes`, `port`, `host`, `socket`, `log`, `metrics` and `wait` of the command line.

    Returns:
        0 after a signal, 1 if a process ended by itself.
    """
    from contract.environment import Environment
    from serving.follow import POLL_SECONDS, Follower
    from serving.front.configuration import Address, parse_address
    from serving.front.options import Options
    from serving.server import Server
    from serving.supervise import Supervisor

    environment = Environment()
    volumes, version = arguments.volumes or environment.volumes, environment.model_version or ""
    volume = volumes / "deploy-model"
    pointer = _deployed(volume, version, arguments.wait)
    path = arguments.socket and arguments.socket.absolute()
    address = Address(path=path) if path else Address(arguments.host, arguments.port)
    metrics = arguments.metrics or environment.metrics_address
    where = parse_address(metrics) if metrics else None
    log = _open_log(arguments.log, volumes)
    keeper = _keeper(environment.serving_collect, volumes, log)
    options = Options(
        environment.serving_keys,
        environment.serving_tls,
        environment.serving_rate,
        tuple(environment.serving_origins.split()),
    )
    new = partial(Server, address=address, metrics=where, log=log, options=options, keeper=keeper)
    if pointer:
        served = _served_first(volume, pointer, log)
        server = new(served.mar, served.name, version=served.version)
        what = f"starting {served.name} {served.version}"
    else:
        server = new(wait_for_first=partial(_first, volume, log))
        what = "no model is deployed yet: waiting for the pipeline's first"
    _prepare(server, volumes)
    log.announce(what + (f" (log: {log.path})" if log.path else ""))
    began = time.monotonic()
    try:
        with server:
            _tell_metrics(server, volumes)
            took = f"ready after {time.monotonic() - began:.1f} s: {server.name} {server.version}"
            log.announce(took if path else f"{took}, try it at {server.page}")
            by = f"--unix-socket {path} " if path else ""
            log.announce(f"  curl {by}-T digit.png {server.url}\n  metrics: {server.metrics_url}\nCtrl-C stops it")
            follower, supervisor = Follower(server, volume, log, server.monitor, version), Supervisor(server, log)
            try:
                while (ended := server.wait(POLL_SECONDS)) is None:
                    server.tend()
                    supervisor.poll()
                    if not version or version != server.version:  # a pod follows no pointer, but may be shadowed
                        follower.poll()
            except KeyboardInterrupt:
                server.drain()
            else:
                log.announce(f"error: {ended}; {log.tail()}", "ERROR")
                return 1
    except KeyboardInterrupt:
        pass  # during the start, or a second time during the drain
    log.announce("stopped")
    return 0


def _tell_metrics(server: "Server", volumes: Path) -> None:
    """Let the metrics name the model, and tell of drift."""
    from serving.collect.drift_metrics import DriftMetrics

    server.monitor.set_model(server.name, server.version)
    server.monitor.add(DriftMetrics(volumes / FOLDER, lambda: server.version))


def _deployed(volume: Path, version: str, wait: bool) -> Pointer | None:
    """The model to serve; None if the first one has to be waited for."""
    try:
        return read_deployed(volume, version)
    except NothingDeployedError:
        if wait:
            return None
        raise


def _first(volume: Path, log: Log) -> Pointer:
    pointer = wait_for_first(volume, lambda why: log.announce(f"waiting still: {why}"))
    log.announce(f"starting {pointer.name} {pointer.version}")
    return pointer


def _served_first(volume: Path, pointer: Pointer, log: Log) -> Pointer:
    """What a start serves: the version before, if the pointer's is to be shadowed yet."""
    try:
        return served_first(volume, pointer)
    except PointerError as error:
        log.announce(f"{pointer.version} answers without being shadowed: {error}")
        return pointer


def _keeper(limits: str | None, volumes: Path, log: Log) -> "Keeper | None":
    """Of the store of images that clients send; None if none are kept."""
    if not limits:
        return None
    from contract.loop.collecting import Limits
    from serving.collect.keeper import Keeper

    keeper = Keeper(volumes / FOLDER, Limits.parsed(limits), log)
    log.announce(keeper.limits.said(keeper.folder))
    return keeper


def _prepare(server: "Server", volumes: Path) -> None:
    """Let signals end the server, and add what is told of reviewed images."""
    from serving.collect.measured_metrics import MeasuredMetrics

    server.monitor.add(MeasuredMetrics(volumes / FOLDER))
    # A shell starts background processes with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _open_log(given: Path | None, volumes: Path) -> Log:
    if str(given) == "-":
        return Log(None)
    path = given or volumes / "logs" / "torchserve.log"
    try:
        return Log(path)
    except OSError as error:
        raise UsageError(
            f"the log {path} cannot be written ({error.strerror}): choose another file with --log"
        ) from error


def predict(arguments: argparse.Namespace) -> int:
    """Print the server's answer for each image file.

    Args:
        arguments: `images`, `url`, `port`, `name`, `volumes`, `polarity` and `json` of the command line.

    Returns:
        The worst status: 0, 1 if the server failed, 2 if a file is not an image.
    """
    worst = 0
    try:
        for number, path in enumerate(arguments.images):
            if len(arguments.images) > 1 and not arguments.json:
                print(f"{chr(10) if number else ''}{path}")
            worst = max(worst, _predict_one(arguments, path))
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does; keep Python from flushing the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return worst


def _predict_one(arguments: argparse.Namespace, path: Path) -> int:
    try:
        image = path.read_bytes()
    except OSError as error:
        remedy = "name an image file, as in make predict IMAGE=samples/7.png"
        return _report(f"{path} cannot be read ({error.strerror}): {remedy}", WRONG_INPUT)
    url = _url(arguments)
    try:
        status, answer = client.predict(url, image, polarity=arguments.polarity)
    except OSError as error:
        raise UsageError(f"no server answers at {url} ({error}): start it with make serve") from error
    if arguments.json:
        print(json.dumps(answer, indent=2))
    elif status == 200:
        print(_readable(answer))
    if status == 200:
        return 0
    reason = answer.get("error", answer).get("message", answer)
    if status < 500:
        return _report(f"{path}: {reason}", WRONG_INPUT)
    return _report(f"{url} answered {status}: {reason}", 1)


def _report(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def _url(arguments: argparse.Namespace) -> str:
    base: str = arguments.url or f"http://127.0.0.1:{arguments.port}"
    try:
        parts = urlsplit(base)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--url {base} is no address of a server: give http://host:port")
    if parts.path.strip("/"):
        return base
    return f"{base.rstrip('/')}/predictions/{arguments.name or _name(_volumes(arguments) / 'deploy-model')}"


def _name(volume: Path) -> str:
    """The model's name: the pointer's; where nothing was deployed on this machine, the project's."""
    try:
        return read_pointer(volume).name
    except PointerError:
        import yaml

        try:
            return str(yaml.safe_load((ROOT / "project.yaml").read_text(encoding="utf-8"))["name"])
        except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):  # an image has no project.yaml
            pass
        raise


def _volumes(arguments: argparse.Namespace) -> Path:
    from contract.environment import Environment  # imported late: not every command needs it

    volumes: Path = arguments.volumes or Environment().volumes
    return volumes


def _readable(answer: dict[str, Any]) -> str:
    width = max((len(neighbour["label"]) for neighbour in answer["neighbours"]), default=0)
    unknown = " (nothing in the gallery is near enough)" if answer.get("unknown") else ""
    rows = [("label", answer["label"] + unknown)]
    too_far = answer.get("unknown_by", [])
    for key, name in (("distance", "distance"), ("features_distance", "by features")):
        if (distance := answer.get(key)) is not None:
            rows.append((name, f"{distance:.4f}{' (too far)' if key in too_far else ''}"))
    for number, near in enumerate(answer["neighbours"]):
        line = f"{near['label']:<{width}}  {near['distance']:.4f}  gallery image {near['index']}"
        rows.append(("neighbours" if number == 0 else "", line))
    rows.append(("model", f"{answer['model']['name']} {answer['model']['version']}"))
    return "\n".join(f"{key:<12}{value}" for key, value in rows)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
