"""An HTTP server on a core with the tiny bundle, and a client of it, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from daemon_kit import running_core, wait_for
from websockets.sync.client import ClientConnection, connect

from impact_plugin.daemon.core import Core
from impact_plugin.daemon.web.app import make_app
from impact_plugin.daemon.web.server import HttpServer
from impact_plugin.errors import CODES

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle

TOKEN = "the-token"
WEBSOCKET_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Web:
    """A core, its HTTP server, and a client of that."""

    def __init__(self, core: Core, server: HttpServer) -> None:
        self.core = core
        self.server = server
        self.stops: list[bool] = []
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60.0)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def ended(self, job: str) -> dict[str, Any]:
        """A job once it is over."""
        return wait_for(
            lambda: (row := self.http.get(f"/api/jobs/{job}").json())["state"] in ("ok", "cancelled", "failed") and row
        )

    def socket(self, query: str = "", **keys: Any) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.server.port}/ws{query}", **keys)


@contextmanager
def serving(core: Core, host: str = "127.0.0.1") -> Iterator[Web]:
    server = HttpServer(host, 0)
    server.bind()
    web = Web(core, server)
    server.start(make_app(core, host=host, token=TOKEN, stop=lambda: web.stops.append(True), osc=lambda: (host, 9800)))
    try:
        yield web
    finally:
        web.http.close()
        server.stop()


@contextmanager
def tiny_web(bundle: Bundle, folder: Path) -> Iterator[Web]:
    """A server whose model is warm and which has one preset."""
    presets = {"knock": {"prompt": "a {what} knock", "slots": {"what": ["dull", "loud"]}, "tags": ["wood"]}}
    with running_core(bundle, folder, presets=presets, share=100.0) as core, serving(core) as found:
        wait_for(lambda: core.status()["state"] == "ready")
        yield found


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    body = response.json()
    assert set(body) == {"code", "text", "field"}, body
    assert body["code"] in CODES
    assert "\n" not in body["text"]
    return response.status_code, body["code"], body["field"]


def messages(socket: ClientConnection, until: str = "end") -> tuple[list[dict[str, Any]], list[bytes]]:
    """What a socket says up to an event of that name: JSON objects and frames."""
    said: list[dict[str, Any]] = []
    frames: list[bytes] = []
    while not said or said[-1]["event"] != until:
        message = socket.recv(timeout=60)
        if isinstance(message, bytes):
            frames.append(message)
        else:
            said.append(json.loads(message))
    return said, frames
