"""A preset: a request with slots, written down in YAML.

Knows the keys of a preset and turns one into the values of a `Request`, the last step's level and fades among them.
Ranges are the request's own. Does not know files: see `load`.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from impact_plugin.errors import Code, ImpactError
from impact_plugin.presets.slots import MAX_SLOTS, Slot, SlotError, draw_words, read_slot
from impact_plugin.request import ALIASES, MAX_PROMPT, SEEDS, SLOT_PREFIX, Request, canonical, expects, unknown_key

_TEXTS: Final = ("prompt", "negative", "ucs")
_NUMBERS: Final = ("seconds", "guidance", "gain_db", "fade_in", "fade_out", "peak_db", "lufs")
_WHOLES: Final = ("variants", "iterations", "seed")
_FLAGS: Final = ("loop",)

#: Every key of a preset, in the order of the documentation.
KEYS: Final = (
    *("prompt", "slots", "negative", "seconds", "variants", "iterations", "guidance", "loop", "seed", "ucs", "tags"),
    *("gain_db", "fade_in", "fade_out", "peak_db", "lufs", "notes"),
)
#: Those of them that are keys of a request, with the same ranges.
REQUEST_KEYS: Final = tuple(key for key in KEYS if key not in ("slots", "tags", "notes"))
#: Keys that say the same thing in two ways: whoever gives the one does not want the preset's other.
_EITHER: Final = (("peak_db", "lufs"), ("seconds", "bars"))

MAX_NOTES: Final = 4000
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TAG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_SLOTTED: Final = ("prompt", "negative")


class PresetError(ImpactError):
    """A mistake in a preset. path: of the offending key below the preset, () = the preset itself."""

    def __init__(self, code: Code, text: str, *path: str | int) -> None:
        super().__init__(code, text, str(path[0]) if path else None)
        self.path = path


@dataclass(frozen=True)
class Preset:
    """One preset.

    Attributes:
        name: unique in its folder; bank: the file's name without ending.
        values: keys of a request; prompt and negative may hold `{slot}`.
        slots: by name; tags, notes: for people; file, line: where it stands.
    """

    name: str
    values: dict[str, Any]
    slots: dict[str, Slot] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    notes: str = ""
    bank: str = ""
    file: str = ""
    line: int = 0

    @property
    def full_name(self) -> str:
        """`bank/name`"""
        return f"{self.bank}/{self.name}" if self.bank else self.name

    def fill(self, seed: int, words: Mapping[str, object] | None = None) -> dict[str, Any]:
        """The request's values with every slot filled; the same seed fills them the same way.

        Args:
            words: slots that are not left to the seed.

        Raises:
            ImpactError: `unknown_key` (no such slot), `bad_argument` (a word that the slot does not take).
        """
        chosen = draw_words(self.slots, seed)
        for name, given in (words or {}).items():
            if name not in self.slots:
                raise self._no_slot(name)
            chosen[name] = self.slots[name].take(name, given)
        values = dict(self.values)
        for key in _SLOTTED:
            if key in values:
                values[key] = str(values[key]).format_map(chosen)
        return values

    def request(self, seed: int, **own: Any) -> Request:
        """The preset as a request; keys in `own` win."""
        return Request.parse(expand({**own, "preset": self.name, "seed": seed}, {self.name: self}))

    def to_data(self) -> dict[str, Any]:
        """As it would be written down, without what it does not say."""
        slots = {name: slot.to_data() for name, slot in self.slots.items()}
        said = {**self.values, "slots": slots, "tags": list(self.tags), "notes": self.notes}
        return {key: said[key] for key in KEYS if said.get(key) not in (None, {}, [], "")}

    def _no_slot(self, name: str) -> ImpactError:
        none = f"the preset {self.name} has no slots"
        text = unknown_key(name, self.slots, "slot").text if self.slots else none
        return ImpactError("unknown_key", text, SLOT_PREFIX + name)


def parse_preset(name: str, body: object) -> Preset:
    """A preset from what YAML gave.

    Raises:
        PresetError: the first mistake and where it is.
    """
    if not _NAME.fullmatch(name):
        raise PresetError("bad_argument", "a preset's name is 1 to 64 letters, digits, '_' and '-'")
    if not isinstance(body, Mapping):
        raise PresetError("bad_argument", "a preset is a mapping of keys to values")
    for key, value in body.items():
        _check_type(key, value)
    if "prompt" not in body:
        raise PresetError("bad_argument", "the preset has no prompt")
    if "peak_db" in body and "lufs" in body:
        raise PresetError("bad_argument", "give peak_db or lufs, not both", "lufs")
    values = {key: body[key] for key in REQUEST_KEYS if key in body}
    try:
        Request.parse(values)
    except ImpactError as error:
        raise PresetError(error.code, error.text, error.field or "prompt") from None
    slots = _slots(body.get("slots", {}))
    _check_use(values, slots)
    return Preset(name, values, slots, _tags(body.get("tags", [])), str(body.get("notes", "")).strip())


def expand(request: Mapping[str, Any], presets: Mapping[str, Preset], seed: int | None = None) -> dict[str, Any]:
    """A request's loose values with its preset filled in; the request's own keys win.

    Args:
        request: keys as `Request.parse` takes them, `slot.NAME` to fill a slot of the preset among them.
        presets: by name; a `Library` also knows `bank/name`.
        seed: drawn when neither the request nor the preset nor this gives one: slots are filled from it.

    Raises:
        ImpactError: `unknown_preset`, and what :func:`impact_plugin.request.canonical` raises.
    """
    own, written = canonical(request, slots=True)
    name = own.get("preset")
    if name is None:
        canonical(request)
        return dict(request)
    if not isinstance(name, str) or name not in presets:
        error = unknown_key(str(name), presets, "preset")
        raise ImpactError("unknown_preset", error.text, written["preset"])
    preset = presets[name]
    words = {key.removeprefix(SLOT_PREFIX): own.pop(key) for key in list(own) if key.startswith(SLOT_PREFIX)}
    drawn = own.get("seed", preset.values.get("seed", seed))
    if drawn is None:
        drawn = random.SystemRandom().randrange(SEEDS)
    number = Request.parse({"prompt": "x", "seed": drawn}).seed or 0
    values = preset.fill(number, words)
    for pair in _EITHER:
        if any(key in own for key in pair):
            values = {key: value for key, value in values.items() if key not in pair}
    return {**values, **own, "seed": number}


def _check_type(key: object, value: object) -> None:
    if key not in KEYS:
        meant = ALIASES.get(str(key))
        error = unknown_key(str(key), KEYS)
        text = f"unknown key {key}: did you mean {meant}?" if meant in KEYS else error.text
        raise PresetError("unknown_key", text, str(key))
    if value is None:
        raise PresetError("bad_argument", f"{key} has no value: give one, or leave the key out", key)
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = (
        (key in _TEXTS and isinstance(value, str))
        or (key in _NUMBERS and (whole or isinstance(value, float)))
        or (key in _WHOLES and whole)
        or (key in _FLAGS and isinstance(value, bool))
        or (key == "notes" and isinstance(value, str) and len(value) <= MAX_NOTES)
        or (key == "slots" and isinstance(value, Mapping) and len(value) <= MAX_SLOTS)
        or (key == "tags" and isinstance(value, list))
    )
    if not fits:
        raise PresetError("bad_argument", f"{key} must be {_expected(str(key))}, not {_kind(value)}", key)


def _expected(key: str) -> str:
    if key in _FLAGS:
        return "true or false"
    if key in _TEXTS:
        return "text (put numbers, yes and no in quotes)"
    others = {
        "slots": f"at most {MAX_SLOTS} names, each with a list of words or min and max",
        "tags": "a list of words",
        "notes": f"text of at most {MAX_NOTES} characters",
    }
    return others.get(key) or expects(key)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g}"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    return "a list" if isinstance(value, list) else "a mapping"


def _slots(body: Mapping[Any, Any]) -> dict[str, Slot]:
    slots: dict[str, Slot] = {}
    for name, value in body.items():
        try:
            slots[name] = read_slot(name, value)
        except SlotError as error:
            raise PresetError("bad_argument", f"slot {name}: {error}", "slots", name, *error.path) from None
    return slots


def _tags(values: Iterable[object]) -> tuple[str, ...]:
    tags: list[str] = []
    for index, tag in enumerate(values):
        if not isinstance(tag, str) or not _TAG.fullmatch(tag):
            text = "a tag is 1 to 32 small letters, digits, '_' and '-'"
            raise PresetError("bad_argument", text, "tags", index)
        tags.append(tag)
    return tuple(dict.fromkeys(tags))


def _check_use(values: Mapping[str, Any], slots: Mapping[str, Slot]) -> None:
    """Every `{name}` is a slot, every slot is used, and the longest prompt is not too long."""
    used: set[str] = set()
    for key in _SLOTTED:
        text = str(values.get(key, ""))
        used.update(_names(text, key, slots))
        longest = len(text.format_map({name: slot.longest() for name, slot in slots.items()}))
        if longest > MAX_PROMPT:
            text = f"with its longest words the {key} has {longest} characters, {MAX_PROMPT} at most are taken"
            raise PresetError("bad_argument", text, key)
    for name in slots:
        if name not in used:
            text = f"the slot {name} is used nowhere: put {{{name}}} in the prompt, or take it out"
            raise PresetError("bad_argument", text, "slots", name)


def _names(text: str, key: str, slots: Mapping[str, Slot]) -> set[str]:
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        raise PresetError("bad_argument", f"the {key} has an unpaired brace; write {{{{ for a brace", key) from None
    names = [(name, form, conversion) for _, name, form, conversion in parts if name is not None]
    for name, form, conversion in names:
        if form or conversion:
            raise PresetError("bad_argument", f"a slot of the {key} is just its name in braces: {{{name}}}", key)
        if name not in slots:
            known = unknown_key(name, slots, "slot").text if slots else f"the slot {name} is not in slots"
            raise PresetError("unknown_key", known, key)
    return {name for name, _, _ in names}
