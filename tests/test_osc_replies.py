"""Messages out: small enough, of types that every host knows, paths whole or not at all."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from osc_peers import checked

from impact_plugin.daemon.events import DaemonEvent, EventField
from impact_plugin.daemon.osc.replies import cut, encode, encode_event, encode_fail, encode_row
from impact_plugin.errors import ImpactError

VALUES = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=3000),
    st.text(alphabet=st.characters(), max_size=50),
)


@given(st.lists(VALUES, max_size=260))
def test_any_values_become_a_message_that_every_host_can_read(values: list[Any]) -> None:
    packet, whole = encode("/impact/status.reply", values)
    address, got = checked(packet)
    assert address == "/impact/status.reply"
    assert whole
    assert len(got) <= 199
    assert all(isinstance(value, str) or math.isfinite(value) for value in got)


@given(st.text(max_size=400), st.integers(0, 200))
def test_cut_text_is_a_beginning_in_whole_characters(text: str, size: int) -> None:
    text = text.encode("utf-8", "replace").decode()
    short = cut(text, size)
    if short != text:
        assert text.startswith(short.removesuffix("..."))
        assert len(short.encode()) <= max(size, 3)


def test_numbers_are_what_floats_of_32_bits_can_say() -> None:
    packet, _ = encode("/a", [1e300, -1e300, math.nan, math.inf, 2**31, -(2**31), True, None])
    got = checked(packet)[1]
    assert got[0] == pytest.approx(3.4028e38, rel=1e-4)
    assert got[1] == pytest.approx(-3.4028e38, rel=1e-4)
    assert got[2:] == [-1.0, -1.0, str(2**31), -(2**31), 1, ""]


def test_an_event_is_as_the_contract_has_it() -> None:
    event = DaemonEvent("result", "door", (0, "/takes/a b/tür.wav", 2.5, 48000, 77))
    [packet] = encode_event(event)
    assert checked(packet) == ("/impact/result", ["door", 0, "/takes/a b/tür.wav", 2.5, 48000, 77])
    assert b",sisfii\0" in packet


def test_a_whole_number_stays_one_and_an_id_keeps_its_type() -> None:
    [packet] = encode_event(DaemonEvent("progress", 3, (1.0, 32, 1, 0)))  # type: ignore[arg-type]
    assert b",iiiff\0" in packet


def test_a_path_that_does_not_fit_is_said_and_never_cut() -> None:
    path = "/takes/" + "x" * 1500 + ".wav"
    said, packet = encode_event(DaemonEvent("result", 5, (0, path, 2.5, 48000, 77)))
    address, (subject, code, text) = checked(said)
    assert (address, subject, code) == ("/impact/fail", 5, "too_large")
    assert "path" in text
    assert checked(packet) == ("/impact/result", [5, 0, "", 2.5, 48000, 77])


def test_a_path_that_no_utf8_can_say_is_said() -> None:
    said, packet = encode_event(DaemonEvent("preview", "a", (0, 3, "/takes/\udcff.wav", 2.5)))
    assert checked(said)[1][1] == "too_large"
    assert checked(packet)[1] == ["a", 0, 3, "", 2.5]


def test_the_longest_path_that_fits_is_whole() -> None:
    path = "/" + "p" * 1300
    [packet] = encode_event(DaemonEvent("preview", "a", (0, 3, path, 2.5)))
    assert checked(packet)[1][3] == path


@given(st.text(alphabet="\N{DOG FACE}aä", min_size=200, max_size=200), st.text(max_size=4000))
def test_a_long_id_is_never_cut(job: str, text: str) -> None:
    packet = encode_fail(job, ImpactError("bad_argument", text))
    assert checked(packet)[1][0] == job


def test_a_long_prompt_gives_way_to_a_path() -> None:
    fields = [EventField("path", "s", ""), EventField("prompt", "s", ""), EventField("seed", "i", "")]
    path = "/" + "p" * 1000
    [packet] = encode_row("/impact/takes.reply", fields, [path, "words " * 400, None])
    got = checked(packet)[1]
    assert got[0] == path
    assert got[1].startswith("words words")
    assert got[1].endswith("...")
    assert got[2] == -1
