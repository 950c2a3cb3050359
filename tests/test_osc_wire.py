"""Packets in: what is read, what is refused, and that no bytes whatever cost more than their length allows."""

from __future__ import annotations

import struct
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from osc_peers import PACKETS, bundle, message, tag_in

from impact_plugin.daemon.osc.wire import MAX_DEPTH, MAX_ELEMENTS, MAX_PACKET, Message, Reading, read_packet

NOW = 1_800_000_000.0
CORPUS = sorted(PACKETS.glob("packet_*.bin"))


def read(packet: bytes) -> Reading:
    return read_packet(packet, NOW)


def refused(packet: bytes) -> tuple[str, str]:
    """Subject and code of the one refusal of a packet of which nothing is taken."""
    reading = read(packet)
    assert reading.messages == []
    [refusal] = reading.refusals
    return refusal.address, refusal.error.code


def lines_run(packet: bytes) -> int:
    """How many lines of Python reading a packet takes: its cost, whatever the machine does meanwhile."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read_packet(packet, NOW)
    finally:
        sys.settrace(before)
    return count


def affordable(packet: bytes) -> int:
    """Lines that a packet may cost: python-osc reads text byte by byte, in two lines each."""
    return 500 + 30 * len(packet)


# What is taken


def test_a_message_with_every_type_that_is_taken() -> None:
    packet = (
        b"/impact/generate\0\0\0\0,ifshdTFN\0\0\0\0\0\0\x07?\x80\0\0door\0\0\0\0\0\0\0\0\0\0\0\x09?\xf8\0\0\0\0\0\0"
    )
    assert read(packet).messages == [Message("/impact/generate", (7, 1.0, "door", 9, 1.5, True, False, None))]


def test_a_message_without_type_tags_has_no_arguments() -> None:
    assert read(b"/impact/ping\0\0\0\0").messages == [Message("/impact/ping", ())]


def test_text_is_utf8() -> None:
    prompt = "glass 'breaks', \"tür\" \N{DOG FACE}"
    assert read(message("/a", prompt)).messages == [Message("/a", (prompt,))]


def test_bundles_are_read_in_order_and_nested_ones_too() -> None:
    packet = bundle(message("/a", 1), bundle(message("/b"), message("/c")), message("/d"))
    assert [found.address for found in read(packet).messages] == ["/a", "/b", "/c", "/d"]


@given(st.floats(-1e6, 10.0))
def test_time_tags_are_waited_for_up_to_ten_seconds(seconds: float) -> None:
    [found] = read(bundle(message("/a"), tag=tag_in(seconds, NOW - 0.001))).messages
    assert found.delay == pytest.approx(max(0.0, seconds - 0.001), abs=1e-3)


def test_the_inner_bundle_waits_at_least_as_long_as_the_outer() -> None:
    sooner, later = (bundle(message("/inner"), tag=tag_in(seconds, NOW)) for seconds in (1.0, 5.0))
    reading = read(bundle(sooner, later, message("/outer"), tag=tag_in(3.0, NOW)))
    assert [found.delay for found in reading.messages] == pytest.approx([3.0, 5.0, 3.0])


# What is refused, hazard by hazard


@pytest.mark.parametrize("address", ["/*/" + "*" * 28, "/impact/gen*", "/impact/?ing", "/impact/[p]ing", "/{a,b}"])
def test_patterns_are_refused_before_anything_else(address: str) -> None:
    packet = message(address, "x")
    assert refused(packet)[1] == "unknown_address"
    assert lines_run(packet) < 120


def test_a_far_time_tag_is_refused_whole() -> None:
    for seconds in (10.5, 3600.0):
        packet = bundle(message("/a"), bundle(message("/b")), tag=tag_in(seconds, NOW))
        assert refused(packet) == ("#bundle", "bad_argument")
    assert refused(bundle(message("/a"), bundle(message("/b"), tag=tag_in(11.0, NOW)))) == ("#bundle", "bad_argument")


@pytest.mark.parametrize("tag", [2**64 - 1, 2**63, 2])
def test_any_time_tag_can_be_read(tag: int) -> None:
    reading = read(bundle(message("/a"), tag=tag))
    assert len(reading.messages) + len(reading.refusals) == 1


def test_text_that_is_not_utf8() -> None:
    assert refused(b"/impact/ping\0\0\0\0,s\0\0\xff\xfe\xfd\0") == ("/impact/ping", "bad_argument")


def test_an_address_that_is_not_ascii() -> None:
    assert refused(b"/imp\xffct\0,\0\0\0") == ("/imp?ct", "bad_argument")


def test_bundles_may_be_nested_eight_deep() -> None:
    packet = message("/a")
    for _ in range(MAX_DEPTH):
        packet = bundle(packet)
    assert read(packet).messages == [Message("/a", ())]
    assert refused(bundle(packet)) == ("#bundle", "too_large")


def test_bundles_nested_400_deep() -> None:
    packet = message("/a")
    for _ in range(400):
        packet = bundle(packet)
    assert refused(packet) == ("#bundle", "too_large")


@pytest.mark.parametrize("tags", [b",Sis", b",ci\0", b",b\0\0", b",[i]", b",m\0\0", b",r\0\0", b",t\0\0", b",\xffi\0"])
def test_type_tags_that_would_be_misread(tags: bytes) -> None:
    packet = b"/impact/ping\0\0\0\0" + tags + (b"\0\0\0\0" if len(tags) == 4 else b"\0") + b"sym\0\0\0\0Atext\0\0\0\0"
    assert refused(packet) == ("/impact/ping", "bad_argument")


@pytest.mark.parametrize("size", [-4, -8, -1, 0, 3, 2**31 - 1, -(2**31), 10_000])
def test_element_sizes_that_cannot_be(size: int) -> None:
    """A negative size sends python-osc's own loop backwards for ever."""
    assert refused(b"#bundle\0" + struct.pack(">Qi", 1, size) + message("/a")) == ("#bundle", "bad_argument")


def test_of_a_broken_bundle_nothing_is_run() -> None:
    packet = bundle(message("/impact/quit", "x"), message("/b"))[:-4]
    assert refused(packet) == ("#bundle", "bad_argument")


def test_of_a_sound_bundle_only_the_bad_message_is_refused() -> None:
    reading = read(bundle(message("/a"), b"/b\0\0,Q\0\0", message("/c")))
    assert [found.address for found in reading.messages] == ["/a", "/c"]
    assert [found.address for found in reading.refusals] == ["/b"]


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0",
        b"garbage",
        b"#bundl",
        b"#bundle\0",
        b"#bundle\0\0\0\0\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"/",
        b"/never/ends",
        b"/a\0\0i\0\0\0",
        b"/a\0\0,i",
        b"/a\0\0,s\0\0text without an end",
        b"/a\0\0,i\0\0",
        b"/a b\0\0\0\0,\0\0\0",
    ],
)
def test_what_is_no_packet(packet: bytes) -> None:
    assert refused(packet)[1] == "bad_argument"


def test_sizes_have_ends() -> None:
    assert refused(b"/" + b"a" * 300 + b"\0" * 3)[1] == "too_large"
    assert refused(message("/a", *[1] * 513))[1] == "too_large"
    assert read(message("/a", *[1] * 512)).refusals == []
    assert refused(bundle(*[message("/a")] * MAX_ELEMENTS)) == ("#bundle", "too_large")
    assert read(bundle(*[message("/a")] * (MAX_ELEMENTS - 1))).refusals == []
    assert refused(b"/" * (MAX_PACKET + 1))[1] == "too_large"


# What anything costs


EXPENSIVE = {
    "text": message("/a", "x" * 65_000),
    "bundle of bundles": bundle(*[bundle()] * 3_000),
    "bundle of messages": bundle(*[message("/a")] * 5_000),
    "many ints": message("/a", *[1] * 10_000),
    "many tags": b"/a\0\0," + b"T" * 65_000 + b"\0" * 3,
    "stars": b"/" + b"*" * 65_000,
    "an address": b"/" + b"a" * 65_000,
    "nothing": b"\0" * 65_000,
}


@pytest.mark.parametrize("what", EXPENSIVE)
def test_the_largest_packets_cost_work_in_proportion_to_their_size(what: str) -> None:
    packet = EXPENSIVE[what]
    assert lines_run(packet) <= affordable(packet)
    assert read(packet).elements <= MAX_ELEMENTS + 1


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_is_read_without_a_word_of_protest(path: Any) -> None:
    packet = path.read_bytes()
    reading = read(packet)
    assert len(reading.messages) + len(reading.refusals) <= MAX_ELEMENTS
    assert reading.refusals, "every packet of the corpus is one that must be refused"
    assert lines_run(packet) <= affordable(packet)


def test_there_is_a_corpus() -> None:
    assert len(CORPUS) >= 20


ANYTHING = st.one_of(
    st.binary(max_size=400),
    st.binary(max_size=200).map(lambda data: b"/impact/generate\0\0\0\0," + data),
    st.binary(max_size=200).map(lambda data: b"#bundle\0\0\0\0\0\0\0\0\x01" + data),
)


@settings(max_examples=400, deadline=None)
@given(ANYTHING)
def test_any_bytes_are_messages_or_refusals(packet: bytes) -> None:
    reading = read(packet)
    assert reading.elements <= MAX_ELEMENTS + 1
    for found in reading.messages:
        assert found.address.startswith("/")
        assert 0.0 <= found.delay <= 10.0
    for refusal in reading.refusals:
        assert refusal.address.isprintable()
        assert refusal.address.isascii()
        assert "\n" not in refusal.error.text


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_packets_are_messages_or_refusals(data: st.DataObject) -> None:
    """A good packet with some bytes changed, cut or put in: what a broken client sends."""
    good = bundle(message("/impact/generate", "id", "glass breaks", "seconds", 2.5), message("/impact/sync", 3))
    packet = bytearray(data.draw(st.sampled_from([good, message("/impact/preset", 1, "door", "seed", "7")])))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(packet)))
        packet[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    reading = read(bytes(packet))
    assert reading.messages or reading.refusals or bytes(packet).startswith(b"#bundle\0")
