"""OSC around the real core with a tiny bundle: what a host on the other side of the wire gets to see and hear."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import soundfile
from daemon_kit import ENDLESS, running_core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from osc_peers import Reply, TcpClient, UdpClient, message, serving, wait_for

from impact_plugin.daemon.osc.table import ADDRESSES
from impact_plugin.request import Request

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle


def pairs(keys: dict[str, Any]) -> list[Any]:
    return [part for key, value in keys.items() if key != "prompt" for part in (key, value)]


def test_four_variants_with_previews_that_are_complete_when_they_are_announced(tiny: Bundle, tmp_path: Path) -> None:
    with running_core(tiny, tmp_path) as core, serving(core) as server, UdpClient(server.port) as client:
        client.send("/impact/notify", 1)
        client.until("/impact/ready")
        keys = {"seconds": 3.0, "variants": 4.0, "iterations": "16", "previews_every": 4, "seed": "7", "rate": 22050}
        client.send("/impact/generate", 1.0, "wooden door 'slams' \N{DOG FACE}", *pairs(keys))
        got: list[Reply] = []
        while not got or got[-1][0] != "/impact/end":
            got.append(client.receive())
            address, values = got[-1]
            if address in ("/impact/preview", "/impact/result"):
                path = values[3 if address == "/impact/preview" else 2]
                info = soundfile.info(path)
                assert info.duration == pytest.approx(3.0, abs=0.01)
        assert {values[0] for _, values in got} == {1}
        names = [address.removeprefix("/impact/") for address, _ in got]
        assert names[:2] == ["queued", "start"]
        assert got[1][1] == [1, 7, 4, 3.0]
        assert names.count("progress") == 16
        assert names.count("preview") >= 3
        results = [values for address, values in got if address == "/impact/result"]
        assert sorted(values[1] for values in results) == [0, 1, 2, 3]
        assert all(values[3:] == [3.0, 22050, 7 + values[1]] for values in results)
        assert names.count("end") == 1
        assert got[-1][1] == [1, "ok"]
        assert client.silent()


def test_new_words_and_cancel_reach_a_running_job(tiny: Bundle, tmp_path: Path) -> None:
    with (
        running_core(tiny, tmp_path) as core,
        serving(core) as server,
        UdpClient(server.port) as client,
        TcpClient(server.port, "slip") as other,
    ):
        for each in (client, other):
            each.send("/impact/generate", "same", ENDLESS["prompt"], *pairs(ENDLESS))
            each.until("/impact/progress")
        client.send("/impact/prompt", "same", "thunder", 0.5)
        client.until("/impact/done", "/impact/prompt", "same")
        client.send("/impact/queue")
        rows = [values for address, values in client.until("/impact/done") if address == "/impact/queue.reply"]
        assert [row[:2] for row in rows] == [["same", "running"]] * 2
        client.send("/impact/cancel", "same")
        assert client.until("/impact/end")[-1][1] == ["same", "cancelled"]
        other.send("/impact/sync", 1)
        assert "/impact/end" not in [address for address, _ in other.until("/impact/synced")]
        other.send("/impact/cancel", "all")
        assert other.until("/impact/end")[-1][1] == ["same", "cancelled"]


def test_a_restored_queue_is_listed_resumed_and_answered(tiny: Bundle, tmp_path: Path) -> None:
    with UdpClient(0) as client:
        with running_core(tiny, tmp_path, started=False) as core, serving(core) as server:
            client._server = ("127.0.0.1", server.port)
            client.send("/impact/generate", "old", "rain", "seconds", 0.5, "iterations", 2, "head_steps", 2)
            assert client.receive() == ("/impact/queued", ["old", 0])
        with running_core(tiny, tmp_path) as core, serving(core) as server:
            client._server = ("127.0.0.1", server.port)
            wait_for(lambda: core.status()["state"] == "paused")
            client.send("/impact/queue")
            client.until("/impact/queue.reply", "old", "paused")
            client.send("/impact/resume")
            client.until("/impact/done", "/impact/resume", 1)
            assert client.until("/impact/end")[-1][1] == ["old", "ok"]


KEYS = st.sampled_from([*Request.model_fields, "secnds", "token", ""])
WORDS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
VALUES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(width=32), WORDS, st.booleans(), st.none(), KEYS)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(list(ADDRESSES)), st.lists(VALUES, max_size=7)), max_size=10))
def test_no_message_is_an_internal_error(idle: tuple[Any, UdpClient], calls: list[tuple[str, list[Any]]]) -> None:
    """Of 15 codes, `internal` is the one that is our fault."""
    server, client = idle
    for address, values in calls:
        client.send_packet(message(address, *values))
    client.send("/impact/sync", 123456)
    while (reply := client.receive()) != ("/impact/synced", [123456]):
        assert reply[0] != "/impact/fail" or reply[1][1] != "internal", reply
    assert server._handlers.failures == 0


@pytest.fixture(scope="module")
def idle(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server around a core that takes jobs in and never begins them."""
    folder = tmp_path_factory.mktemp("idle")
    with running_core(tiny, folder, started=False) as core, serving(core) as server, UdpClient(server.port) as client:
        yield server, client
