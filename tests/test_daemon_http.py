"""HTTP and WebSocket over real sockets: jobs, lists, pages, events and commands."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import soundfile
from daemon_kit import ENDLESS, QUICK, wait_for
from daemon_web import TOKEN, Web, error_of, messages, tiny_web

from impact_plugin.daemon.events import EVENTS
from impact_plugin.daemon.web.frames import unpack_preview

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle


@pytest.fixture(scope="module")
def web(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with tiny_web(tiny, tmp_path_factory.mktemp("web")) as found:
        yield found


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
