"""Slots: the words of a prompt that a seed chooses.

A slot's word depends on the seed and the slot's name alone, so the same seed gives the same words on every machine, and
adding a slot to a preset leaves the words of the others as they were: the first 8 bytes of BLAKE2b over
`"SEED NAME"`, as a fraction of 2^64, point into the list, or into the steps from min to max. Knows nothing of prompts.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from impact_plugin.errors import ImpactError

MAX_SLOTS: Final = 16
MAX_WORDS: Final = 1000
MAX_LETTERS: Final = 200
_RANGE_KEYS: Final = ("min", "max", "step")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


class SlotError(ValueError):
    """A slot that cannot be. path: of the key below the slot, () = the slot itself."""

    def __init__(self, text: str, *path: str | int) -> None:
        super().__init__(text)
        self.path = path


@dataclass(frozen=True)
class Words:
    """A slot that is one of some words."""

    words: tuple[str, ...]

    def draw(self, fraction: float) -> str:
        """fraction: 0 <= fraction < 1."""
        return self.words[int(fraction * len(self.words))]

    def longest(self) -> str:
        return max(self.words, key=len)

    def take(self, name: str, given: object) -> str:
        """Whatever a user puts in: these words are suggestions.

        Raises:
            ImpactError: `bad_argument` when it is no short text.
        """
        text = str(given).strip()
        if not text or len(text) > MAX_LETTERS or not text.isprintable():
            raise ImpactError(
                "bad_argument", f"slot.{name} must be a text of 1 to {MAX_LETTERS} characters", f"slot.{name}"
            )
        return text

    def to_data(self) -> list[str]:
        return list(self.words)


@dataclass(frozen=True)
class Range:
    """A slot that is a number: `low`, `low + step`, ... up to `high`; any number between them without a step."""

    low: float
    high: float
    step: float | None = None

    def draw(self, fraction: float) -> str:
        """fraction: 0 <= fraction < 1."""
        if self.step is None:
            value = self.low + fraction * (self.high - self.low)
            short = f"{value:.3g}"
            return short if self.low <= float(short) <= self.high else f"{value:g}"
        steps = math.floor((self.high - self.low) / self.step + 1e-9)
        return f"{round(self.low + self.step * int(fraction * (steps + 1)), 9):g}"

    def longest(self) -> str:
        return max((self.draw(fraction) for fraction in (0.0, 0.123456789, 0.999999)), key=len)

    def take(self, name: str, given: object) -> str:
        """A number that a user puts in.

        Raises:
            ImpactError: `bad_argument` when it is none, or out of the range.
        """
        try:
            value = float(str(given).strip())
        except ValueError:
            value = math.nan
        if not self.low <= value <= self.high:
            raise ImpactError(
                "bad_argument", f"slot.{name} must be a number from {self.low:g} to {self.high:g}", f"slot.{name}"
            )
        return f"{value:g}"

    def to_data(self) -> dict[str, float]:
        data = {"min": self.low, "max": self.high}
        return data if self.step is None else {**data, "step": self.step}


Slot = Words | Range


def seed_fraction(seed: int, name: str) -> float:
    """Where a seed points for a slot of this name, 0 <= fraction < 1."""
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def draw_words(slots: Mapping[str, Slot], seed: int) -> dict[str, str]:
    """Every slot's word for a seed."""
    return {name: slot.draw(seed_fraction(seed, name)) for name, slot in slots.items()}


def read_slot(name: str, value: object) -> Slot:
    """A slot from what YAML gave: a list of words, or a mapping of min, max and perhaps step.

    Raises:
        SlotError: says what is wrong, and where below the slot.
    """
    if not _NAME.fullmatch(name):
        raise SlotError("the name of a slot is letters, digits and '_', 40 at most, the first no digit")
    if isinstance(value, Mapping):
        return _range(value)
    if isinstance(value, list):
        return _words(value)
    raise SlotError("a slot is a list of words, or min and max")


def _words(values: Sequence[object]) -> Words:
    if not 1 <= len(values) <= MAX_WORDS:
        raise SlotError(f"a slot has 1 to {MAX_WORDS} words, not {len(values)}")
    words: list[str] = []
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise SlotError("a word of a slot is a text or a number (put yes, no, on and off in quotes)", index)
        word = (value if isinstance(value, str) else f"{value:g}").strip()
        if not word or len(word) > MAX_LETTERS or not word.isprintable():
            raise SlotError(f"a word of a slot is one line of 1 to {MAX_LETTERS} characters", index)
        if word in words:
            raise SlotError(f"{word!r} comes twice", index)
        words.append(word)
    return Words(tuple(words))


def _range(value: Mapping[Any, Any]) -> Range:
    for key in value:
        if key not in _RANGE_KEYS:
            raise SlotError(f"unknown key {key!r}: a range has {', '.join(_RANGE_KEYS)}", str(key))
    for key in ("min", "max"):
        if key not in value:
            raise SlotError(f"{key} is missing: a range has min and max")
    for key, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise SlotError(f"{key} must be a number", key)
    low, high = float(value["min"]), float(value["max"])
    if not -1e9 <= low <= high <= 1e9:
        raise SlotError("min must not be larger than max, and both be numbers of common size", "min")
    if "step" not in value:
        whole = isinstance(value["min"], int) and isinstance(value["max"], int)
        return Range(low, high, 1.0 if whole else None)
    step = float(value["step"])
    if not 1e-6 <= step <= max(high - low, 1e-6):
        raise SlotError("step must be larger than 0 and not larger than max - min", "step")
    return Range(low, high, step)
