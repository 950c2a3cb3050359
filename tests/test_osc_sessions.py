"""Who hears what over real sockets: clients, subscribers, throw-away ports, tokens, the beginning and the end."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from osc_peers import (
    SmallCore,
    TcpClient,
    UdpClient,
    serving,
    wait_for,
)

from impact_plugin.daemon.osc import sessions
from impact_plugin.daemon.osc.peers import Peer, peer_of
from impact_plugin.daemon.osc.ports import open_sockets
from impact_plugin.daemon.osc.server import OscServer
from impact_plugin.daemon.osc.services import Services
from impact_plugin.daemon.osc.sessions import Sessions
from impact_plugin.errors import ImpactError

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


# Who hears what


def test_two_clients_at_once_hear_their_own(core: SmallCore, server: OscServer, client: UdpClient) -> None:
    with UdpClient(server.port) as other:
        for each in (client, other):
            each.send("/impact/generate", "same", "door")
            assert each.receive()[0] == "/impact/queued"
        core.run(client.name, "same", "/one")
        core.run(other.name, "same", "/two")
        for each, folder in ((client, "/one"), (other, "/two")):
            got = each.until("/impact/end")
            assert len(got) == 5
            assert got[3][1][2] == f"{folder}/0.wav"
            assert each.silent()


def test_a_subscriber_hears_everybody_and_is_told_that_it_is_ready(
    core: SmallCore, server: OscServer, client: UdpClient
) -> None:
    with UdpClient(server.port) as watcher, TcpClient(server.port) as stream:
        for each in (watcher, stream):
            each.send("/impact/notify", 1)
            assert each.receive() == ("/impact/done", ["/impact/notify", 1])
            assert each.receive() == READY
        client.send("/impact/generate", "a", "door")
        client.send("/impact/generate", "b")
        client.until("/impact/fail")
        core.run(client.name, "a")
        for each in (watcher, stream):
            assert each.receive() == ("/impact/queued", ["a", 0])
            assert each.receive()[1][:2] == ["b", "bad_argument"]
            assert each.until("/impact/end")[-1] == ("/impact/end", ["a", "ok"])
        client.send("/not/ours")
        client.send_packet(b"nonsense")
        for _ in range(2):
            client.until("/impact/fail")
        watcher.send("/impact/notify", 0)
        assert watcher.receive() == ("/impact/done", ["/impact/notify", 0])
        client.send("/impact/generate", "c", "rain")
        assert stream.receive() == ("/impact/queued", ["c", 0])
        assert watcher.silent()


def test_a_subscriber_gets_each_message_of_its_own_job_once(core: SmallCore, client: UdpClient) -> None:
    client.send("/impact/notify", 1)
    client.receive(), client.receive()
    client.send("/impact/generate", "a", "door")
    wait_for(lambda: len(core.queue()) == 1)
    core.run(client.name, "a")
    assert [reply[0] for reply in client.until("/impact/end")].count("/impact/queued") == 1
    assert client.silent()


def test_a_named_port_gets_what_its_client_would_get(core: SmallCore, server: OscServer, client: UdpClient) -> None:
    with UdpClient(server.port) as ear:
        client.send("/impact/notify", 1, ear.port)
        assert client.receive() == ("/impact/done", ["/impact/notify", 1])
        assert ear.receive() == ("/impact/done", ["/impact/notify", 1])
        assert ear.receive() == READY
        client.send("/impact/version")
        assert ear.receive()[0] == "/impact/version.reply"
        assert ear.receive()[0] == "/impact/done"
        client.send("/impact/generate", "a", "door")
        assert ear.receive() == ("/impact/queued", ["a", 0])
        core.run(client.name, "a")
        ear.until("/impact/end")
        client.send("/impact/notify", 0)
        assert ear.receive() == ("/impact/done", ["/impact/notify", 0])
        client.send("/impact/version")
        assert client.receive()[0] == "/impact/version.reply"


def test_a_program_with_a_new_port_for_each_message_is_heard_and_answered(core: SmallCore, server: OscServer) -> None:
    def send_and_close(*values: Any) -> str:
        with UdpClient(server.port) as passing:
            passing.send(*values)
            return passing.name

    with UdpClient(server.port) as ear:
        send_and_close("/impact/notify", 1, ear.port)
        assert [ear.receive()[0], ear.receive()[0]] == ["/impact/done", "/impact/ready"]
        sender = send_and_close("/impact/generate", "a", "door")
        assert ear.receive() == ("/impact/queued", ["a", 0])
        send_and_close("/impact/queue")
        assert ear.receive()[0] == "/impact/queue.reply"
        assert ear.receive()[0] == "/impact/done"
        core.run(sender, "a")
        ear.until("/impact/end")
        send_and_close("/impact/notify", 0, ear.port)
        assert ear.receive() == ("/impact/done", ["/impact/notify", 0])
        send_and_close("/impact/generate", "b", "door")
        wait_for(lambda: len(core.queue()) == 1)
        assert ear.silent()


def test_the_server_cannot_be_made_to_talk_to_itself(server: OscServer, client: UdpClient) -> None:
    client.send("/impact/notify", 1, server.port)
    assert client.receive()[1][:2] == ["/impact/notify", "bad_argument"]
    for address, values in [("/impact/fail", ["a", "internal", "x"]), ("/impact/status.reply", ["state", "ready"])]:
        client.send(address, *values)
    assert client.silent()
    assert server.counters.echoed == 2


def test_a_subscriber_whose_port_refuses_is_dropped(core: SmallCore, server: OscServer, client: UdpClient) -> None:
    if not server._udp._errors:
        pytest.skip("this system does not tell which port refused")
    with UdpClient(server.port) as leaver:
        leaver.send("/impact/notify", 1)
        leaver.receive(), leaver.receive()
    assert server._sessions.subscribers() == [Peer("udp", "127.0.0.1", leaver.port)]
    client.send("/impact/generate", "a", "door")
    assert client.receive() == ("/impact/queued", ["a", 0])
    core.run(client.name, "a")
    assert client.until("/impact/end")[-1][1] == ["a", "ok"]
    wait_for(lambda: server._sessions.subscribers() == [])
    assert server._sessions.lapsed == 1
    assert client.silent()


def test_a_job_goes_on_when_its_client_is_gone(core: SmallCore, server: OscServer, client: UdpClient) -> None:
    with UdpClient(server.port) as leaver:
        leaver.send("/impact/generate", "a", "door")
        leaver.receive()
    core.run(leaver.name, "a")
    assert core.job(leaver.name, "a")["state"] == "ok"
    assert client.silent()


def test_events_reach_the_client_of_a_job_that_outlived_a_crash(core: SmallCore) -> None:
    """The journal knows a client by its name only; the name holds the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as before:
        before.bind(("127.0.0.1", 0))
        name = f"osc:127.0.0.1:{before.getsockname()[1]}"
        with serving(core):
            core.tell("end", "old", "failed", client=name)
            before.settimeout(20)
            assert b"/impact/end" in before.recv(2000)


# Sessions without sockets: what takes an hour


def test_subscriptions_lapse_after_an_hour_without_a_word() -> None:
    alone, heard, named = Peer("udp", "127.0.0.1", 1), Peer("udp", "127.0.0.1", 2), Peer("udp", "10.0.0.1", 3)
    book = Sessions()
    book.subscribe(alone, None, 0.0)
    book.subscribe(heard, None, 0.0)
    book.subscribe(named, 9001, 0.0)
    book.heard(heard, 1800.0)
    book.heard(Peer("udp", "10.0.0.1", 999), 1800.0)  # a named port is kept by its machine
    book.sweep(sessions.LAPSE + 1)
    assert set(book.subscribers()) == {heard, Peer("udp", "10.0.0.1", 9001)}
    book.sweep(2 * sessions.LAPSE)
    assert book.subscribers() == []
    assert book.lapsed == 3


def test_memory_of_clients_is_bounded() -> None:
    book = Sessions()
    for port in range(1, 10_000):
        book.heard(Peer("udp", "127.0.0.1", port), float(port))
        book.lost(Peer("udp", "127.0.0.2", port))
    assert book.counts()[0] == sessions.MAX_CLIENTS
    for port in range(1, sessions.MAX_SUBSCRIBERS + 1):
        book.subscribe(Peer("udp", "127.0.0.1", 7), port, 0.0)
    with pytest.raises(ImpactError, match="subscribers already"):
        book.subscribe(Peer("udp", "127.0.0.1", 999), None, 0.0)


@pytest.mark.parametrize(
    "peer", [Peer("udp", "127.0.0.1", 1), Peer("tcp", "::1", 65535), Peer("udp", "fe80::1%eth0", 9)]
)
def test_a_client_name_leads_back_to_its_peer(peer: Peer) -> None:
    assert peer_of(peer.client) == peer


@pytest.mark.parametrize("name", ["", "http", "ws:7", "osc:", "osc:127.0.0.1:0", "osc:127.0.0.1:99999", "osc:a b:1"])
def test_other_names_lead_to_no_peer(name: str) -> None:
    assert peer_of(name) is None


# Tokens, ports, the end


def test_quit_needs_the_token() -> None:
    quits: list[int] = []
    with serving(services=Services(quit=lambda: quits.append(1)), token="0x1f") as server:
        with UdpClient(server.port) as client:
            assert client.ask("/impact/quit", "wrong")[0][1][:2] == ["/impact/quit", "bad_argument"]
            assert client.ask("/impact/quit")[0][1][:2] == ["/impact/quit", "bad_argument"]
            assert client.ask("/impact/quit", "\N{DOG FACE}")[0][1][:2] == ["/impact/quit", "bad_argument"]
            assert quits == []
            assert client.ask("/impact/quit", "0x1f") == []
        wait_for(lambda: quits == [1])


def test_a_port_open_to_others_asks_for_the_token_first(caplog: pytest.LogCaptureFixture) -> None:
    with serving(host="0.0.0.0", token="open sesame") as server:
        assert "other machines can reach" in caplog.text
        with UdpClient(server.port) as client, TcpClient(server.port) as stream:
            for each in (client, stream):
                for address in ("/impact/ping", "/impact/generate", "/impact/nothing"):
                    each.send(address, "a")
                    got, (subject, code, text) = each.receive()
                    assert (got, subject, code) == ("/impact/fail", address, "bad_argument")
                    assert "token" in text
                assert each.ask("/impact/set", "token", "guess")[0][1][:2] == ["/impact/set", "bad_argument"]
                assert each.ask("/impact/set", "token", "open sesame") == []
                each.send("/impact/generate", "a", "door")
                assert each.receive()[0] == "/impact/queued"
            with TcpClient(server.port) as second:  # each connection shows it anew
                second.send("/impact/ping")
                assert second.receive()[0] == "/impact/fail"


def test_a_port_open_to_others_without_a_token_is_not_opened() -> None:
    server = OscServer(SmallCore(), host="0.0.0.0", port=0)  # type: ignore[arg-type]
    with pytest.raises(ImpactError, match="token"):
        server.start()


def test_guessing_tokens_is_slow() -> None:
    with serving(host="0.0.0.0", token="open sesame") as server, UdpClient(server.port) as client:
        for number in range(300):
            client.send("/impact/set", "token", str(number))
        time.sleep(0.5)
        client.send("/impact/set", "token", "open sesame")
        wait_for(lambda: server.counters.received == 301)
        assert server._limiter.held_back > 100


def test_udp_and_tcp_share_a_number_and_a_second_server_is_told(server: OscServer) -> None:
    with pytest.raises(ImpactError) as refused:
        open_sockets("127.0.0.1", server.port)
    assert refused.value.code == "busy"
    assert str(server.port) in refused.value.text


@pytest.mark.parametrize(("host", "port"), [("300.1.1.1", 0), ("", 99999), ("203.0.113.7", 0), ("\0", 0)])
def test_hosts_and_ports_that_cannot_be_had(host: str, port: int) -> None:
    with pytest.raises(ImpactError) as refused:
        open_sockets(host, port)
    assert refused.value.code == "bad_argument"


def test_stopping_answers_what_was_taken_in(core: SmallCore) -> None:
    with serving(core) as server, UdpClient(server.port) as client, TcpClient(server.port) as stream:
        for each in (client, stream):
            for number in range(50):
                each.send("/impact/sync", number)
        wait_for(lambda: server.counters.messages == 100)
        server.stop()
        for each in (client, stream):
            assert [each.receive()[1] for _ in range(50)] == [[number] for number in range(50)]
        with pytest.raises(EOFError):
            stream.receive()
        assert core._listeners == []
