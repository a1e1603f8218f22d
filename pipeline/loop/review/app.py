"""The page's HTTP server, on loopback alone."""

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from contract.errors import InputError, ProjectError
from pipeline.loop.errors import LabelError
from pipeline.loop.review.desk import Desk
from pipeline.loop.review.guard import Guard
from steps.common.images.decode import BadImage

HOST = "127.0.0.1"
_PAGE = Path(__file__).parent / "page"
_FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
_KEPT = {"Cache-Control": "private, max-age=3600"}  # what belongs to a digest or a version does not change
_LONGEST = 1 << 16  # bytes of an order


def application(desk: Desk) -> Guard:
    """The page as an ASGI application.

    Args:
        desk: What it works on.

    Returns:
        The application, which knows the address that opens it.
    """

    def state(_: Request) -> Response:
        return JSONResponse(desk.state())

    def following(request: Request) -> Response:
        return JSONResponse(desk.next(request.path_params["queue"]))

    def grid(request: Request) -> Response:
        return JSONResponse(desk.grid(request.query_params.get("answer", "")))

    def about(request: Request) -> Response:
        return JSONResponse(desk.about(request.path_params["digest"]))

    def picture(request: Request) -> Response:
        what = request.path_params["what"]
        is_small, is_suspect = "small" in request.query_params, what == "suspect"
        found = desk.picture(request.path_params["digest"], is_small=is_small, is_suspect=is_suspect)
        return Response(found, media_type="image/png", headers=_KEPT)

    def sheet(_: Request) -> Response:
        found = desk.sheet()
        return Response(found, media_type="image/webp", headers=_KEPT) if found else Response(status_code=404)

    async def decide(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(desk.decide, await _order(request)))

    async def undo(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(desk.undo, (await _order(request)).get("ids")))

    routes = [Route(path, _file(name)) for path, name in _FILES.items()]
    routes += [
        Route("/state", state),
        Route("/next/{queue}", following),
        Route("/grid", grid),
        Route("/about/{digest}", about),
        Route("/picture/{what}/{digest}", picture),
        Route("/sheet/{version}", sheet),
        Route("/decide", decide, methods=["POST"]),
        Route("/undo", undo, methods=["POST"]),
    ]
    handlers: dict[Any, Callable[..., Response]] = {ProjectError: _refused, BadImage: _not_shown}
    return Guard(Starlette(routes=routes, exception_handlers=handlers))


def serve(guard: Guard, port: int, say: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        guard: The page.
        port: Of loopback; 0 is any free one.
        say: Is told the address.

    Raises:
        InputError: The port is taken.
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen()  # before the address is told: whoever comes at once waits for the server
        except OSError as error:
            raise InputError(f"port {port} cannot be used ({error.strerror}): choose another with PORT=") from error
        settings = uvicorn.Config(
            guard,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            proxy_headers=False,
        )
        say(f"http://{HOST}:{listening.getsockname()[1]}{guard.target}")
        with suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listening])


def _file(name: str) -> Callable[[Request], Response]:
    def answer(_: Request) -> Response:
        return FileResponse(_PAGE / name, headers={"Cache-Control": "no-store"})

    return answer


async def _order(request: Request) -> dict[str, Any]:
    """The JSON object of a request; LabelError if it is none."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST:
            raise LabelError(f"an order has {_LONGEST} bytes at most")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise LabelError("an order is a JSON object")
    return found


def _refused(_: Request, error: Exception) -> Response:
    status = 409 if isinstance(error, LabelError) else 500
    return JSONResponse({"error": str(error)}, status)


def _not_shown(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 415)
