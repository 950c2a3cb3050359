"""The server over real sockets: every address, what it answers, in which order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from osc_peers import (
    SmallCore,
    TcpClient,
    UdpClient,
    bundle,
    message,
    serving,
    tag_in,
    wait_for,
)

from impact_plugin.daemon.osc.server import OscServer
from impact_plugin.daemon.osc.services import Row, Services
from impact_plugin.daemon.osc.table import ADDRESSES, MAX_ROWS, PROTOCOL
from impact_plugin.version import VERSION

READY = ("/impact/ready", ["0.1.0", "starter", "cpu", 44100])


@pytest.fixture
def core() -> SmallCore:
    return SmallCore()


@pytest.fixture
def server(core: SmallCore) -> Iterator[OscServer]:
    with serving(core) as running:
        yield running


@pytest.fixture
def client(server: OscServer) -> Iterator[UdpClient]:
    with UdpClient(server.port) as udp:
        yield udp


# A job


def test_a_job_from_queued_to_end(core: SmallCore, client: UdpClient) -> None:
    client.send("/impact/generate", "door", "heavy door slams", "variants", 2, "seconds", "2.5", "preview", 1)
    assert client.receive() == ("/impact/queued", ["door", 0])
    job = core.job(client.name, "door")
    assert (job["prompt"], job["variants"], job["seconds"], job["preview"]) == ("heavy door slams", 2, 2.5, True)
    core.run(client.name, "door")
    assert client.until("/impact/end") == [
        ("/impact/start", ["door", 7, 2, 2.0]),
        ("/impact/progress", ["door", 1, 2, 0.5, 0.25]),
        ("/impact/preview", ["door", 0, 1, "/takes/preview.wav", 2.0]),
        ("/impact/result", ["door", 0, "/takes/0.wav", 2.0, 44100, 7]),
        ("/impact/result", ["door", 1, "/takes/1.wav", 2.0, 44100, 8]),
        ("/impact/end", ["door", "ok"]),
    ]


@pytest.mark.parametrize("framing", ["length", "slip"])
def test_the_same_over_tcp(core: SmallCore, server: OscServer, framing: str) -> None:
    with TcpClient(server.port, framing) as client:
        client.send("/impact/generate", 7.0, "dog \xc0 barks \N{DOG FACE}")
        assert client.receive() == ("/impact/queued", [7, 0])
        core.run(client.name, 7)
        assert client.until("/impact/end")[-1] == ("/impact/end", [7, "ok"])
    wait_for(lambda: not server._connections)


def test_a_preset_with_keys_over_it(core: SmallCore, client: UdpClient) -> None:
    client.send("/impact/preset", 3, "glass_break", "seed", "99")
    assert client.receive() == ("/impact/queued", [3, 0])
    assert (core.job(client.name, 3)["preset"], core.job(client.name, 3)["seed"]) == ("glass_break", 99)


def test_the_daemon_chooses_an_id(client: UdpClient) -> None:
    client.send("/impact/generate", "", "rain")
    address, (name, place) = client.receive()
    assert (address, place) == ("/impact/queued", 0)
    assert isinstance(name, str)
    assert name


@pytest.mark.parametrize(
    ("values", "subject", "code", "words"),
    [
        (["a", "door", "secnds", 2], "a", "unknown_key", "did you mean seconds"),
        (["a", "door", "seconds", "long"], "a", "bad_argument", "seconds must be a number from 0.05"),
        (["a", "door", "seconds"], "a", "bad_argument", "no value"),
        (["a", "door", "prompt", "x"], "a", "bad_argument", "twice"),
        (["a", ""], "a", "bad_argument", "empty"),
        (["a"], "a", "bad_argument", "prompt is missing"),
        ([], "/impact/generate", "bad_argument", "id is missing"),
        (["all", "door"], "all", "bad_argument", "all"),
        (["", "door", "bpm", 1], "/impact/generate", "bad_argument", "bpm"),
        (["x" * 300, "door"], "/impact/generate", "bad_argument", "characters"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    client: UdpClient, values: list[Any], subject: str, code: str, words: str
) -> None:
    client.send("/impact/generate", *values)
    address, (got_subject, got_code, text) = client.receive()
    assert (address, got_subject, got_code) == ("/impact/fail", subject, code)
    assert words in text


def test_a_job_twice(client: UdpClient) -> None:
    client.send("/impact/generate", "a", "door")
    client.send("/impact/generate", "a", "door")
    assert client.until("/impact/fail")[-1][1][:2] == ["a", "duplicate_id"]


def test_edit_verbs_are_not_there_yet(client: UdpClient) -> None:
    for verb in ("vary", "inpaint", "extend", "loop", "morph"):
        client.send(f"/impact/edit/{verb}", "a", "take.wav", "amount", 0.5)
        assert client.receive()[1][:2] == ["a", "unsupported"]


def test_new_words_for_a_job(core: SmallCore, client: UdpClient) -> None:
    client.send("/impact/generate", 1, "door")
    client.receive()
    assert client.ask("/impact/prompt", 1.0, "creaking door", "0.5") == []
    assert client.ask("/impact/prompt", 1, "glass") == []
    assert core.prompts == [(client.name, "1", "creaking door", 0.5), (client.name, "1", "glass", 1.0)]
    assert client.ask("/impact/prompt", 1, "x", 1.5)[0][1][:2] == [1, "bad_argument"]
    assert client.ask("/impact/prompt", 2, "x")[0][1][:2] == [2, "unknown_id"]


def test_cancel_stops_that_job_and_no_other(core: SmallCore, server: OscServer, client: UdpClient) -> None:
    with UdpClient(server.port) as other:
        for each in (client, other):
            each.send("/impact/generate", "a", "door")
            each.send("/impact/generate", "b", "door")
            each.receive(), each.receive()
        client.send("/impact/cancel", "a")
        assert client.until("/impact/done", "/impact/cancel") == [
            ("/impact/end", ["a", "cancelled"]),
            ("/impact/done", ["/impact/cancel", "a", 1]),
        ]
        assert other.silent()
        client.send("/impact/cancel", "a")
        assert client.receive()[1][:2] == ["a", "unknown_id"]
        other.send("/impact/cancel", "all")
        assert [got[1] for got in other.until("/impact/done")] == [
            ["a", "cancelled"],
            ["b", "cancelled"],
            ["/impact/cancel", "all", 2],
        ]
        assert client.silent()
        assert [job["client"] for job in core.queue()] == [client.name]


def test_a_sender_without_jobs_may_cancel_what_only_one_client_has(
    core: SmallCore, server: OscServer, client: UdpClient
) -> None:
    """As a shell script does, whose every message comes from a new port."""
    client.send("/impact/generate", "only", "door")
    client.send("/impact/generate", "twice", "door")
    with UdpClient(server.port) as other, UdpClient(server.port) as script:
        other.send("/impact/generate", "twice", "door")
        other.receive(), client.receive(), client.receive()
        script.send("/impact/cancel", "twice")
        assert script.receive()[1][:2] == ["twice", "unknown_id"]
        other.send("/impact/cancel", "only")  # has a job of its own, so it speaks for itself
        assert other.receive()[1][:2] == ["only", "unknown_id"]
        script.send("/impact/cancel", "only")
        assert script.receive() == ("/impact/done", ["/impact/cancel", "only", 1])
        assert client.receive() == ("/impact/end", ["only", "cancelled"])
        assert len(core.queue()) == 2


def test_cancel_all_takes_the_jobs_of_clients_that_are_gone(
    core: SmallCore, server: OscServer, client: UdpClient
) -> None:
    with TcpClient(server.port) as leaver:
        leaver.send("/impact/generate", "left", "door")
        leaver.receive()
    wait_for(lambda: server._sessions.gone(leaver.name))
    with UdpClient(server.port) as stayer:
        stayer.send("/impact/generate", "mine", "door")
        stayer.receive()
        client.send("/impact/cancel", "all")
        assert client.receive() == ("/impact/done", ["/impact/cancel", "all", 1])
        assert [job["id"] for job in core.queue()] == ["mine"]


# What can be asked


def test_the_queue_is_listed_a_reply_a_job(client: UdpClient) -> None:
    client.send("/impact/generate", "a", "long " * 300, "seconds", 2, "priority", 5)
    client.send("/impact/generate", 2, "rain", "variants", 3)
    client.receive(), client.receive()
    client.send("/impact/queue")
    first, second, done = client.until("/impact/done")
    assert first[0] == second[0] == "/impact/queue.reply"
    assert first[1][:3] == ["a", "waiting", 0]
    assert first[1][3].startswith("long long")
    assert first[1][3].endswith("...")
    assert second[1] == [2, "waiting", 1, "rain", 3, -1.0, 0.0, 0]
    assert done == ("/impact/done", ["/impact/queue", 2, 2])


def test_status_version_and_help(core: SmallCore, client: UdpClient) -> None:
    core.add_status("name", lambda: "x" * 3000)
    rows = {reply[1][0]: reply[1][1] for reply in client.ask("/impact/status")}
    assert (rows["state"], rows["waiting"], rows["osc_port"]) == ("ready", 0, client._server[1])
    assert rows["osc_received"] == 1
    assert rows["name"].endswith("...")
    assert client.ask("/impact/version") == [("/impact/version.reply", [VERSION, PROTOCOL, "impact-plugin"])]
    said = {reply[1][0].split()[0] for reply in client.ask("/impact/help")}
    assert set(ADDRESSES) <= said
    assert [reply[1][0] for reply in client.ask("/impact/help", "canc")] == ["/impact/cancel id"]
    keys = {reply[1][0]: reply[1][1] for reply in client.ask("/impact/help", "keys")}
    assert "a number from 0.05 to 3600" in keys["seconds"]


def test_defaults_belong_to_one_client(core: SmallCore, server: OscServer, client: UdpClient) -> None:
    assert client.ask("/impact/set", "seconds", "1.5") == []
    assert client.ask("/impact/get", "seconds") == [("/impact/get.reply", ["seconds", "1.5"])]
    with UdpClient(server.port) as other:
        assert other.ask("/impact/get", "seconds") == [("/impact/get.reply", ["seconds", "auto"])]
    assert client.ask("/impact/set", "secnds", 1)[0][1][:2] == ["/impact/set", "unknown_key"]
    assert client.ask("/impact/set", "seconds", "long")[0][1][:2] == ["/impact/set", "bad_argument"]
    assert client.ask("/impact/set", "seconds") == []
    assert core.defaults == {(client.name, "seconds"): ""}
    assert len(client.ask("/impact/get")) > 20


def test_a_paused_queue_is_resumed(core: SmallCore, client: UdpClient) -> None:
    core.paused = 1
    client.send("/impact/resume")
    assert client.receive() == ("/impact/done", ["/impact/resume", 3])
    assert core.paused == 0


def test_lists_come_row_by_row_and_say_how_many_there_are() -> None:
    def takes(text: str) -> Iterator[Row]:
        for number in range(300):
            if text in f"take {number}":
                yield {"id": f"t{number}", "path": f"/t/{number}.wav", "prompt": "door", "seed": number, "seconds": 1.5}

    services = Services(takes=takes, presets=lambda text: [{"name": "glass", "prompt": "{what}", "tags": ["a", "b"]}])
    with serving(services=services) as server, UdpClient(server.port) as client:
        assert client.ask("/impact/presets") == [("/impact/presets.reply", ["glass", "{what}", "a, b"])]
        client.send("/impact/takes")
        *rows, done = client.until("/impact/done")
        assert len(rows) == MAX_ROWS
        assert rows[3] == ("/impact/takes.reply", ["t3", "/t/3.wav", "door", 3, 1.5, -1, -1])
        assert done == ("/impact/done", ["/impact/takes", MAX_ROWS, 300])
        assert [row[1][0] for row in client.ask("/impact/takes", "take 29")] == [
            "t29",
            *(f"t{n}" for n in range(290, 300)),
        ]
        assert client.ask("/impact/models")[0][1][:2] == ["/impact/models", "unsupported"]


def test_audition_finds_the_job_and_says_when_there_is_no_device(core: SmallCore) -> None:
    played: list[tuple[str, Any, Any]] = []
    services = Services(
        play=lambda job, variant: played.append(("play", job["id"], variant)),
        stop=lambda job, variant: played.append(("stop", job and job["id"], variant)),
    )
    with serving(core, services) as server, UdpClient(server.port) as client, UdpClient(server.port) as other:
        client.send("/impact/generate", "a", "door")
        client.receive()
        assert client.ask("/impact/play", "a", 1.0) == []
        assert other.ask("/impact/play", "a") == []
        assert other.ask("/impact/stop") == []
        assert client.ask("/impact/stop", "a", 0) == []
        assert client.ask("/impact/play", "b")[0][1][:2] == ["b", "unknown_id"]
    assert played == [("play", "a", 1), ("play", "a", None), ("stop", None, None), ("stop", "a", 0)]
    with serving(core) as server, UdpClient(server.port) as client:
        assert client.ask("/impact/play", "a")[0][1][:2] == ["a", "unsupported"]


def test_unknown_addresses_name_the_nearest(client: UdpClient) -> None:
    client.send("/impact/generat", "a")
    address, (subject, code, text) = client.receive()
    assert (address, subject, code) == ("/impact/fail", "/impact/generat", "unknown_address")
    assert "/impact/generate" in text
    client.send("/impact/GENERATE")
    assert client.receive()[1][1] == "unknown_address"
    client.send("/live/test")
    assert client.receive()[1][:2] == ["/live/test", "unknown_address"]


# Order and time


def test_sync_is_answered_after_all_before_it(core: SmallCore, client: UdpClient) -> None:
    core.hold.clear()
    client.send("/impact/generate", "a", "door")
    client.send("/impact/sync", 5.0)
    client.send("/impact/ping", "still there")
    assert client.receive() == ("/impact/done", ["/impact/ping", "still there"])
    core.hold.set()
    assert client.receive() == ("/impact/queued", ["a", 0])
    assert client.receive() == ("/impact/synced", [5])


def test_a_bundle_is_run_at_once_and_in_order(client: UdpClient) -> None:
    inner = bundle(message("/impact/generate", "b", "rain"), tag=tag_in(-100))
    client.send_packet(bundle(message("/impact/generate", "a", "door"), inner, message("/impact/sync", 1)))
    assert [client.receive()[1][0] for _ in range(3)] == ["a", "b", 1]


def test_a_time_tag_is_waited_for_and_nothing_waits_with_it(client: UdpClient) -> None:
    began = time.monotonic()
    client.send_packet(bundle(message("/impact/sync", 2), tag=tag_in(0.6)))
    client.send("/impact/sync", 1)
    assert client.receive() == ("/impact/synced", [1])
    assert time.monotonic() - began < 0.6
    assert client.receive() == ("/impact/synced", [2])
    assert time.monotonic() - began >= 0.59


def test_a_time_tag_too_far_ahead_is_refused(client: UdpClient) -> None:
    client.send_packet(bundle(message("/impact/sync", 1), tag=tag_in(11)))
    address, (subject, code, text) = client.receive()
    assert (address, subject, code) == ("/impact/fail", "#bundle", "bad_argument")
    assert "ahead" in text
    assert client.silent()
