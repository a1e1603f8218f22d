"""The door and TorchServe as one server: they start together, end together, and change the version together."""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from serving import client
from serving.collect.keeper import Keeper
from serving.control import Control
from serving.front.configuration import Address, reserve
from serving.front.door import ANSWER_SECONDS, Door
from serving.front.keys import Keys
from serving.front.nginx import PortTakenError
from serving.front.options import Options
from serving.log import Log
from serving.monitor import Monitor
from serving.pointer import Pointer
from serving.torchserve.launch import TorchServeError
from serving.torchserve.management import ManagementError
from serving.torchserve.server import TorchServe

DEFAULT_METRICS = Address("127.0.0.1", 8082)
_PORT_ATTEMPTS = 3
_ARRIVAL_SECONDS = 1.0  # from the door to TorchServe


class Server:
    """A server that runs within a `with` block; the block is entered when the canary has been answered.

    Args:
        mar: The model archive, in its model store; None to wait for the first model.
        name: The model's name, part of the URL; empty to wait for the first model.
        address: Where clients reach it; by default any free port of the loopback address.
        metrics: Where Prometheus does; by default DEFAULT_METRICS, or any free port if that is taken.
        log: For the output of all processes.
        version: The version that the archive must have; any if not given.
        options: Of the door.
        timeout: Seconds to start, and to load a model.
        wait_for_first: Without `mar`: called when the door is open, which says meanwhile that there is no model;
            returns the first one.
        keeper: Of the store of images; None to keep none.

    Raises:
        TorchServeError: The archive is unusable; on entering the block: the model cannot be served.
        AddressError: An address is taken, or this machine has none such.
        DoorError: nginx is missing, or does not start.
    """

    def __init__(
        self,
        mar: Path | None = None,
        name: str = "",
        address: Address | None = None,
        metrics: Address | None = None,
        *,
        log: Log,
        version: str | None = None,
        options: Options | None = None,
        timeout: float = 120.0,
        wait_for_first: Callable[[], Pointer] | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.address, self._metrics = address or Address(), metrics
        self.log, self.monitor = log, Monitor(log)
        self._options, self._timeout = options or Options(), timeout
        self._wait_for_first = wait_for_first
        self._keeper = keeper
        if mar:
            self._torchserve = self._new(mar, name, version)
        self._runs, self._is_ending = False, False
        self._retired: list[tuple[Callable[[], object], float]] = []

    @property
    def name(self) -> str:
        """The model's name."""
        return self._torchserve.name

    @property
    def version(self) -> str:
        """The version that is served."""
        return self._torchserve.version

    @property
    def mar(self) -> Path:
        """The archive that is served."""
        return self._torchserve.mar

    @property
    def port(self) -> int:
        """The port for predictions; 0 for a Unix socket."""
        return self.address.port

    @property
    def url(self) -> str:
        """The address for predictions; on a Unix socket the host means nothing."""
        return f"{self._options.scheme}://{self.address.origin}/predictions/{self.name}"

    @property
    def page(self) -> str:
        """The address of the page to try the model."""
        return f"{self._options.scheme}://{self.address.origin}/"

    @property
    def metrics_url(self) -> str:
        """The address of the metrics."""
        return f"http://{self._door.metrics.origin}/metrics"

    @property
    def torchserve(self) -> TorchServe:
        """The TorchServe behind the door."""
        return self._torchserve

    @property
    def door(self) -> Door:
        """The door."""
        return self._door

    def predict(self, image: bytes, timeout: float = 60.0) -> client.Answer:
        """HTTP status and JSON for one image file; see `client.predict`."""
        return client.predict(self.url, image, timeout)

    def is_ready(self) -> bool:
        """Whether clients get right answers."""
        return self._runs and not self._is_ending and self._torchserve.is_right()

    def switch(self, mar: Path, version: str) -> None:
        """Switch to another version without losing a request.

        The new version is loaded beside the old one and checked with its golden predictions; then it answers. `tend`
        removes the old one when nothing waits in it.

        Args:
            mar: Another archive of the same model store.
            version: The version that it must have.

        Raises:
            TorchServeError: It cannot be served; the old version still is.
        """
        if not self._runs:
            self._start(self._new(mar, self.name, version))
            return
        self.load(mar, version)
        self.promote()

    def load(self, mar: Path, version: str) -> None:
        """Load another version beside the one that answers; arguments and errors are those of `switch`."""
        if not self._runs:
            raise TorchServeError("TorchServe does not run")
        self._remove_retired(wait=True)
        self._torchserve.load(mar, version)
        self._loaded = mar, version

    def promote(self) -> None:
        """Let the version that was loaded last answer; TorchServeError if that fails."""
        mar, version = self._loaded
        self._door.thumbnails.add(mar, version)
        try:
            old = self._torchserve.promote()
        except TorchServeError:
            self._door.thumbnails.remove(version)
            raise
        self._retire(lambda: self._remove(old))

    def workers(self) -> tuple[int, int]:
        """How many workers are READY, and how many there should be."""
        if self._runs:
            with suppress(ManagementError):
                return self._torchserve.workers()
        return 0, 1

    def reload(self) -> None:
        """Load the version again into the TorchServe that runs; TorchServeError if that fails."""
        if not self._runs:
            raise TorchServeError("TorchServe does not run")
        self._torchserve.reload()

    def restart(self) -> None:
        """Start another TorchServe with this version; TorchServeError if that fails.

        While a worker of the old one answers, the old one ends only when nothing waits in it.
        """
        old = self._torchserve
        if self._runs and self.workers()[0] == 0:
            self._runs = False
            old.__exit__()
        answers = self._runs
        self._start(self._new(old.mar, old.name, old.version))
        if answers:
            self._retire(old.__exit__)

    def tend(self) -> None:
        """Remove what nothing waits in any more; to be called again and again."""
        self._remove_retired(wait=False)

    def wait(self, timeout: float) -> str | None:
        """Wait for one of the processes to end by itself.

        Args:
            timeout: Seconds.

        Returns:
            What ended, and how; None if all still run after `timeout`.
        """
        if not self._runs:
            time.sleep(timeout)
        elif (status := self._torchserve.wait(timeout)) is not None:
            return f"TorchServe ended by itself with status {status}"
        if (status := self._door.wait()) is not None:
            return f"nginx ended by itself with status {status}"
        return None

    def drain(self) -> None:
        """Answer all accepted requests, in DRAIN_SECONDS of the door at most, then end."""
        self._is_ending = True
        self._door.drain()
        if self._runs:
            self._torchserve.end()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._door = self._open_door(stack)
            self.monitor.add(self._door.requests)
            control = self._door.folder / "control.sock"
            keys = Keys(self._options.keys) if self._options.keys else None
            monitor = self.monitor
            answers = stack.enter_context(Control(control, self.is_ready, monitor.render, keys, lambda: monitor.shadow))
            if self._keeper:
                stack.enter_context(self._keeper)
            stack.callback(self._end_torchserve)
            if self._wait_for_first:
                first = self._wait_for_first()
                self._torchserve = self._new(first.mar, first.name, first.version)
                self._door.set_name(first.name)
            answers.name = self.name
            self._door.thumbnails.add(self.mar, self.version)
            self._start(self._torchserve)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _open_door(self, stack: ExitStack) -> Door:
        """The door, until the stack ends; with another port where a process was faster to take the one it chose."""
        name = None if self._wait_for_first else self.name
        wanted, attempts = self.address, _PORT_ATTEMPTS
        while True:
            self.address, attempts = reserve(wanted, "--port"), attempts - 1
            door = Door(self.address, self._reserve_metrics(), name, self.log, self._options)
            try:
                return stack.enter_context(door)
            except PortTakenError:
                if not attempts:
                    raise

    def _reserve_metrics(self) -> Address:
        if self._metrics:
            return reserve(self._metrics, "--metrics")
        with suppress(Exception):
            return reserve(DEFAULT_METRICS, "--metrics")
        return reserve(Address(), "--metrics")

    def _new(self, mar: Path, name: str, version: str | None) -> TorchServe:
        collect = self._keeper.for_workers if self._keeper else None
        return TorchServe(mar, name, log=self.log, version=version, timeout=self._timeout, collect=collect)

    def _start(self, torchserve: TorchServe) -> None:
        torchserve.__enter__()
        self._torchserve, self._runs = torchserve, True
        self._door.open_to(torchserve.inference, torchserve.inference_key)
        self.monitor.set_torchserve(torchserve.folder / "metrics", torchserve.metrics)

    def _end_torchserve(self) -> None:
        if self._runs:
            self._runs = False
            self._torchserve.__exit__()

    def _remove(self, version: str) -> None:
        self._torchserve.remove(version)
        self._door.thumbnails.remove(version)

    def _retire(self, end: Callable[[], object]) -> None:
        self._retired.append((end, time.monotonic()))

    def _remove_retired(self, *, wait: bool) -> None:
        """End what the door asked last before it let requests through to something else.

        Nothing waits in it once the door has no request at all for a moment, or once all requests from before are too
        old: the door has answered them by then. TorchServe's own counters leave out batches in work.
        """
        while self._retired:
            end, since = self._retired[0]
            age = time.monotonic() - since
            if age > ANSWER_SECONDS + _ARRIVAL_SECONDS or (age > _ARRIVAL_SECONDS and self._door.is_idle()):
                self._retired.pop(0)
                end()
            elif not wait:
                return
            else:
                time.sleep(0.05)
