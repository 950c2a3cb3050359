"""The HTTP application: everything under one roof, behind the guard.

Knows which router goes where. Does not know ports or threads: see `server`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from impact_plugin.daemon.core import Core
from impact_plugin.daemon.listing import take_rows
from impact_plugin.daemon.web import answers
from impact_plugin.daemon.web.guard import Guard
from impact_plugin.daemon.web.hub import Hub
from impact_plugin.daemon.web.jobs import jobs_router, quit_router
from impact_plugin.daemon.web.library import library_router
from impact_plugin.daemon.web.page import status_page
from impact_plugin.daemon.web.sockets import add_socket
from impact_plugin.errors import ImpactError
from impact_plugin.version import VERSION

_ABOUT = """Sound effects from words.

Events of all jobs come over the WebSocket `/ws`: JSON objects with the names and fields of the OSC replies, and after
each `preview` a binary frame: `IMP1`, the length of a header as unsigned 32-bit little-endian number, that header (the
event as JSON), and a 16-bit WAV file."""

#: Takes that the page at `/` shows.
_PAGE_TAKES = 20


def make_app(
    core: Core, *, host: str, token: str, stop: Callable[[], None], osc: Callable[[], tuple[str, int]] | None = None
) -> ASGIApp:
    """The application.

    Args:
        host: what is listened on; token: see `Guard`, and for stopping the daemon.
        stop: begins to stop the daemon. osc: where OSC is listened for, host and port, for `/oscquery`.
    """
    app: FastAPI = FastAPIOffline(
        docs_url="/docs", redoc_url=None, title="impact-plugin", version=VERSION, description=_ABOUT
    )
    answers.install(app)
    app.include_router(jobs_router(core))
    app.include_router(library_router(core))
    app.include_router(quit_router(token, stop))
    add_socket(app, core, Hub(core))

    @app.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        try:
            takes = [row for row, _ in zip(take_rows(core.takes), range(_PAGE_TAKES), strict=False)]
        except ImpactError:
            takes = []  # the index is broken: the rest of the page stands
        return HTMLResponse(status_page(core.status(), core.queue(), takes))

    if osc is not None:
        _add_oscquery(app, osc)
    return Guard(app, host=host, token=token)


def _add_oscquery(app: FastAPI, osc: Callable[[], tuple[str, int]]) -> None:
    """OSCQuery's answers below `/oscquery`."""

    @app.get("/oscquery", summary="The OSC addresses, as OSCQuery describes them", tags=["oscquery"])
    @app.get("/oscquery/{path:path}", include_in_schema=False)
    def oscquery(request: Request, path: str = "") -> Response:
        from impact_plugin.daemon.osc.query import answer

        query = next((name for name in request.query_params if name != "token"), "")
        osc_host, osc_port = osc()
        status, found = answer(f"/{path}".rstrip("/") or "/", query, host=osc_host, port=osc_port)
        if status == 204:
            return Response(status_code=204)
        if found is None:
            code: Any = "unknown_address" if status == 404 else "bad_argument"
            return answers.error_response(ImpactError(code, f"/{path} has no {query or 'node'}"), status)
        return JSONResponse(found)
