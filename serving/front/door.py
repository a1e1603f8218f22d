"""The door: an nginx process before TorchServe. Writes its configuration into a private folder, and starts it."""

import errno
import json
import os
import re
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Self

import psutil

from serving.connection import send_local
from serving.front.access_log import AccessLog, Take
from serving.front.configuration import Address, fill_in, listen, quote, seconds_of, user
from serving.front.mirror import FLAG, LOG, Mirror
from serving.front.nginx import DoorError, PortTakenError, find_nginx
from serving.front.options import Options
from serving.front.thumbnails import Thumbnails
from serving.log import Log
from serving.system.folder import private_folder
from serving.system.group import Group

ANSWER_SECONDS = seconds_of("proxy_read_timeout")  # TorchServe has no longer for an answer
DRAIN_SECONDS = seconds_of("worker_shutdown_timeout")
NO_MODEL = "no model is deployed yet: run the pipeline, and ask again when it has deployed one"
_LOADING = "the model is being loaded or replaced: send it again a few seconds later"
_ANY_MODEL = "[^/:]+"  # as a regular expression
PAGE = Path(__file__).with_name("page")
_KEPT_SECONDS = seconds_of("keepalive_timeout")  # for which a connection is kept after its last request
_CLOSING_SECONDS = 2.0  # in which clients with kept-alive connections get `Connection: close`
_TAKING_OVER_SECONDS = 1.0  # in which nginx's old process has stopped to listen; its new one waits 0.1 s before that
_START_SECONDS = 10.0
_POLL_SECONDS = 0.02


class Door:
    """An nginx that runs within a `with` block; the block is entered when it listens.

    Args:
        address: Where clients reach it.
        metrics: Where Prometheus does.
        name: The model's name, part of the URLs; None if it is not known yet.
        log: For its access log and its errors.
        options: What is off by default: keys, TLS, a rate, CORS.

    Attributes:
        spool: The folder of bodies that are too large to be kept in memory.
        thumbnails: The gallery's pictures, of the versions whose answers clients may have.
    """

    def __init__(self, address: Address, metrics: Address, name: str | None, log: Log, options: Options) -> None:
        self.address, self.metrics, self.log = address, metrics, log
        self._name, self._options = name, options
        self._torchserve, self._key = "unix:inference", ""
        self._mirror: Mirror | None = None

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
        self._torchserve, self._key = f"127.0.0.1:{torchserve}", f"Bearer {key}" if key else ""
        self._reload()

    def set_name(self, name: str) -> None:
        """Answer at the paths of this model from now on."""
        if name != self._name:
            self._name = name
            self._reload()

    def start_mirror(self, mirror: Mirror, take_live: Take, take_copies: Take) -> None:
        """Send copies of requests to another version from now on; clients do not wait for them.

        Args:
            mirror: The version, and the share of the requests.
            take_live: Called with lines of the access log, as they are written.
            take_copies: Called with lines of the log of copies.

        Raises:
            DoorError: nginx does not take the configuration.
        """
        (self._folder / LOG).write_bytes(b"")
        self._mirror = mirror
        self._reload_politely()
        if not self._is_loaded():
            self.end_mirror()
            raise DoorError("nginx does not take a configuration with a mirror: does it have the module?")
        self.requests.watch(self._folder / LOG, take_live, take_copies)
        (self._folder / FLAG).touch()

    def pause_mirror(self) -> None:
        """Send no more copies; those on their way are still answered."""
        (self._folder / FLAG).unlink(missing_ok=True)

    def is_mirror_idle(self) -> bool:
        """Whether no copy is being answered."""
        return self._ask("/copies")[0] in (HTTPStatus.OK, None)

    def end_mirror(self) -> None:
        """Take the mirror out of the configuration; what its log still lacks is lost."""
        self.pause_mirror()
        self.requests.unwatch()
        if self._mirror:
            self._mirror = None
            self._reload_politely()
        (self._folder / LOG).unlink(missing_ok=True)

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
            self.thumbnails = Thumbnails(self._folder, self.log)
            (self._folder / "page").symlink_to(PAGE)  # nginx.conf cannot hold every path
            self._write_configuration()
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

    def _write_configuration(self) -> None:
        folder = quote(str(self._folder))
        values = {
            "USER": user(),
            "FOLDER": folder,
            "SPOOL": quote(str(self.spool)),
            "NAME": self._name or "NAME",
            "MODEL": re.escape(self._name) if self._name else _ANY_MODEL,
            "HAS_MODEL": f"return 200 '{json.dumps({'name': self._name})}';" if self._name else "return 502;",
            "UNAVAILABLE": _LOADING if self._name else NO_MODEL,
            "LISTEN": listen(self.address, " ssl" if self._options.tls else ""),
            "METRICS": listen(self.metrics),
            "TORCHSERVE": self._torchserve,
            "TORCHSERVE_KEY": self._key,
        }
        more = self._mirror.lines(self._name or "", self._torchserve, folder) if self._mirror else {}
        (self._folder / "nginx.conf").write_text(fill_in(values | self._options.lines() | more))

    def _reload(self) -> None:
        """Let nginx read its configuration again; what is on its way is answered by the old one."""
        before = self._accepting()
        self._write_configuration()
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_loaded() or before & self._accepting():
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)

    def _accepting(self) -> set[int]:
        """Process ids of the workers that accept connections; the title of those that end says so."""
        found = set()
        for worker in psutil.Process(self._process.pid).children():
            with suppress(psutil.Error):
                if "shutting down" not in " ".join(worker.cmdline()):
                    found.add(worker.pid)
        return found

    def _is_loaded(self) -> bool:
        wanted = f"{self._torchserve} {self._name}" + (f" {self._mirror}" if self._mirror else "")
        return self._ask("/loaded") == (HTTPStatus.OK, wanted)

    def _reload_politely(self) -> None:
        """As `_reload`, but first close kept-alive connections with their next answer: nginx would cut them."""
        closing = self._folder / "closing"
        closing.touch()
        try:
            if self.requests.seconds_since_last() < _KEPT_SECONDS:
                time.sleep(_CLOSING_SECONDS)
            self._reload()
            time.sleep(_TAKING_OVER_SECONDS)
        finally:
            closing.unlink(missing_ok=True)

    def _until_listening(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while self._ask("/idle")[0] is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self._folder / "stderr").read_text(errors="replace").strip()
                error = PortTakenError if f"({errno.EADDRINUSE}: " in said else DoorError
                raise error(f"nginx does not start: {said or 'it says nothing'}")
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
