"""A preset: a request with slots, written down in YAML.

Knows the keys of a preset and how slots are filled from a seed. Values are checked by the one schema of requests. Does
not know files: see `load`.
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from impact_plugin.errors import ImpactError
from impact_plugin.request import SEEDS, Request, canonical, unknown_key

#: Keys of a preset that are keys of a request, with the same ranges.
REQUEST_KEYS = (
    "prompt",
    "negative",
    "seconds",
    "variants",
    "iterations",
    "guidance",
    "loop",
    "seed",
    "ucs",
    "gain_db",
    "fade_in",
    "fade_out",
    "peak_db",
    "lufs",
)
KEYS = (*REQUEST_KEYS, "slots", "tags", "notes")


@dataclass(frozen=True)
class Range:
    """A slot that is a number from `low` to `high`."""

    low: float
    high: float

    def draw(self, dice: random.Random) -> str:
        if all(float(end).is_integer() for end in (self.low, self.high)):
            return str(dice.randint(int(self.low), int(self.high)))
        return f"{dice.uniform(self.low, self.high):.2g}"


@dataclass(frozen=True)
class Preset:
    """One preset. `values` are keys of a request; the prompt may hold `{slot}`."""

    name: str
    values: dict[str, Any]
    slots: dict[str, tuple[str, ...] | Range] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    notes: str = ""
    file: str = ""

    def fill(self, seed: int) -> dict[str, Any]:
        """The values with every slot of the prompt filled; the same seed fills them the same way."""
        dice = random.Random(seed)
        words = {
            name: choice.draw(dice) if isinstance(choice, Range) else choice[dice.randrange(len(choice))]
            for name, choice in sorted(self.slots.items())
        }
        values = dict(self.values)
        for key in ("prompt", "negative"):
            if key in values:
                values[key] = str(values[key]).format_map(words)
        return values


def parse_preset(name: str, body: object) -> Preset:
    """A preset from what YAML gave.

    Raises:
        ImpactError: `field` is the offending key.
    """
    if not isinstance(body, Mapping):
        raise ImpactError("bad_argument", "a preset is a mapping of keys to values")
    for key in body:
        if key not in KEYS:
            raise unknown_key(str(key), KEYS)
    values = {key: body[key] for key in REQUEST_KEYS if body.get(key) is not None}
    slots = {str(slot): _slot(str(slot), choice) for slot, choice in _mapping(body.get("slots"), "slots").items()}
    tags = body.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ImpactError("bad_argument", "tags must be a list of words", "tags")
    if "prompt" not in values:
        raise ImpactError("bad_argument", "the preset has no prompt", "prompt")
    Request.parse(values)
    for key in ("prompt", "negative"):
        _check_slots(str(values.get(key, "")), key, slots)
    return Preset(name, values, slots, tuple(tags), str(body.get("notes") or ""))


def expand(request: Mapping[str, Any], presets: Mapping[str, Preset], seed: int | None = None) -> dict[str, Any]:
    """A request's loose values with its preset filled in; the request's own keys win.

    Args:
        request: keys as `Request.parse` takes them.
        seed: drawn when neither the request nor the preset nor this gives one: slots are filled from it.

    Raises:
        ImpactError: `unknown_preset`, and what :func:`impact_plugin.request.canonical` raises.
    """
    own, _ = canonical(request)
    name = own.get("preset")
    if name is None:
        return dict(request)
    if name not in presets:
        error = unknown_key(str(name), presets, "preset")
        raise ImpactError("unknown_preset", error.text, "preset")
    preset = presets[str(name)]
    drawn = own.get("seed", preset.values.get("seed", seed))
    if drawn is None:
        drawn = random.SystemRandom().randrange(SEEDS)
    number = Request.parse({"prompt": "x", "seed": drawn}).seed or 0
    return {**preset.fill(number), **own, "seed": number}


def _mapping(value: object, key: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ImpactError("bad_argument", f"{key} must be a mapping of names", key)
    return value


def _slot(name: str, choice: object) -> tuple[str, ...] | Range:
    if isinstance(choice, list) and choice and all(isinstance(word, str | int | float) for word in choice):
        return tuple(str(word) for word in choice)
    if isinstance(choice, Mapping) and set(choice) == {"min", "max"}:
        low, high = choice["min"], choice["max"]
        if _plain(low) and _plain(high) and low <= high:
            return Range(float(low), float(high))
    raise ImpactError("bad_argument", f"the slot {name} must be a list of words, or min and max", "slots")


def _plain(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_slots(text: str, key: str, slots: Mapping[str, object]) -> None:
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        raise ImpactError("bad_argument", f"the {key} has an unpaired brace; write {{{{ for a brace", key) from None
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if form or conversion:
            raise ImpactError("bad_argument", f"a slot of the {key} is just its name in braces: {{{name}}}", key)
        if name not in slots:
            raise ImpactError("unknown_key", unknown_key(name, slots, "slot").text, key)
