"""What the door can do besides, off by default: API keys, TLS, a rate for each key or address, CORS."""

import re
from dataclasses import dataclass
from pathlib import Path

from contract.errors import InputError
from serving.front.configuration import quote

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d+)?")


class OptionError(InputError):
    """An option of the door has a value that cannot be used."""


@dataclass(frozen=True)
class Options:
    """The options of the door.

    Attributes:
        keys: A file with one key a line; requests for predictions need one of them. It is read again when it changes.
        tls: A folder with `tls.crt` and `tls.key`, as a Kubernetes secret has them.
        rate: Requests a second for each key, or without keys for each address; 0 for any number.
        origins: Web origins whose pages may ask, such as `https://example.org`.
    """

    keys: Path | None = None
    tls: Path | None = None
    rate: int = 0
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, path in (("keys", self.keys), ("TLS", self.tls and self.tls / "tls.key")):
            if path and not path.is_file():
                raise OptionError(f"the file {path} for {name} does not exist: make it, or leave the option out")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise OptionError(f"{origin!r} is no web origin: give one such as https://example.org")

    @property
    def scheme(self) -> str:
        """Of the URLs for predictions."""
        return "https" if self.tls else "http"

    def lines(self) -> dict[str, str]:
        """What they add to nginx.conf: the lines for each word between @ signs."""
        found: dict[str, str] = {}
        if self.keys:
            found["KEYS"] = "auth_request /_allowed;"
        if self.rate:
            who = "$http_authorization" if self.keys else "$client"
            found["RATE_ZONE"] = (
                f'map $client $rated {{ default {who}; "" ""; }}'
                f" limit_req_zone $rated zone=rate:10m rate={self.rate}r/s; limit_req_status 429;"
            )
            found["RATE"] = f"limit_req zone=rate burst={self.rate} nodelay;"
        if self.tls:
            certificate, key = quote(str(self.tls / "tls.crt")), quote(str(self.tls / "tls.key"))
            found["TLS"] = (
                f"ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;"
                " ssl_session_cache shared:tls:1m;"
            )
        if self.origins:
            allowed = " ".join(f'"{origin}" "{origin}";' for origin in self.origins)
            found["ORIGINS"] = f'map $http_origin $origin {{ default ""; {allowed} }}'
            found["CORS"] = (
                "add_header Access-Control-Allow-Origin $origin always; add_header Vary Origin always;"
                ' add_header Access-Control-Expose-Headers "X-Request-Id, Retry-After" always;'
            )
            found["PREFLIGHT"] = "if ($request_method = OPTIONS) { rewrite ^ /_preflight last; }"
        return found
