"""HTTP for the stand-in of Kubeflow Pipelines: a server on loopback, and strict checks of bodies."""

import json
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from tests.support.in_thread import InThread

Json = dict[str, Any]
FIELDS = {
    "pipeline": {"display_name", "name", "description", "namespace", "tags"},
    "experiment": {"display_name", "description", "namespace"},
    "run": {
        *("experiment_id", "display_name", "description", "pipeline_spec", "pipeline_version_reference"),
        *("runtime_config", "service_account", "plugins_input"),
    },
    "recurring_run": {
        *("display_name", "description", "pipeline_spec", "pipeline_version_reference", "runtime_config"),
        *("service_account", "max_concurrency", "trigger", "mode", "no_catchup", "namespace", "experiment_id"),
    },
}


class Refused(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Content:
    """The body of a request."""

    def __init__(self, headers: Any, body: bytes) -> None:
        self._kind, self._body = headers.get("Content-Type", ""), body

    def json(self, kind: str, *required: str) -> Json:
        """The JSON body as an object of the API; Refused if a field is unknown, read-only or missing."""
        if not self._kind.startswith("application/json"):
            raise Refused(400, f"the body is {self._kind!r}; it must be application/json")
        one: Json = json.loads(self._body)
        if unknown := set(one) - FIELDS[kind]:
            raise Refused(400, f"{kind}: unknown or read-only fields {sorted(unknown)}")
        if missing := [key for key in required if not one.get(key)]:
            raise Refused(400, f"{kind}: {missing} are required")
        return one

    def file(self, name: str) -> bytes:
        """The content of a part of the multipart body; Refused if there is no such part."""
        whole = message_from_bytes(f"Content-Type: {self._kind}\r\n\r\n".encode() + self._body)
        for part in whole.get_payload() if whole.is_multipart() else ():
            if part.get_param("name", header="content-disposition") == name:
                content: bytes = part.get_payload(decode=True)
                return content
        raise Refused(400, f"no file {name} in a multipart body")


def _kind(content: Any) -> str:
    if not isinstance(content, str):
        return "application/json"
    return "text/html" if content.startswith("<!doctype html>") else "text/plain"


class Answering(Protocol):
    """A stand-in that Server can serve."""

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Any]: ...


class Server(InThread):
    """A context manager that serves a stand-in on loopback."""

    def __init__(self, kfp: Answering, port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content = kfp.answer(self.command, self.path, self.headers, body)
                if status == 0:
                    self.connection.close()
                    return
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", _kind(content))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = do_PATCH = _do  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.address = f"127.0.0.1:{self._http.server_port}"
