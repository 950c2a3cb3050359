"""HTTP and WebSocket against those who mean no good: pages of others, strange bytes, clients that never finish."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from daemon_kit import ENDLESS, Recorder, running_core, wait_for
from daemon_web import TOKEN, WEBSOCKET_KEY, Web, error_of, messages, serving, tiny_web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus

from impact_plugin.daemon.web import server as module
from impact_plugin.daemon.web.frames import pack_preview, unpack_preview
from impact_plugin.daemon.web.server import HttpServer
from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle


@pytest.fixture(scope="module")
def web(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with tiny_web(tiny, tmp_path_factory.mktemp("web")) as found:
        yield found


# Guard


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:{port}"}, 200),
        ({"Host": "[::1]:{port}"}, 200),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Host": "localhost", "Origin": "http://localhost"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:{port}", "Origin": "http://evil.example:{port}"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "192.168.0.5"}, 403),
        ({"Host": "localhost@evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
    ],
)
def test_pages_of_others_are_refused(web: Web, headers: dict[str, str], status: int) -> None:
    filled = {name: value.format(port=web.server.port) for name, value in headers.items()}
    answer = web.http.get("/api/status", headers=filled)
    assert answer.status_code == status
    if status == 403:
        assert error_of(answer)[1] == "bad_argument"
    upgrade = {"Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    lines = [f"{name}: {value}" for name, value in {**upgrade, "Sec-WebSocket-Key": WEBSOCKET_KEY, **filled}.items()]
    with socket.create_connection(("127.0.0.1", web.server.port), timeout=20) as client:
        client.sendall("\r\n".join(["GET /ws HTTP/1.1", *lines, "", ""]).encode())
        first = client.recv(12).decode()
    expected = 101 if status == 200 and "127.0.0.1" not in filled.get("Origin", "") else 403
    assert first == f"HTTP/1.1 {expected}"


def test_links_to_the_pages_may_be_followed(web: Web) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert web.http.get("/", headers=followed).status_code == 200
    assert web.http.get("/docs", headers=followed).status_code == 200


def test_where_others_reach_it_the_token_is_wanted(tiny: Bundle, tmp_path: Path) -> None:
    with running_core(tiny, tmp_path, started=False) as core, serving(core, "0.0.0.0") as web:
        for path in ("/", "/docs", "/api/status", "/openapi.json", "/static-offline-docs/swagger-ui.css"):
            assert error_of(web.http.get(path)) == (401, "bad_argument", "token")
        assert web.http.get("/api/status", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert web.http.get("/api/status", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert web.http.get("/api/status", params={"token": TOKEN}).status_code == 200
        with pytest.raises(InvalidStatus):
            web.socket()
        with web.socket(f"?token={TOKEN}"):
            pass
        assert web.http.get("/api/status").status_code == 401
        page = web.http.get("/", params={"token": TOKEN})  # leaves a cookie, so that the page's links work
        assert "httponly" in page.headers["set-cookie"].lower()
        assert "samesite=strict" in page.headers["set-cookie"].lower()
        assert web.http.get("/docs").status_code == 200
        assert web.http.get("/api/status", headers={"Host": "evil.example"}).status_code == 403


# Hostile clients


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["/api/jobs", "/api/jobs/x/prompt", "/api/queue/resume", "/api/quit", "/api/defaults"]),
    st.sampled_from(["POST", "PATCH", "DELETE", "PUT"]),
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.integers(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["id", "prompt", "seconds", "seed", "weight", "client", "preset", "verb", "slot.a", "token"]
                    )
                    | st.text(max_size=8),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=8,
        ).map(lambda tree: json.dumps(tree).encode()),
    ),
)
def test_any_body_gets_an_answer(web: Web, path: str, method: str, body: bytes) -> None:
    answer = web.http.request(method, path, content=body)
    assert answer.status_code != 500, answer.text
    if answer.status_code >= 400:
        error_of(answer)
    web.core.cancel("http", "all")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=40), st.text(max_size=20)
)
def test_any_address_gets_an_answer(web: Web, path: str, text: str) -> None:
    from urllib.parse import quote

    for url in (f"/{quote(path)}", f"/api/jobs/{quote(path, safe='')}", f"/api/takes/{quote(path, safe='')}/audio"):
        answer = web.http.get(url, params={"text": text.encode("utf-8", "ignore").decode()})
        assert answer.status_code in (200, 307, 400, 404, 405), answer.text
    assert web.http.get("/api/takes", params={"text": text.encode("utf-8", "ignore").decode()}).status_code == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=100), st.text(max_size=100), st.just('{"do":"ping"}')), max_size=8))
def test_any_message_over_a_socket_gets_an_answer(web: Web, sent: list[bytes | str]) -> None:
    with web.socket("?client=fuzz&previews=0") as me:
        for message in sent:
            me.send(message.encode("utf-8", "ignore").decode() if isinstance(message, str) else message)
        me.send('{"do": "status"}')
        answers = 0
        while True:
            answer = json.loads(me.recv(timeout=30))
            answers += answer["event"] in ("done", "fail")
            if answer.get("command") == "status":
                break
    assert answers >= len(sent)


def raw(web: Web, data: bytes, *, half_close: bool = True) -> bytes:
    """What raw bytes are answered with."""
    with socket.create_connection(("127.0.0.1", web.server.port), timeout=20) as client:
        try:
            client.sendall(data)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
        except (ConnectionError, OSError):
            return b""
    return answer


_METHODS = [b"GET", b"POST", b"HEAD", b"PRI", b"get", b"\x16\x03\x01"]
_TARGETS = [b"/api/status", b"/ws", b"*", b"http://x/", b"/%ff%fe", b"/" + b"a" * 5000, b"//", b"/\x00"]
_HEADERS = [
    b"Host: localhost",
    b"Host: a\r\nHost: b",
    b"Content-Length: -1",
    b"Content-Length: 99999999999",
    b"Transfer-Encoding: chunked",
    b"Connection: Upgrade\r\nUpgrade: websocket",
    b"X: " + b"y" * 70000,
    b"Range: bytes=9-1",
    b"Cookie: \xff=\xff",
    b": x",
    b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13",
]


@st.composite
def nearly_requests(draw: st.DrawFn) -> bytes:
    """Bytes that begin like a request."""
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"FTP/9"]))
    first = b" ".join([draw(st.sampled_from(_METHODS)), draw(st.sampled_from(_TARGETS)), version])
    return b"\r\n".join(
        [first, *draw(st.lists(st.sampled_from(_HEADERS), max_size=4)), b"", draw(st.binary(max_size=50))]
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | nearly_requests())
def test_any_bytes_leave_the_server_standing(web: Web, data: bytes) -> None:
    raw(web, data)
    began = time.monotonic()
    assert web.http.get("/api/status").status_code == 200
    assert time.monotonic() - began < 5.0


def test_nothing_is_left_over_after_many_clients(web: Web) -> None:
    def handles() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    threads = threading.active_count()
    wait_for(lambda: web.http.get("/api/queue").json() == [])
    before = handles()
    for number in range(100):
        raw(web, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[: number % 40])
        with web.socket() as me:
            me.send("x")
    wait_for(lambda: handles() <= before + 2)
    assert threading.active_count() <= threads + 45  # the pool for blocking calls, which does not grow further


def test_connections_that_send_nothing_are_cut(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    idle = [socket.create_connection(("127.0.0.1", web.server.port), timeout=15) for _ in range(5)]
    idle[0].sendall(b"GET / HTTP/1.1\r\nHost: loc")
    with web.socket() as me:
        for client in idle:
            with suppress(ConnectionResetError):
                assert client.recv(1000) == b""
            client.close()
        me.send('{"do": "ping"}')  # a socket that listens is not idle
        messages(me, "done")


def test_too_large_messages_end_the_socket(web: Web) -> None:
    with web.socket() as me:
        me.send("x" * 100_000)
        with pytest.raises(ConnectionClosed):
            messages(me)


def test_answers_come_at_once_while_work_is_done(web: Web) -> None:
    told = Recorder(web.core)
    web.core.submit("busy", "work", ENDLESS)
    told.until("progress", "work")
    times = []
    for _ in range(30):
        began = time.monotonic()
        assert web.http.get("/api/status").status_code == 200
        times.append(time.monotonic() - began)
    web.core.cancel("busy", "work")
    told.until("end", "work")
    told.close()
    assert sorted(times)[15] < 0.1


# Frames and ports


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.binary())
def test_frames_read_back(header: dict[str, Any], wav: bytes) -> None:
    assert unpack_preview(pack_preview(header, wav)) == (header, wav)


@given(st.binary(max_size=60))
def test_other_bytes_are_no_frame(data: bytes) -> None:
    for frame in (data, b"IMP1" + data):
        try:
            header, _ = unpack_preview(frame)
        except ValueError:
            continue
        assert isinstance(header, dict)


def test_a_taken_port_says_by_whom(web: Web) -> None:
    other = HttpServer("127.0.0.1", web.server.port)
    with pytest.raises(ImpactError) as caught:
        other.bind()
    assert caught.value.code == "busy"
    assert "impact-plugin" in caught.value.text
    assert str(os.getpid()) in caught.value.text
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        with pytest.raises(ImpactError) as caught:
            HttpServer("127.0.0.1", stranger.getsockname()[1]).bind()
    assert "another program" in caught.value.text


def test_hosts_that_are_none(web: Web) -> None:
    with pytest.raises(ImpactError) as caught:
        HttpServer("no.such.host.invalid", 0).bind()
    assert (caught.value.code, caught.value.field) == ("bad_argument", "host")
