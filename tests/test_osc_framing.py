"""Packets in TCP streams: both framings, cut anywhere, and streams that are neither."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from osc_peers import message

from impact_plugin.daemon.osc.framing import Framer, Framing, frame
from impact_plugin.daemon.osc.wire import MAX_PACKET

PACKETS = st.lists(st.binary(min_size=1, max_size=60).map(lambda data: b"/" + data), min_size=1, max_size=6)


@given(PACKETS, st.sampled_from(["length", "slip"]), st.lists(st.integers(1, 40), max_size=60))
def test_packets_come_out_as_they_went_in_however_the_stream_is_cut(
    packets: list[bytes], framing: Framing, cuts: list[int]
) -> None:
    stream = b"".join(frame(packet, framing) for packet in packets)
    framer = Framer()
    got: list[bytes] = []
    for cut in cuts:
        piece, stream = stream[:cut], stream[cut:]
        got += framer.feed(piece)
    got += framer.feed(stream)
    assert got == packets
    assert framer.framing == framing
    assert not framer.partial
    assert (framer.too_large, framer.malformed, framer.broken) == (0, 0, "")


def test_slip_as_the_wire_has_it() -> None:
    assert frame(b"/\xc0\xdb", "slip") == b"\xc0/\xdb\xdc\xdb\xdd\xc0"
    assert frame(b"/ab\0", "length") == b"\0\0\0\x04/ab\0"


@pytest.mark.parametrize(
    "stream",
    [
        b"\xc0/a\0\0\xc0/b\0\0\xc0",  # one END between packets
        b"\xc0/a\0\0\xc0\xc0/b\0\0\xc0",  # two
        b"\xc0\xc0\xc0\xc0/a\0\0\xc0\xc0\xc0\xc0\xc0/b\0\0\xc0\xc0",  # many
        b"/a\0\0\xc0/b\0\0\xc0",  # only after a packet, as the first SLIP had it
    ],
)
def test_slip_with_any_number_of_ends(stream: bytes) -> None:
    assert Framer().feed(stream) == [b"/a\0\0", b"/b\0\0"]


def test_a_partial_packet_is_held_back() -> None:
    framer = Framer()
    whole = frame(message("/impact/ping"), "length")
    assert framer.feed(whole[:-1]) == []
    assert framer.partial
    assert framer.feed(whole[-1:] + whole) == [message("/impact/ping")] * 2
    assert not framer.partial


@pytest.mark.parametrize("escape", [b"\xdb", b"\xdbA", b"\xdb\xdb"])
def test_a_broken_escape_costs_its_packet_only(escape: bytes) -> None:
    framer = Framer()
    assert framer.feed(b"\xc0/a" + escape + b"\xc0/b\0\0\xc0") == [b"/b\0\0"]
    assert framer.malformed == 1


def test_a_slip_packet_that_is_too_large_costs_itself_only() -> None:
    framer = Framer()
    got = []
    framer.feed(b"\xc0")
    for _ in range(100):
        got += framer.feed(b"/" * 4096)
        assert framer.held <= 2 * MAX_PACKET
    got += framer.feed(b"\xc0/a\0\0\xc0")
    assert got == [b"/a\0\0"]
    assert framer.too_large == 1


@pytest.mark.parametrize("length", [-1, MAX_PACKET + 1, 2**24 - 1])
def test_a_length_that_cannot_be_ends_the_stream_and_is_never_waited_for(length: int) -> None:
    framer = Framer()
    good = frame(b"/a\0\0", "length")
    assert framer.feed(good + struct.pack(">i", length) + b"\0" * 100) == [b"/a\0\0"]
    assert str(length) in framer.broken
    assert framer.held == 0
    assert framer.feed(good) == []


def test_a_length_of_zero_is_no_packet() -> None:
    assert Framer().feed(b"\0\0\0\0" + frame(b"/a\0\0", "length")) == [b"/a\0\0"]


@pytest.mark.parametrize("stream", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\xff" * 20])
def test_a_stream_of_something_else(stream: bytes) -> None:
    framer = Framer()
    assert framer.feed(stream) == []
    assert framer.broken


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_any_stream_is_taken(pieces: list[bytes]) -> None:
    framer = Framer(limit=64)
    for piece in pieces:
        for packet in framer.feed(piece):
            assert 0 < len(packet) <= 64
        assert framer.held <= 2 * 64 + 50


def test_a_stream_of_single_bytes_costs_no_more_than_its_length() -> None:
    """The work must not grow with what is held back: a slow client could otherwise keep a processor busy."""
    framer = Framer()
    framer.feed(b"\xc0")
    held = []
    for _ in range(2000):
        framer.feed(b"/")
        held.append(framer.held)
    assert held == list(range(1, 2001))
