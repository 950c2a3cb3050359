"""HTTP and WebSocket over real sockets: the addresses, the guard, and whatever hostile clients send."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import soundfile
from daemon_kit import ENDLESS, QUICK, Recorder, running_core, wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from impact_plugin.daemon.core import Core
from impact_plugin.daemon.events import EVENTS
from impact_plugin.daemon.web import server as module
from impact_plugin.daemon.web.app import make_app
from impact_plugin.daemon.web.frames import pack_preview, unpack_preview
from impact_plugin.daemon.web.server import HttpServer
from impact_plugin.errors import CODES, ImpactError

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


@pytest.fixture(scope="module")
def web(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    presets = {"knock": {"prompt": "a {what} knock", "slots": {"what": ["dull", "loud"]}, "tags": ["wood"]}}
    folder = tmp_path_factory.mktemp("web")
    with running_core(tiny, folder, presets=presets) as core, serving(core) as found:
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


# Jobs


def test_a_job_from_post_to_its_sound(web: Web) -> None:
    answer = web.post("/api/jobs", id="one", **{**QUICK, "seconds": "0.5", "variants": 2, "seed": 7})
    assert answer.status_code == 201
    assert (answer.json()["id"], answer.json()["client"]) == ("one", "http")
    row = web.ended("one")
    assert (row["state"], row["seed"], row["error"], row["origin"]) == ("ok", 7, None, "http")
    assert [(result["variant"], result["seed"], result["rate"]) for result in row["results"]] == [
        (0, 7, 16000),
        (1, 8, 16000),
    ]
    takes = [take for take in web.http.get("/api/takes", params={"text": "dog"}).json() if take["id"] == "one"]
    assert {take["path"] for take in takes} == {result["path"] for result in row["results"]}
    take = takes[0]
    shown = web.http.get(f"/api/takes/{take['take']}").json()
    assert shown["request"]["prompt"] == QUICK["prompt"]
    assert shown["seed"] == take["seed"]
    sound = web.http.get(f"/api/takes/{take['take']}/audio")
    assert sound.headers["content-type"] == "audio/wav"
    assert sound.content == Path(take["path"]).read_bytes()
    audio, rate = soundfile.read(io.BytesIO(sound.content))
    assert (len(audio), rate) == (8000, 16000)


def test_parts_of_a_sound(web: Web) -> None:
    web.post("/api/jobs", id="part", **QUICK)
    path = Path(web.ended("part")["results"][0]["path"])
    whole = path.read_bytes()
    take = next(row["take"] for row in web.http.get("/api/takes").json() if row["path"] == str(path))
    url = f"/api/takes/{take}/audio"
    assert web.http.get(url).headers["accept-ranges"] == "bytes"
    for wanted, found in (
        ("0-99", whole[:100]),
        ("100-", whole[100:]),
        ("-50", whole[-50:]),
        ("44-99999999", whole[44:]),
    ):
        answer = web.http.get(url, headers={"range": f"bytes={wanted}"})
        assert (answer.status_code, answer.content) == (206, found)
        assert answer.headers["content-range"].endswith(f"/{len(whole)}")
    assert web.http.get(url, headers={"range": f"bytes={len(whole)}-"}).status_code == 416
    assert web.http.head(url).status_code in (200, 405)
    path.unlink()
    assert error_of(web.http.get(url))[:2] in ((400, "bad_file"), (404, "unknown_id"))


def test_words_are_changed_and_jobs_cancelled(web: Web) -> None:
    web.post("/api/jobs", id="long", **ENDLESS)
    assert web.post("/api/jobs/long/prompt", prompt="thunder", weight="0.5").status_code == 200
    for body, field in (({"prompt": ""}, "prompt"), ({}, "prompt"), ({"prompt": "x", "weight": 2}, "weight")):
        assert error_of(web.post("/api/jobs/long/prompt", **body)) == (400, "bad_argument", field)
    assert error_of(web.post("/api/jobs/long/prompt", prompt="x", wight=1)) == (400, "unknown_key", "wight")
    assert error_of(web.post("/api/jobs", id="long", **QUICK)) == (409, "duplicate_id", "id")
    assert [row["id"] for row in web.http.get("/api/queue").json()] == ["long"]
    assert web.http.delete("/api/jobs/long").json() == {"count": 1}
    assert web.ended("long")["state"] == "cancelled"
    assert error_of(web.http.delete("/api/jobs/long")) == (404, "unknown_id", "id")
    assert web.http.delete("/api/jobs/all").json() == {"count": 0}


def test_jobs_belong_to_their_clients(web: Web) -> None:
    web.post("/api/jobs", id="j", client="a", **ENDLESS)
    web.post("/api/jobs", id="j", client="b", **ENDLESS)
    assert error_of(web.http.delete("/api/jobs/j")) == (400, "bad_argument", "client")
    assert web.http.delete("/api/jobs/j", params={"client": "a"}).json() == {"count": 1}
    wait_for(lambda: [row["client"] for row in web.http.get("/api/queue").json()] == ["http:b"])
    assert web.http.delete("/api/jobs/j").json() == {"count": 1}  # there is only one of that name now
    wait_for(lambda: web.http.get("/api/queue").json() == [])
    web.core.submit("osc:127.0.0.1:5", 7, ENDLESS)
    assert web.http.get("/api/jobs/7").json()["client"] == "osc:127.0.0.1:5"
    assert web.http.delete("/api/jobs/all").json() == {"count": 0}
    assert web.http.delete("/api/jobs/all", params={"client": "osc:127.0.0.1:5"}).json() == {"count": 1}
    wait_for(lambda: web.http.get("/api/queue").json() == [])


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"prompt": ""}, (400, "bad_argument", "prompt")),
        ({}, (400, "bad_argument", "prompt")),
        ({"prompt": "x", "secnds": 1}, (400, "unknown_key", "secnds")),
        ({"prompt": "x", "seconds": "long"}, (400, "bad_argument", "seconds")),
        ({"prompt": "x", "variants": [1]}, (400, "bad_argument", "variants")),
        ({"prompt": {"a": 1}}, (400, "bad_argument", "prompt")),
        ({"preset": "knick"}, (404, "unknown_preset", "preset")),
        ({"prompt": "x", "id": "all"}, (400, "bad_argument", "id")),
        ({"prompt": "x", "client": 5}, (400, "bad_argument", "client")),
        ({"verb": "vary", "source": "x"}, (501, "unsupported", "verb")),
    ],
)
def test_what_is_wrong_is_told_as_everywhere(web: Web, body: dict[str, Any], found: tuple[int, str, str]) -> None:
    assert error_of(web.http.post("/api/jobs", json=body)) == found


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b"5", b"\xff\xfe", b"[" * 50_000, b'{"prompt": "\\ud800"}', b'{"prompt": NaN}', b'"x"']
)
def test_bodies_that_are_no_requests(web: Web, body: bytes) -> None:
    status, code, _ = error_of(web.http.post("/api/jobs", content=body))
    assert (status, code) == (400, "bad_argument")


def test_bodies_that_are_too_large_or_too_slow(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from impact_plugin.daemon.web import body as body_module

    assert error_of(web.http.post("/api/jobs", content=b"x" * 70_000))[:2] == (413, "too_large")
    assert error_of(web.http.post("/api/jobs", content=iter([b"x" * 40_000] * 3)))[:2] == (413, "too_large")
    monkeypatch.setattr(body_module, "PATIENCE", 0.3)
    with socket.create_connection(("127.0.0.1", web.server.port), timeout=10) as slow:
        slow.sendall(b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert b"400 Bad Request" in slow.recv(1000)


def test_lists(web: Web) -> None:
    (preset,) = web.http.get("/api/presets", params={"text": "WOOD"}).json()
    assert (preset["name"], preset["prompt"], preset["tags"]) == ("knock", "a {what} knock", ["wood"])
    assert web.http.get("/api/presets", params={"text": "metal"}).json() == []
    assert isinstance(web.http.get("/api/models").json(), list)
    assert web.http.get("/api/takes", params={"text": "no such words"}).json() == []
    assert error_of(web.http.get("/api/takes", params={"limit": "many"})) == (400, "bad_argument", "limit")
    for name in ("0123456789abcdef", "..", "%2e%2e%2fetc%2fpasswd", "x" * 300, "a%00b"):
        assert error_of(web.http.get(f"/api/takes/{name}/audio"))[1] in ("unknown_id", "unknown_address")


def test_defaults(web: Web) -> None:
    params = {"client": "me"}
    changed = web.http.patch("/api/defaults", params=params, json={"variants": 3, "seconds": "0.3"})
    assert changed.json() == {"variants": 3, "seconds": "0.3"} or changed.json() == {"variants": 3, "seconds": 0.3}
    assert web.http.get("/api/defaults", params=params).json()["variants"] == 3
    assert web.http.get("/api/defaults").json()["variants"] == 1
    assert error_of(web.http.patch("/api/defaults", json={"wings": 1})) == (400, "unknown_key", "wings")
    row = web.post("/api/jobs", client="me", **{key: QUICK[key] for key in ("prompt", "iterations")}).json()
    assert (row["variants"], row["seconds"]) == (3, 0.3)


def test_status_and_pages(web: Web) -> None:
    status = web.http.get("/api/status").json()
    assert (status["state"], status["model"], status["device"], status["rate"]) == ("ready", "tiny", "cpu", 16000)
    web.core.submit("x", "<script>alert(1)</script>", {**QUICK, "prompt": "<b>bold</b>"})
    page = web.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<script" not in page.text
    assert "<b>bold" not in page.text
    assert "impact-plugin" in page.text
    assert error_of(web.http.get("/nothing/here")) == (404, "unknown_address", None)
    assert error_of(web.http.put("/api/status")) == (405, "unknown_address", None)


def test_the_docs_page_works_offline(web: Web) -> None:
    page = web.http.get("/docs").text
    assert "https://" not in page
    assert "http://" not in page
    for link in ("/static-offline-docs/swagger-ui.css", "/static-offline-docs/swagger-ui-bundle.js"):
        assert link in page
        assert web.http.get(link).status_code == 200
    schema = web.http.get("/openapi.json").json()
    addresses = {f"{verb} {path}" for path, verbs in schema["paths"].items() for verb in verbs}
    assert {
        "post /api/jobs",
        "get /api/jobs/{id}",
        "delete /api/jobs/{id}",
        "post /api/jobs/{id}/prompt",
        "get /api/queue",
        "get /api/takes",
        "get /api/takes/{id}/audio",
        "get /api/presets",
        "get /api/status",
    } <= addresses
    keys = schema["paths"]["/api/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {"id", "client", "prompt", "seconds", "variants", "seed", "preset"} <= set(keys)


def test_oscquery(web: Web) -> None:
    root = web.http.get("/oscquery").json()
    assert "generate" in root["CONTENTS"]["impact"]["CONTENTS"]
    node = web.http.get("/oscquery/impact/generate").json()
    assert node["FULL_PATH"] == "/impact/generate"
    assert web.http.get("/oscquery?HOST_INFO").json()["OSC_PORT"] == 9800
    assert error_of(web.http.get("/oscquery/nothing"))[:2] == (404, "unknown_address")


def test_quit_needs_the_token(web: Web) -> None:
    assert error_of(web.post("/api/quit", token="guess")) == (400, "bad_argument", "token")
    assert error_of(web.http.post("/api/quit")) == (400, "bad_argument", "token")
    assert web.stops == []
    assert web.post("/api/quit", token=TOKEN).status_code == 200
    assert web.stops == [True]


# WebSocket


def test_events_and_previews_over_a_socket(web: Web) -> None:
    with web.socket("?client=me") as me:
        assert json.loads(me.recv(timeout=10))["event"] == "ready"
        web.post("/api/jobs", client="other", **QUICK)
        web.post("/api/jobs", client="me", id="j", **{**QUICK, "iterations": 6, "variants": 2, "previews_every": 2})
        said, frames = messages(me)
    assert {row["client"] for row in said} == {"http:me"}
    assert {row["id"] for row in said} == {"j"}
    for row in said:
        kind = EVENTS[row["event"]]
        assert list(row) == ["event", "id", *(field.name for field in kind.fields), "client"]
    previews = [row for row in said if row["event"] == "preview"]
    assert len(previews) == len(frames) >= 2
    for row, frame in zip(previews, frames, strict=True):
        header, wav = unpack_preview(frame)
        assert header == row
        with soundfile.SoundFile(io.BytesIO(wav)) as sound:
            assert (sound.frames, sound.samplerate, sound.subtype) == (8000, 16000, "PCM_16")


def test_commands_over_a_socket(web: Web) -> None:
    def ask(**command: Any) -> dict[str, Any]:
        me.send(json.dumps(command))
        while True:
            answer = json.loads(me.recv(timeout=60))
            if answer["event"] == "done" or (answer["event"] == "fail" and "field" in answer):
                return answer

    with web.socket("?client=cmd&previews=0") as me:
        assert ask(do="ping") == {"event": "done", "command": "ping"}
        assert ask(do="generate", id=3, **ENDLESS) == {"event": "done", "command": "generate", "id": 3}
        assert ask(do="prompt", id=3, prompt="thunder", weight=0.5)["id"] == 3
        assert [row["id"] for row in ask(do="queue")["jobs"] if row["client"] == "http:cmd"] == [3]
        assert ask(do="cancel", id=3)["count"] == 1
        assert ask(do="preset", name="knock", id="p", iterations=1)["id"] == "p"
        assert ask(do="status")["state"] == "ready"
        assert ask(do="resume")["count"] == 0
        for command, code, field in (
            ({"do": "dance"}, "unknown_address", "do"),
            ({}, "unknown_address", "do"),
            ({"do": "generate"}, "bad_argument", "prompt"),
            ({"do": "cancel", "id": 99}, "unknown_id", "id"),
            ({"do": "cancel", "di": 99}, "unknown_key", "di"),
            ({"do": "prompt", "id": "gone", "prompt": "x"}, "unknown_id", "id"),
        ):
            answer = ask(**command)
            assert (answer["event"], answer["code"], answer["field"]) == ("fail", code, field)


def test_a_socket_that_does_not_listen_holds_up_nobody(web: Web) -> None:
    deaf = socket.create_connection(("127.0.0.1", web.server.port))
    deaf.sendall(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with web.socket("?client=hears") as hears:
        for number in range(20):
            web.post("/api/jobs", client="hears", id=number, **{**QUICK, "iterations": 8, "previews_every": 1})
        ends = 0
        while ends < 20:
            message = hears.recv(timeout=60)
            ends += isinstance(message, str) and json.loads(message)["event"] == "end"
    deaf.close()


def test_a_client_that_goes_away_leaves_its_job_running(web: Web) -> None:
    with web.socket("?client=gone") as gone:
        gone.send(json.dumps({"do": "generate", "id": "left", **QUICK, "seconds": 2, "iterations": 20}))
        messages(gone, "start")
    assert web.ended("left")["state"] == "ok"


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
