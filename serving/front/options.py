"""What the door can do besides, off by default: API keys, TLS, a rate for each key or address, CORS."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """The options of the door."""

    @property
    def scheme(self) -> str:
        """Of the URLs for predictions."""
        return "http"

    def lines(self, folder: Path) -> dict[str, str]:
        """What they add to nginx.conf: the lines for each word between @ signs."""
        return {}
