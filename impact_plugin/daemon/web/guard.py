"""Who may talk to the daemon over HTTP: no page of another origin, no name that somebody else's DNS made up, and only
with the token where other machines can reach the port.

Knows headers. By DNS rebinding a page's own name comes to mean 127.0.0.1, so that the browser takes the daemon for the
page's origin: such a request carries that name in `Host`.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from impact_plugin.daemon.web.answers import error_body
from impact_plugin.errors import ImpactError

#: Pages that a link on another page may lead to.
_PAGES: Final = ("/", "/docs")
_COOKIE: Final = "impact_token"
_POLICY_VIOLATION: Final = 1008


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host that is listened on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets pass what may pass, for HTTP and WebSocket.

    Args:
        host: what is listened on.
        token: asked for unless `host` is loopback: `Authorization: Bearer TOKEN`, or `?token=TOKEN`; a page that was
            opened with the latter leaves a cookie that does as well.
    """

    def __init__(self, app: ASGIApp, *, host: str, token: str) -> None:
        self._app = app
        self._open = not is_loopback(host)
        self._token = token
        self._names = {"localhost", host.lower()}
        if self._open:
            name = socket.gethostname().lower()
            self._names |= {name, f"{name}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            error, status = self._judge(scope)
            if error is not None:
                await _refuse(scope, receive, send, error, status)
                return
            if self._open and scope["path"] in _PAGES and b"token=" in scope.get("query_string", b""):
                send = self._with_cookie(send)
        await self._app(scope, receive, send)

    def _with_cookie(self, send: Send) -> Send:
        cookie = f"{_COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/".encode()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"set-cookie", cookie)]
            await send(message)

        return sending

    def _judge(self, scope: Scope) -> tuple[ImpactError | None, int]:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._known(host):
            return ImpactError("bad_argument", f"the host {host[:80]!r} is not this daemon's name", "host"), 403
        origin = headers.get("origin")
        if origin is not None and not _same(origin, host, scope):
            return ImpactError("bad_argument", "pages of another origin are refused", "origin"), 403
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        followed = headers.get("sec-fetch-mode") == "navigate" and scope["path"] in _PAGES
        if origin is None and foreign and not followed:
            return ImpactError("bad_argument", "pages of another origin are refused", "origin"), 403
        if self._open and not self._shown(headers, scope):
            text = "this daemon wants its token: Authorization: Bearer TOKEN, as the runtime file has it"
            return ImpactError("bad_argument", text, "token"), 401
        return None, 200

    def _known(self, host: str) -> bool:
        name = _hostname(host)
        if name is None:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False  # some other name: it may be anybody's
        return self._open or address.is_loopback

    def _shown(self, headers: Headers, scope: Scope) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        given = given or cookie_parser(headers.get("cookie", "")).get(_COOKIE, "")
        return bool(self._token) and hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


def _hostname(host: str) -> str | None:
    """The name in a `Host` header, without its port; None when it is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or "@" in host or not parts.hostname:
        return None
    return parts.hostname.lower()


def _same(origin: str, host: str, scope: Scope) -> bool:
    """Whether an origin is this very host and port; `null` is not."""
    secure = scope["scheme"] in ("https", "wss")
    try:
        ours, theirs = urlsplit(f"//{host}"), urlsplit(origin)
        default = 443 if secure else 80
        return (
            theirs.scheme == ("https" if secure else "http")
            and theirs.hostname == ours.hostname
            and (theirs.port or default) == (ours.port or default)
        )
    except ValueError:
        return False


async def _refuse(scope: Scope, receive: Receive, send: Send, error: ImpactError, status: int) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": error.text[:120]})
        return
    body = json.dumps(error_body(error)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
