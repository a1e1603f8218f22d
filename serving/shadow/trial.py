"""One shadowing: loads the version, lets the door copy requests to it, counts, and judges."""

import time
from collections.abc import Mapping
from typing import Any

from serving.front.door import ANSWER_SECONDS
from serving.front.mirror import Mirror
from serving.pointer import Pointer
from serving.server import Server
from serving.shadow.comparison import Comparison
from serving.shadow.judge import Limits, Verdict, judge
from serving.torchserve.launch import TorchServeError

_SETTLE_SECONDS = 1.0  # in which all lines of the logs are there


class Trial:
    """A version that is shadowed, from `begin` to `end`.

    Args:
        server: The running server, of the version before.
        pointer: The version.
        content: What the pointer says of shadowing.

    Raises:
        TorchServeError: What the pointer says is damaged.
    """

    def __init__(self, server: Server, pointer: Pointer, content: Mapping[str, Any]) -> None:
        try:
            self.limits = Limits.parsed(content)
        except (KeyError, TypeError, ValueError) as error:
            raise TorchServeError(f"the pointer's shadow is damaged ({error!r}): remove the pointer and run") from error
        self.pointer = pointer
        self._server, self._door = server, server.door
        self._comparison = Comparison(server.version, pointer.version)

    def begin(self) -> None:
        """Load the version, and have copies sent to it; TorchServeError if it cannot be served."""
        self._server.load(self.pointer.mar, self.pointer.version)
        self._torchserve = self._server.torchserve
        self._server.log.on_requests = self._comparison.add_labels
        try:
            mirror = Mirror(self.pointer.version, self.limits.share)
            self._door.start_mirror(mirror, self._comparison.add_live, self._comparison.add_copies)
        except Exception:
            self._server.log.on_requests = None
            self._torchserve.remove(self.pointer.version)
            raise
        self._until, self._paused = time.monotonic() + self.limits.seconds, 0.0

    def poll(self) -> Verdict | None:
        """Look whether the time is over, to be called again and again.

        Returns:
            The verdict; None as long as there is none.

        Raises:
            TorchServeError: TorchServe was restarted meanwhile, and knows the version no more.
        """
        if self._server.torchserve is not self._torchserve:
            raise TorchServeError(f"TorchServe was restarted while {self.pointer.version} was shadowed")
        now = time.monotonic()
        if now < self._until:
            return None
        if not self._paused:
            self._door.pause_mirror()
            self._paused = now
        # A version that hangs is seen by the copies that it does not answer: the door waits for them.
        waited = now - self._paused
        is_answered = waited > _SETTLE_SECONDS and self._door.is_mirror_idle()
        if not is_answered and waited < ANSWER_SECONDS + _SETTLE_SECONDS:
            return None
        time.sleep(_SETTLE_SECONDS)
        return judge(self._comparison.figures(), self.limits)

    def end(self, *, keep: bool) -> None:
        """Send no copies any more.

        Args:
            keep: Whether the version stays loaded, to be promoted.
        """
        self._server.log.on_requests = None
        self._door.end_mirror()
        if not keep:
            self._torchserve.remove(self.pointer.version)
