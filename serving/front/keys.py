"""API keys: a file with one key a line, read again when it changes; a line that begins with # is a comment."""

import hashlib
import hmac
import secrets
from pathlib import Path


class Keys:
    """The keys in a file.

    A key and what a client sends are compared by their HMACs under a random secret of this process, all keys each time:
    so neither the place nor the content of a difference changes how long it takes.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._secret = secrets.token_bytes(32)
        self._seen: tuple[int, int, int] | None = None
        self._known: list[bytes] = []

    def allow(self, authorization: str) -> bool:
        """Whether a header Authorization has a key.

        Args:
            authorization: Its value, `Bearer KEY`.

        Returns:
            Whether the key is in the file now; False while the file cannot be read.
        """
        scheme, _, key = authorization.partition(" ")
        found = self._digest(key.strip().encode("latin-1", "replace"))
        matches = [hmac.compare_digest(found, known) for known in self._read()]
        return scheme.lower() == "bearer" and any(matches)

    def _read(self) -> list[bytes]:
        try:
            stat = self._path.stat()
            now = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if now != self._seen:
                lines = [line.strip() for line in self._path.read_bytes().splitlines()]
                self._known = [self._digest(line) for line in lines if line and not line.startswith(b"#")]
                self._seen = now
        except OSError:
            self._known, self._seen = [], None
        return self._known

    def _digest(self, key: bytes) -> bytes:
        return hmac.digest(self._secret, key, hashlib.sha256)
