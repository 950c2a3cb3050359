"""The acceptance test: the server does not crash, stall or leak on any kind of OSC message, stream or flood.

Work is counted, not timed: what a packet may cost is in test_osc_wire; here every hostile act is followed by a
`/impact/ping` that must be answered, and the books must balance.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from osc_peers import PACKETS, SmallCore, TcpClient, UdpClient, bundle, message, serving, tag_in, wait_for

from impact_plugin.daemon.osc import intake, limiter, server, tcp
from impact_plugin.daemon.osc.framing import frame
from impact_plugin.daemon.osc.intake import Intake
from impact_plugin.daemon.osc.limiter import Limiter
from impact_plugin.daemon.osc.server import OscServer
from impact_plugin.daemon.osc.services import Services
from impact_plugin.daemon.osc.table import ADDRESSES

CORPUS = sorted(PACKETS.glob("packet_*.bin"))
STREAMS = sorted(PACKETS.glob("stream_*.bin"))
FDS = Path("/proc/self/fd")


@pytest.fixture
def core() -> SmallCore:
    return SmallCore()


@pytest.fixture
def running(core: SmallCore, caplog: pytest.LogCaptureFixture) -> Iterator[OscServer]:
    """A server that has logged no error when the test is over, and whose threads still run."""
    with serving(core) as found:
        yield found
        assert all(thread.is_alive() for thread in found._threads)
        assert found._handlers.failures == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def alive(running: OscServer) -> None:
    """A new client is answered: at once by the socket thread, then by the message thread."""
    with UdpClient(running.port) as client:
        pinged(client)
        client.send("/impact/sync", 2)
        assert client.receive() == ("/impact/synced", [2])


def pinged(client: UdpClient) -> int:
    """Ping until it is answered: in a flood the system itself may drop the question. Gives how often it was sent."""
    for count in range(1, 100):
        client.send("/impact/ping", count)
        try:
            while client.receive(0.5) != ("/impact/done", ["/impact/ping", count]):
                pass
            return count
        except TimeoutError:
            continue
    raise AssertionError("no answer to 100 pings")


# Packets


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_every_bad_packet_that_was_ever_found(running: OscServer, path: Path) -> None:
    packet = path.read_bytes()
    with UdpClient(running.port) as client:
        client.send_packet(packet)
        assert client.receive()[0] == "/impact/fail"
    for framing in ("length", "slip"):
        with TcpClient(running.port, framing) as stream:
            stream.send("/impact/ping")
            assert stream.receive()[0] == "/impact/done"
            stream.send_packet(packet)
            stream.send("/impact/ping")
            stream.until("/impact/done")
    alive(running)


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_every_bad_stream_that_was_ever_found(running: OscServer, path: Path) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as stream:
        stream.sendall(path.read_bytes())
        alive(running)
    wait_for(lambda: not running._connections)


@pytest.fixture(scope="module")
def shared() -> Iterator[OscServer]:
    with serving() as found:
        yield found
        assert found._handlers.failures == 0


TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30)  # what python-osc can build
VALUES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(width=32), TEXT, st.booleans(), st.none())
CALLS = st.builds(
    lambda address, values: message(address, *values),
    st.one_of(st.sampled_from(list(ADDRESSES)), st.text(alphabet="/abimpct*", min_size=1).map(lambda text: f"/{text}")),
    st.lists(VALUES, max_size=8),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(st.binary(max_size=200), CALLS, st.lists(CALLS, max_size=3).map(lambda m: bundle(*m)))))
def test_any_messages_whatever(shared: OscServer, packets: list[bytes]) -> None:
    with UdpClient(shared.port) as client:
        for packet in packets:
            client.send_packet(packet)
    alive(shared)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=100), CALLS.map(lambda packet: frame(packet, "length"))), max_size=8))
def test_any_streams_whatever(shared: OscServer, pieces: list[bytes]) -> None:
    with socket.create_connection(("127.0.0.1", shared.port)) as stream:
        for piece in pieces:
            try:
                stream.sendall(piece)
            except ConnectionError:
                break
    alive(shared)


def mutated(rng: random.Random) -> bytes:
    """A good or bad packet with a few bytes changed."""
    packet = bytearray(rng.choice(GOOD))
    for _ in range(rng.randint(0, 6)):
        place = rng.randrange(len(packet) + 1)
        packet[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
    return bytes(packet)


GOOD = [
    *(path.read_bytes() for path in CORPUS if path.stat().st_size < 2000),
    message("/impact/generate", "id", "glass breaks", "seconds", 2.5, "seed", "7"),
    message("/impact/set", "seconds", 2),
    message("/impact/cancel", "all"),
    message("/impact/notify", 1, 40001),
    bundle(message("/impact/status"), message("/impact/queue"), tag=tag_in(1)),
]


def test_twenty_thousand_mutated_datagrams_leave_nothing_behind(running: OscServer) -> None:
    rng = random.Random(20)
    alive(running)
    open_files = len(list(FDS.iterdir())) if FDS.exists() else 0
    with UdpClient(running.port) as client:
        for number in range(20_000):
            client.send_packet(mutated(rng))
            if number % 50 == 0:  # so that the system need not drop many
                alive(running)
    alive(running)
    assert running.counters.received > 15_000
    assert running.counters.refused > 5_000
    assert running.counters.messages > 1_000
    assert len(running._intake) == 0
    assert running._sessions.counts()[0] <= 2048
    assert running._waiting <= server.WAITING
    assert len(running._limiter._senders) <= limiter.SENDERS
    wait_for(lambda: not open_files or len(list(FDS.iterdir())) == open_files)


# Floods


def test_a_flood_is_answered_by_busy_and_counted_to_the_last_datagram(running: OscServer, core: SmallCore) -> None:
    flood = 10_000
    core.hold.clear()
    with UdpClient(running.port) as flooder, UdpClient(running.port) as other:
        pings = 0
        for number in range(flood):
            flooder.send("/impact/generate", number, "rain")
            if number % 2_000 == 0:
                pings += pinged(other)
        pings += pinged(other)
        other.send("/impact/generate", "mine", "glass breaks")
        pings += pinged(other)
        if running._udp._counts:  # the system tells what it dropped: the books balance
            assert running.counters.received + running._udp.overflow == flood + 1 + pings
        assert running.counters.dropped > 0
        taken = running.counters.messages - running.counters.dropped - pings
        assert taken <= intake.SHARE + 2  # what waits, what is being handled, and the other's
        core.hold.set()
        assert other.receive() == ("/impact/queued", ["mine", core.job(other.name, "mine")["position"]])
        assert core.job(other.name, "mine")["position"] <= 3, "a flooder's share is its own"
        wait_for(lambda: len(running._intake) == 0)
        codes = [got[1][1] for got in everything(flooder) if got[0] == "/impact/fail"]
        assert 1 <= codes.count("busy") <= limiter.BURST + running._limiter.held_back
        assert running._limiter.held_back > 0
    alive(running)
    with UdpClient(running.port) as client:
        rows = {reply[1][0]: reply[1][1] for reply in client.ask("/impact/status")}
        assert rows["osc_dropped"] == running.dropped > 0


def everything(client: UdpClient) -> list[tuple[str, list[object]]]:
    """All that has arrived."""
    got: list[tuple[str, list[object]]] = []
    while True:
        try:
            got.append(client.receive(0.3))
        except TimeoutError:
            return got


def test_nothing_is_lost_of_a_flood_over_tcp(running: OscServer, core: SmallCore) -> None:
    core.hold.clear()
    count = 3_000
    with TcpClient(running.port) as client:
        packets = b"".join(frame(message("/impact/sync", number), "length") for number in range(count))
        client.send("/impact/generate", "a", "door")
        sender = threading.Thread(target=client.socket.sendall, args=(packets,))
        sender.start()
        wait_for(lambda: len(running._intake) == intake.SHARE)
        alive_while_held = UdpClient(running.port)
        with alive_while_held:
            alive_while_held.send("/impact/ping")
            assert alive_while_held.receive()[0] == "/impact/done"
        core.hold.set()
        assert client.receive() == ("/impact/queued", ["a", 0])
        assert [client.receive()[1] for _ in range(count)] == [[number] for number in range(count)]
        sender.join()
    assert running.dropped == 0


def test_time_tags_cannot_pile_up(running: OscServer) -> None:
    with UdpClient(running.port) as client:
        packet = bundle(*[message("/impact/sync", 1)] * 100, tag=tag_in(8))
        for _ in range(30):
            client.send_packet(packet)
        assert client.receive()[1][1] == "busy"
        assert running._waiting == 200
    alive(running)


def test_a_flood_of_refusals_is_answered_sparingly(running: OscServer) -> None:
    with UdpClient(running.port) as client:
        for _ in range(2_000):
            client.send_packet(b"/nonsense\0\0\0")
        alive(running)
        answers = len(everything(client))
    assert 1 <= answers < 500
    assert running._limiter.held_back > 1_000 or running._udp.overflow > 0


def test_two_daemons_do_not_answer_each_other_for_ever(running: OscServer, core: SmallCore) -> None:
    with serving() as second, UdpClient(running.port) as client:
        client.send("/impact/notify", 1, second.port)
        client.receive()
        client.send("/impact/generate", "a", "door")
        wait_for(lambda: second.counters.echoed == 3)  # done, ready, queued
        client.send_packet(b"nonsense")
        wait_for(lambda: second.counters.echoed == 4)
        assert second.counters.refused == 0
        assert running.counters.received == 3


# Clients on TCP that misbehave


def test_a_client_that_does_not_read_is_cut_off_and_harms_nobody(
    core: SmallCore, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"id": f"t{number}", "path": "/" + "p" * 900, "prompt": "door"} for number in range(200)]
    with serving(core, Services(takes=lambda text: rows)) as running:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", running.port))
            deaf.sendall(frame(message("/impact/takes"), "length") * 60)
            wait_for(lambda: running.counters.connections == 1)
            alive(running)
        assert running._connections == {}


def test_an_unfinished_packet_is_not_waited_for_long(core: SmallCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "UNFINISHED", 0.2)
    monkeypatch.setattr(server, "SWEEP", 0.05)
    with serving(core) as running:
        with TcpClient(running.port) as patient, socket.create_connection(("127.0.0.1", running.port)) as slow:
            patient.send("/impact/notify", 1)
            patient.until("/impact/ready")
            slow.settimeout(20)
            slow.sendall(struct.pack(">i", 1000) + b"/impact")
            assert slow.recv(100) == b""
            with socket.create_connection(("127.0.0.1", running.port)) as silent:
                silent.settimeout(20)
                assert silent.recv(100) == b""
            patient.send("/impact/ping")
            assert patient.receive()[0] == "/impact/done"
        alive(running)


def test_connections_are_counted_and_come_back(running: OscServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 8)
    clients = [TcpClient(running.port) for _ in range(8)]
    for client in clients:
        client.send("/impact/ping")
        client.receive()
    with TcpClient(running.port) as surplus, pytest.raises((EOFError, ConnectionError)):
        surplus.receive()
    alive(running)
    for client in clients:
        client.socket.close()
    wait_for(lambda: not running._connections)
    with TcpClient(running.port) as client:
        client.send("/impact/ping")
        assert client.receive()[0] == "/impact/done"


def test_hundreds_of_connections_leave_no_file_open(running: OscServer) -> None:
    alive(running)
    open_files = len(list(FDS.iterdir())) if FDS.exists() else 0
    for number in range(500):
        with socket.create_connection(("127.0.0.1", running.port)) as stream:
            if number % 3:
                stream.sendall(b"\0\0\0\x10/impact/ping\0\0\0\0"[: number % 24])
            if number % 7 == 0:  # leave with a reset
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: not running._connections)
    alive(running)
    wait_for(lambda: not open_files or len(list(FDS.iterdir())) == open_files)
    assert running._sessions.counts()[0] <= 2048


def test_a_message_taken_before_the_client_hung_up_is_handled(running: OscServer, core: SmallCore) -> None:
    """As liblo's oscsend does over TCP."""
    with TcpClient(running.port) as client:
        client.send("/impact/generate", "a", "door")
    wait_for(lambda: len(core.queue()) == 1)


# A fault of ours


def test_a_fault_of_the_core_is_a_fail_internal_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SmallCore):
        def queue(self) -> list[dict[str, object]]:
            raise ZeroDivisionError("by zero")

    with serving(Broken()) as running, UdpClient(running.port) as client:
        client.send("/impact/queue")
        address, (subject, code, text) = client.receive()
        assert (address, subject, code) == ("/impact/fail", "/impact/queue", "internal")
        assert "ZeroDivisionError" in text
        alive(running)
    assert os.linesep not in text


# The parts


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), max_size=60))
def test_the_queue_is_bounded_fair_and_in_order(puts: list[tuple[str, int]]) -> None:
    queue: Intake[tuple[str, int]] = Intake(capacity=20, share=8)
    taken: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for number, (client, count) in enumerate(puts):
        if queue.put(client, [(client, number)] * count):
            taken[client] += [number] * count
        assert len(queue) <= 20
    queue.close()
    assert not queue.put("a", [("a", 0)])
    got: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    while (item := queue.get()) is not None:
        got[item[0]].append(item[1])
        waiting = [name for name in taken if len(got[name]) < len(taken[name])]
        counts = [len(got[name]) for name in waiting]
        assert not counts or max(counts) - min(counts) <= 1, "clients take turns"
    assert got == taken


def test_refusals_come_back_with_time() -> None:
    bucket = Limiter(burst=3, per_second=2)
    assert [bucket.allow("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert bucket.allow("b", 0.0)
    assert [bucket.allow("a", 1.0) for _ in range(3)] == [True, True, False]
    assert bucket.held_back == 3
    assert sum(bucket.allow(str(number), 1.0) for number in range(10_000)) <= 30
    assert len(bucket._senders) <= limiter.SENDERS
