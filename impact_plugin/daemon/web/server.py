"""The HTTP server in a thread of its own: uvicorn, with a socket that was bound before and patience that ends.

Knows sockets, uvicorn and threads. What is served is `app`'s business.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
import sys
import threading
import time
import urllib.request
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from impact_plugin.errors import ImpactError

logger = logging.getLogger(__name__)

DEFAULT_PORT: Final = 9880
MAX_CONNECTIONS: Final = 256
#: Seconds in which a connection must have sent a whole request head; and for answers under way when the daemon stops.
PATIENCE: Final = 15.0
GRACE: Final = 3
_MAX_HEAD: Final = 65_536


class _Server(uvicorn.Server):
    """uvicorn, which by itself would wait for ever for the end of a request's head."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._idle: dict[Any, float] = {}

    async def on_tick(self, counter: int) -> bool:
        if counter % 20 == 0:
            self._sweep(time.monotonic())
        return await super().on_tick(counter)

    def _sweep(self, now: float) -> None:
        """Cut connections on which no request has been under way for long."""
        idle: dict[Any, float] = {}
        for connection in self.server_state.connections:
            cycle = getattr(connection, "cycle", connection)  # a WebSocket has none, and pings of its own
            if cycle is None or getattr(cycle, "response_complete", False):
                idle[connection] = self._idle.get(connection, now)
                if now - idle[connection] > PATIENCE:
                    connection.transport.abort()
        self._idle = idle


class HttpServer:
    """One server. `bind`, `start`, `stop`, from any thread but its own.

    Attributes:
        port: the real one, once bound.
    """

    def __init__(self, host: str, port: int = DEFAULT_PORT) -> None:
        self.host = host
        self.port = port
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def bind(self) -> None:
        """Take the port, before anything heavy is done.

        Raises:
            ImpactError: `busy`, naming who has it if that can be told; `bad_argument`.
        """
        try:
            family, *_, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except (OSError, OverflowError, UnicodeError) as error:
            text = f"cannot listen on {self.host!r} port {self.port}: {error}"
            raise ImpactError("bad_argument", text, "host") from error
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            option = socket.SO_REUSEADDR
            if sys.platform == "win32":
                option = socket.SO_EXCLUSIVEADDRUSE
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
            bound.bind(address)
            bound.listen(MAX_CONNECTIONS)
        except (OSError, OverflowError) as error:
            bound.close()
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                who = _holder(self.host, self.port)
                text = f"port {self.port} of {self.host} is taken by {who}; --http-port 0 takes a free one"
                raise ImpactError("busy", text, "http_port") from error
            text = f"cannot listen on {self.host} port {self.port}: {error}"
            raise ImpactError("bad_argument", text, "http_port") from error
        self._socket = bound
        self.port = int(bound.getsockname()[1])

    def start(self, app: ASGIApp) -> None:
        """Serve from now on."""
        if self._socket is None:
            raise RuntimeError("bind first")
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="websockets-sansio",
            ws_max_size=_MAX_HEAD,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=GRACE,
            h11_max_incomplete_event_size=_MAX_HEAD,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._run, args=(self._server, self._socket), name="http", daemon=True)
        self._thread.start()

    @staticmethod
    def _run(server: _Server, bound: socket.socket) -> None:
        with asyncio.Runner() as runner:
            runner.run(server.serve([bound]))

    def stop(self) -> None:
        """Answer what is under way within a short time, close."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(GRACE + 3.0)
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _holder(host: str, port: int) -> str:
    """Who has a port: one of us says so."""
    where = f"[{host}]" if ":" in host else host
    try:
        with urllib.request.urlopen(f"http://{where}:{port}/api/status", timeout=1.0) as answer:
            status = json.load(answer)
        return f"impact-plugin {status['version']} (process {status['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another program"
