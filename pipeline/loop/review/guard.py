"""Who may use the page: whoever has the address that `make review` printed, from a browser that it opened the page in.

Other users of this machine reach its loopback, and other pages in the browser send requests there. So every request
needs the address's token, or the cookie that it led to; the page's own path, which no other server learns, since
browsers send a cookie to every port of a host; one of the host's own names, against DNS rebinding; and to change
something, an `Origin` of the page itself.
"""

import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COOKIE = "review"
_TOKEN = "token"  # noqa: S105 - the name of a field
_HOSTS = ("127.0.0.1", "localhost")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_READING = ("GET", "HEAD")


class Guard:
    """An ASGI application before the page, which answers 403 to whoever may not use it.

    Args:
        app: The page, whose paths begin with `/`.

    Attributes:
        path: Where the page is, with `/` at both ends.
        token: What opens it first.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.path, self.token = f"/{secrets.token_urlsafe(12)}/", secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)

    @property
    def target(self) -> str:
        """The path and the query that open the page."""
        return f"{self.path}?{_TOKEN}={self.token}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the page answer."""
        if scope["type"] != "http":
            return
        headers, path = Headers(scope=scope), str(scope["path"])
        refused = self._refused(str(scope["method"]), path, headers, scope["query_string"].decode("latin-1"))
        if refused:
            await PlainTextResponse(f"403: {refused}.\n", 403, _HEADERS)(scope, receive, send)
            return
        inner = path.removeprefix(self.path.rstrip("/"))
        is_page = inner == "/"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                found.update(_HEADERS)
                found.setdefault("Cache-Control", "no-store")
                if is_page:
                    cookie = f"{_COOKIE}={self._session}; Path={self.path}; HttpOnly; SameSite=Strict"
                    found.append("Set-Cookie", cookie)
            await send(message)

        await self._app({**scope, "path": inner, "raw_path": inner.encode(), "root_path": ""}, receive, answer)

    def _refused(self, method: str, path: str, headers: Mapping[str, str], query: str) -> str:
        """Why a request is refused; empty if it is not."""
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in _HOSTS and host not in _HOSTS:
            return f"this page is at {' or '.join(_HOSTS)}, and nowhere else"
        given = QueryParams(query).get(_TOKEN, "")
        has_token = method in _READING and _same(given, self.token)
        if not (path.startswith(self.path) and (has_token or _same(_session(headers), self._session))):
            return "open the address that make review printed, with its token"
        if method not in _READING and headers.get("origin") != f"http://{host}":
            return "only the page itself changes something"
        return ""


def _session(headers: Mapping[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())
