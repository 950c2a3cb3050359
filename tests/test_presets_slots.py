"""Slots: the same words for the same seed, everywhere and for ever; all words reached; ranges kept."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_plugin.presets.slots import Range, SlotError, Words, draw_words, read_slot, seed_fraction
from impact_plugin.request import SEEDS


def test_the_words_of_a_seed_are_pinned() -> None:
    """These words are a promise: takes made from presets are made again from their seed."""
    slots = {"material": Words(("wood", "metal", "glass", "stone")), "n": Range(1, 100, 1)}
    drawn = [draw_words(slots, seed) for seed in (0, 1, 2, 16777215)]
    assert [tuple(words.values()) for words in drawn] == PINNED


PINNED = [("metal", "11"), ("metal", "2"), ("glass", "41"), ("glass", "50")]


def test_slots_do_not_depend_on_each_other() -> None:
    one = {"a": Words(("x", "y", "z"))}
    more = {"b": Range(0, 1), **one}
    assert all(draw_words(one, seed)["a"] == draw_words(more, seed)["a"] for seed in range(50))
    pairs = {tuple(draw_words({**one, "b": Words(("x", "y", "z"))}, seed).values()) for seed in range(200)}
    assert len(pairs) == 9


def test_words_come_equally_often() -> None:
    words = Words(tuple("abcd"))
    counts = Counter(words.draw(seed_fraction(seed, "what")) for seed in range(4000))
    assert all(900 < count < 1100 for count in counts.values())
    assert set(counts) == set("abcd")


@given(st.integers(0, SEEDS - 1), st.text(max_size=20))
def test_fractions_are_below_one(seed: int, name: str) -> None:
    assert 0.0 <= seed_fraction(seed, name) < 1.0


FINITE = st.floats(-1000, 1000).map(lambda value: round(value, 3))


@given(FINITE, FINITE, st.floats(0, 1, exclude_max=True), st.sampled_from([None, 0.5, 1.0, 3.0]))
def test_numbers_stay_in_their_range(one: float, two: float, fraction: float, step: float | None) -> None:
    low, high = sorted((one, two))
    if step is not None and step > high - low:
        step = None
    drawn = float(Range(low, high, step).draw(fraction))
    assert low - 1e-6 <= drawn <= high + 1e-6


def test_steps() -> None:
    half = read_slot("a", {"min": 0.5, "max": 2.0, "step": 0.5})
    assert {half.draw(number / 100) for number in range(100)} == {"0.5", "1", "1.5", "2"}
    whole = read_slot("a", {"min": 2, "max": 4})
    assert {whole.draw(number / 100) for number in range(100)} == {"2", "3", "4"}
    assert len({read_slot("a", {"min": 0.0, "max": 1.0}).draw(number / 100) for number in range(100)}) == 100
    assert read_slot("a", {"min": 3, "max": 3}).draw(0.9) == "3"
    assert read_slot("a", {"min": 99.95, "max": 99.97}).draw(0.5) == "99.96"


@pytest.mark.parametrize(
    "value",
    [None, "wood", 3, [], [["a"]], [True], [""], ["a\nb"], ["x" * 201], {}, {"min": 1}, {"min": 1, "max": "2"}],
)
def test_no_slots(value: object) -> None:
    with pytest.raises(SlotError):
        read_slot("a", value)


def test_names() -> None:
    for name in ("", "a b", "1a", "ä", "a-b", "x" * 41):
        with pytest.raises(SlotError):
            read_slot(name, ["x"])
