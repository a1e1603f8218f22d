"""The door: an nginx process before TorchServe. Writes its configuration into a private folder, and starts it."""

import os
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Self

from serving.connection import send_local
from serving.front.access_log import AccessLog
from serving.front.configuration import Address, fill_in, listen, quote, seconds_of, user
from serving.front.nginx import DoorError, find_nginx
from serving.front.options import Options
from serving.log import Log
from serving.system.folder import private_folder
from serving.system.group import Group

ANSWER_SECONDS = seconds_of("proxy_read_timeout")  # TorchServe has no longer for an answer
DRAIN_SECONDS = seconds_of("worker_shutdown_timeout")
_KEPT_SECONDS = seconds_of("keepalive_timeout")  # for which a connection is kept after its last request
_CLOSING_SECONDS = 2.0  # in which clients with kept-alive connections get `Connection: close`
_START_SECONDS = 10.0
_POLL_SECONDS = 0.02


class Door:
    """An nginx that runs within a `with` block; the block is entered when it listens.

    Args:
        address: Where clients reach it.
        metrics: Where Prometheus does.
        name: The model's name, part of the URLs.
        log: For its access log and its errors.
        options: What is off by default: keys, TLS, a rate, CORS.

    Attributes:
        spool: The folder of bodies that are too large to be kept in memory.
    """

    def __init__(self, address: Address, metrics: Address, name: str, log: Log, options: Options) -> None:
        self.address, self.metrics, self.log = address, metrics, log
        self._name, self._options = name, options

    @property
    def folder(self) -> Path:
        """Its private folder; requests for this project's own process arrive at `control.sock` in it."""
        return self._folder

    def open_to(self, torchserve: Path | int, key: str | None) -> None:
        """Let requests through to a TorchServe from now on.

        Args:
            torchserve: Its Unix socket, or port of the loopback address.
            key: The key that it asks for; None if none.
        """
        if isinstance(torchserve, Path):
            new = self._folder / "inference.new"
            new.symlink_to(torchserve)
            os.replace(new, self._folder / "inference")
            return
        self._write_configuration(address := f"127.0.0.1:{torchserve}", key)
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + _START_SECONDS
        while self._ask("/torchserve") != (HTTPStatus.OK, address) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def wait(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self._ask("/idle")[0] in (HTTPStatus.OK, None)

    def drain(self) -> None:
        """Close kept-alive connections with their next answer, refuse new ones, and wait for all accepted requests."""
        deadline = time.monotonic() + DRAIN_SECONDS
        (self._folder / "closing").touch()
        if self.requests.seconds_since_last() < _KEPT_SECONDS:
            time.sleep(_CLOSING_SECONDS)
        self._process.send_signal(signal.SIGQUIT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(deadline - time.monotonic(), 0) + 1)

    def __enter__(self) -> Self:
        nginx = find_nginx()
        try:
            self._enter(nginx)
        except OSError as error:
            raise DoorError(
                f"nginx cannot be started ({error}): set TMPDIR to a folder with free space for temporary files"
            ) from error
        return self

    def _enter(self, nginx: Path) -> None:
        with ExitStack() as stack:
            self._folder, self.spool = private_folder("door-"), private_folder("body-", large=True)
            group = stack.enter_context(Group(self._folder, self.spool))
            self._write_configuration("unix:inference", None)
            with (self._folder / "stderr").open("wb") as stderr:
                words = [str(nginx), "-p", str(self._folder), "-c", "nginx.conf", "-e", "stderr"]
                self._process = group.start(words, cwd=self._folder, stdout=stderr, stderr=stderr)
            stack.callback(self._process.wait)
            stack.callback(self._process.kill)
            self._until_listening()
            self.requests = stack.enter_context(AccessLog(self._folder, self.log, self._reopen))
            self._running = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _write_configuration(self, torchserve: str, key: str | None) -> None:
        values = {
            "USER": user(),
            "FOLDER": quote(str(self._folder)),
            "SPOOL": quote(str(self.spool)),
            "NAME": self._name,
            "LISTEN": listen(self.address, " ssl" if self._options.tls else ""),
            "METRICS": listen(self.metrics),
            "TORCHSERVE": torchserve,
            "TORCHSERVE_KEY": f"Bearer {key}" if key else "",
        }
        (self._folder / "nginx.conf").write_text(fill_in(values | self._options.lines()))

    def _until_listening(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while self._ask("/idle")[0] is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self._folder / "stderr").read_text(errors="replace").strip()
                raise DoorError(f"nginx does not start: {said or 'it says nothing'}")
            time.sleep(_POLL_SECONDS)

    def _ask(self, path: str) -> tuple[int | None, str]:
        """Status and text of the door's answer to this process; None if nginx does not answer."""
        try:
            said = send_local(self._folder / "idle.sock", "GET", path)
        except OSError:
            return None, ""
        return said.status, said.body.decode(errors="replace")

    def _reopen(self) -> None:
        self._process.send_signal(signal.SIGUSR1)
