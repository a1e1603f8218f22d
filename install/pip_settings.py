"""What pip was told about indexes, certificates and proxies (pip.conf, PIP_*), as an environment for uv.

Reads `pip config list`. uv installs the same lock several times faster; where pip was told something that uv cannot be
told, pip installs.
"""

import ast
import os
import ssl
import subprocess
import sys

from install.errors import InstallError

# pip is called here to install into .venv, whatever the user told it for calls of their own.
_OURS = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
_ELSEWHERE = ("target", "prefix", "root")
_DROPPED = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PYTHONHOME", "PYTHONPATH", "UV_TARGET", "UV_PREFIX")
_NOTHING_TO_UV = (
    *("user", "require-virtualenv", "target", "prefix", "root", "python", "no-deps", "upgrade", "report", "dry-run"),
    *("disable-pip-version-check", "no-python-version-warning", "no-input", "quiet", "verbose", "no-color", "log"),
    *("progress-bar", "root-user-action", "break-system-packages", "debug", "compile", "no-compile", "resume-retries"),
    *("no-warn-script-location", "no-warn-conflicts", "config-file", "exists-action"),
)
_TRUE = ("1", "true", "yes", "on", "y", "t")


def environment() -> "dict[str, str]":
    """This process's environment for pip and uv, less what would lead them away from .venv."""
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    return dict(kept, PYTHONUNBUFFERED="1", **_OURS)


def read(python: str) -> "dict[str, str]":
    """Pip's settings for installing, by their long names; raises InstallError for one that leads away from .venv."""
    done = subprocess.run(
        [python, "-m", "pip", "config", "list"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        env=environment(),
    )
    if done.returncode:
        words = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise InstallError("pip's settings cannot be read, mend them (pip config debug lists the files): %s" % words)
    settings = parse(done.stdout.decode("utf-8", "replace"))
    for name in _ELSEWHERE:
        if settings.get(name):
            raise InstallError(
                "pip's setting %s is %s, so packages would not go into .venv: take it out (pip config list shows it), "
                "or set PIP_CONFIG_FILE=%s" % (name, settings[name], os.devnull)
            )
    return settings


def parse(listing: str) -> "dict[str, str]":
    """Of `pip config list`, what counts for `pip install`: the environment before its own section, that before all."""
    found = {}  # type: dict[str, str]
    for section in ("global", "install", ":env:"):
        for line in listing.splitlines():
            key, _, value = line.partition("=")
            place, _, name = key.rpartition(".")
            if place == section:
                found["timeout" if name == "default-timeout" else name] = " ".join(str(ast.literal_eval(value)).split())
    return found


def for_uv(settings: "dict[str, str]") -> "dict[str, str] | None":
    """The same settings as uv's variables; None if one of them has no such form."""
    made = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # as pip chooses: the best of all indexes
    if sys.platform == "darwin" or ssl.get_default_verify_paths().cafile:
        made["UV_SYSTEM_CERTS"] = "1"  # an authority that the system knows counts, as it does for pip
    for name, value in sorted(settings.items()):
        if not value or name in _NOTHING_TO_UV:
            continue
        if name in _SWITCHES:
            made.update({_SWITCHES[name]: "1"} if value.lower() in _TRUE else {})
        elif name in _VALUES and (name in _LISTS or " " not in value):
            made.update({variable: _written(name, value) for variable in _VALUES[name]})
        else:
            return None
    return made


def _written(name: str, value: str) -> str:
    if name == "proxy":
        return value if "://" in value else "http://" + value
    if name == "cache-dir":
        return os.path.join(os.path.expanduser(value), "uv")
    return ("," if name == "find-links" else " ").join(os.path.expanduser(word) for word in value.split())


_SWITCHES = {"no-index": "UV_NO_INDEX", "no-cache-dir": "UV_NO_CACHE"}
_LISTS = ("extra-index-url", "find-links", "trusted-host", "constraint")
_VALUES = {
    "index-url": ["UV_DEFAULT_INDEX"],
    "extra-index-url": ["UV_EXTRA_INDEX_URL"],
    "find-links": ["UV_FIND_LINKS"],
    "trusted-host": ["UV_INSECURE_HOST"],
    "constraint": ["UV_CONSTRAINT"],
    "cert": ["SSL_CERT_FILE"],
    "client-cert": ["SSL_CLIENT_CERT"],
    "proxy": ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"],
    "timeout": ["UV_HTTP_TIMEOUT"],
    "retries": ["UV_HTTP_RETRIES"],
    "cache-dir": ["UV_CACHE_DIR"],
}
