"""Fills in serving/front/nginx.conf: addresses, folders, the model's name, and what is optional."""

import os
import pwd
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from contract.errors import InputError, ProjectError

TEMPLATE = Path(__file__).with_name("nginx.conf")
SOCKET_BYTES = 103  # the longest path of a Unix socket on any system


class AddressError(InputError):
    """The address for predictions or metrics cannot be used."""


@dataclass(frozen=True)
class Address:
    """Where a server listens: `port` of `host`, or a Unix socket at `path`."""

    host: str = "127.0.0.1"
    port: int = 0
    path: Path | None = None

    @property
    def origin(self) -> str:
        """Host and port of its URLs on this machine; a socket has no port."""
        if self.path:
            return "localhost"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - not bound here
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def __str__(self) -> str:
        return str(self.path) if self.path else f"port {self.port} of {self.host}"


def parse_address(text: str) -> Address:
    """Read `host:port`, `[IPv6 address]:port`, or `unix:/path`.

    Args:
        text: The address.

    Returns:
        The address.

    Raises:
        AddressError: It is none of these.
    """
    if text.startswith("unix:"):
        return Address(path=Path(text.removeprefix("unix:")).absolute())
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise AddressError(f"{text} is no address: give HOST:PORT, [IPv6]:PORT or unix:/path")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def reserve(address: Address, option: str) -> Address:
    """Check that an address can be used, and choose a port if it has none.

    Args:
        address: The address; with port 0 any free port is taken.
        option: The option that sets it, for the message.

    Returns:
        The address with its port.

    Raises:
        AddressError: Another process listens there, or this machine has no such address.
    """
    try:
        if address.path:
            _make_free(address.path)
            return address
        family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(where[:2], family=family) as listener:
            return Address(address.host, int(listener.getsockname()[1]))
    except OSError as error:
        resolves = not isinstance(error, socket.gaierror) and error.errno
        reason = os.strerror(error.errno or 0) if resolves else str(error)
        raise AddressError(
            f"{address} cannot be used ({reason}): stop what listens there, or choose another with {option}"
        ) from error


def listen(address: Address, more: str = "") -> str:
    """The lines of nginx.conf that listen at an address; a host's name may stand for several.

    Args:
        address: The address.
        more: Parameters of the lines.

    Returns:
        The lines.
    """
    if address.path:
        return f"listen {quote(f'unix:{address.path}')}{more};"
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    hosts = dict.fromkeys(f"[{where[0]}]" if family == socket.AF_INET6 else where[0] for family, *_, where in found)
    more += " ipv6only=off" if address.host == "::" else ""
    return " ".join(f"listen {host}:{address.port} backlog=1024{more};" for host in hosts)


def fill_in(values: dict[str, str], template: Path = TEMPLATE) -> str:
    """nginx.conf with the words between @ signs replaced.

    Args:
        values: Each word's replacement; a word without one is left out.
        template: Another file than nginx.conf.

    Returns:
        The configuration.
    """
    return re.sub(r"@([A-Z_]+)@", lambda found: values.get(found[1], ""), template.read_text())


def user() -> str:
    """The line that lets nginx, started by root, keep root's rights: its sockets are in a folder of root's."""
    return f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""


def seconds_of(directive: str) -> float:
    """A time in nginx.conf: the value of a directive's first line, such as `proxy_read_timeout 15s;`."""
    found = re.search(rf"^\s*{directive} (\d+)s;", TEMPLATE.read_text(), re.MULTILINE)
    if found is None:
        raise ProjectError(f"{TEMPLATE} has no {directive}")
    return float(found[1])


def quote(text: str) -> str:
    """A path as a word of nginx.conf."""
    if re.search(r"[\x00-\x1f\"$;{}\\]", text):
        raise AddressError(f"the path {text!r} has characters that nginx.conf cannot hold: choose another")
    return f'"{text}"' if " " in text else text


def _make_free(path: Path) -> None:
    """Remove a socket that nobody listens at any more."""
    if len(os.fsencode(path)) > SOCKET_BYTES:
        raise OSError(f"the path of a socket has at most {SOCKET_BYTES} bytes")
    if not path.parent.is_dir():
        raise FileNotFoundError(2, os.strerror(2))
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
        raise OSError(98, os.strerror(98))
    if path.exists():
        raise FileExistsError(17, os.strerror(17))
