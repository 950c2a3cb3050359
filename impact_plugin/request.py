"""What a user may ask for: one schema for the command line, OSC, HTTP, presets and YAML.

Knows every key, its range and the words of its errors; they exist nowhere else. Does not know bundles (a bundle's own
limits are the engine's business), transports, or files.
"""

from __future__ import annotations

import difflib
import math
import numbers
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from impact_plugin.errors import ImpactError

#: Seeds are 0...SEEDS - 1: the whole numbers that a 32-bit float, hence every OSC host, carries exactly.
SEEDS = 2**24
MAX_PROMPT = 2000
MAX_LABEL = 200

Verb = Literal["generate", "vary", "inpaint", "extend", "loop", "morph"]
Group = Literal["main", "output", "job", "advanced", "finish", "edit"]

#: Other names for keys: those of the ElevenLabs sound-effects API, and the ones diffusion users type.
ALIASES: dict[str, str] = {
    "text": "prompt",
    "duration_seconds": "seconds",
    "duration": "seconds",
    "prompt_influence": "guidance",
    "negative_prompt": "negative",
    "steps": "iterations",
    "cfg": "guidance",
    "from": "from_seconds",
    "to": "to_seconds",
}

#: Keys of other tools that have no counterpart here, and what to use instead.
HINTS: dict[str, str] = {"output_format": "the sample rate is the key rate, the file type is --format and --subtype"}

#: `slot.NAME` fills a slot of the preset that the request names; it is gone once the preset has been filled in.
SLOT_PREFIX = "slot."

_DEFAULT_WORDS = frozenset({"", "auto", "default", "none", "null"})
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_UCS = re.compile(r"[A-Z]{2,8}[A-Za-z]{0,8}")


class _MisfitError(ValueError):
    """A value that a key does not take; pydantic turns it into its own error, :func:`_refusal` into ours."""


def _number(value: object) -> float:
    """A finite number from an int, a float or a numeric string."""
    if isinstance(value, str):
        if "_" in value:
            raise _MisfitError("no number")
        value = float(value.strip())
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _MisfitError("no number")
    try:
        number = float(value)
    except OverflowError:
        raise _MisfitError("too large") from None
    if not math.isfinite(number):
        raise _MisfitError("not finite")
    return number


def _whole(value: object) -> int:
    """A whole number; 3.0 and "3.0" are 3."""
    number = _number(value)
    if number != int(number):
        raise _MisfitError("no whole number")
    return int(number)


def _flag(value: object) -> bool:
    """A truth value from a bool, 0 or 1, or a word."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else f"{_number(value):g}"
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise _MisfitError("no truth value")


def _text(value: object) -> str:
    """A line of text; control characters become spaces, numbers text (hosts turn "808" into 808.0)."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        value = f"{_number(value):.10g}"
    if not isinstance(value, str):
        raise _MisfitError("no text")
    value.encode("utf-8")  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    return "".join(" " if unicodedata.category(char) == "Cc" else char for char in value).strip()


def _ucs(value: object) -> str:
    text = _text(value)
    if not _UCS.fullmatch(text):
        raise _MisfitError("no CatID")
    return text


def _max_length(limit: int) -> BeforeValidator:
    def check(value: object) -> str:
        text = _text(value)
        if len(text) > limit:
            raise _MisfitError("too long")
        return text

    return BeforeValidator(check)


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Word = Annotated[str, BeforeValidator(_text)]


def _key(default: Any, text: str, group: Group = "main", *, expects: str | None = None) -> Any:
    return Field(default, description=text, json_schema_extra={"group": group, "expects": expects})


@dataclass(frozen=True)
class KeyHelp:
    """One key as help and documentation show it.

    Attributes:
        name: the key; default: what holds without it, as text; expects: type and range; text: what it does.
        group: which kind of key it is; aliases: other names that are understood.
    """

    name: str
    expects: str
    default: str
    text: str
    group: str
    aliases: tuple[str, ...]


class Request(BaseModel):
    """A request for takes. Keys left at None are chosen by the bundle or drawn by the engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Annotated[str | None, _max_length(MAX_PROMPT)] = _key(
        None, "what is to be heard", expects=f"text of 1 to {MAX_PROMPT} characters"
    )
    seconds: Annotated[Number | None, Ge(0.05), Le(3600.0)] = _key(
        None, "length of the sound; without it the bundle chooses one that fits the prompt"
    )
    variants: Annotated[Whole, Ge(1), Le(64)] = _key(1, "how many different takes")
    seed: Annotated[Whole | None, Ge(0), Le(SEEDS - 1)] = _key(
        None,
        "same seed, same sound; variant v of a request has the seed seed + v; without it one is drawn and reported",
    )
    iterations: Annotated[Whole | None, Ge(1), Le(256)] = _key(
        None, "decoding iterations: few are fast, many are better; the bundle has a default"
    )
    guidance: Annotated[Number | None, Ge(0.0), Le(20.0)] = _key(
        None, "how strictly the sound follows the prompt (1 = no emphasis); the bundle has a default"
    )
    negative: Annotated[str | None, _max_length(MAX_PROMPT)] = _key(
        None, "what is not to be heard", expects=f"text of at most {MAX_PROMPT} characters"
    )
    preset: Word | None = _key(
        None, "name of a preset whose values hold where this request has none", expects="a preset"
    )
    loop: Flag = _key(False, "a sound that repeats without a seam")
    bars: Annotated[Number | None, Ge(0.25), Le(256.0)] = _key(None, "length in bars of 4/4 at bpm, instead of seconds")
    bpm: Annotated[Number | None, Ge(10.0), Le(999.0)] = _key(None, "tempo of the host, beats a minute")
    rate: Annotated[Whole | None, Ge(8000), Le(192000)] = _key(
        None, "sample rate of the files, hz; without it the bundle's own", "output"
    )
    ucs: Annotated[str | None, BeforeValidator(_ucs)] = _key(
        None,
        "Universal Category System CatID of the file name; without it a guess from the prompt",
        "output",
        expects="a CatID such as DOORWood",
    )
    label: Annotated[str | None, _max_length(MAX_LABEL)] = _key(
        None,
        "a name of the client's own, stored in the take",
        "output",
        expects=f"text of at most {MAX_LABEL} characters",
    )
    priority: Annotated[Whole, Ge(-100), Le(100)] = _key(0, "jobs of higher priority go first", "job")
    preview: Flag = _key(False, "send previews while the sound is being made", "job")
    previews_every: Annotated[Whole | None, Ge(1), Le(256)] = _key(
        None, "a preview after every so many iterations; without it about six a job", "job"
    )
    play: Flag = _key(False, "play the takes on the audio device", "job")

    order: Literal["random", "halton"] | None = _key(None, "order in which tokens are decided", "advanced")
    sampler: Literal["ddpm", "ddim", "dpm++"] | None = _key(None, "sampler of the diffusion head", "advanced")
    head_steps: Annotated[Whole | None, Ge(1), Le(1000)] = _key(
        None, "diffusion steps of the head at the first iteration", "advanced"
    )
    temperature: Annotated[Number | None, Ge(0.0), Le(2.0)] = _key(
        None, "scale of the noise inside the diffusion head", "advanced"
    )
    coherence: Annotated[Number | None, Ge(0.0), Le(1.0)] = _key(
        None, "how alike the noise of neighbouring tokens is", "advanced"
    )
    inspiration: Annotated[Number | None, Ge(0.0), Le(0.95)] = _key(
        None, "how much a sound begins as one of its neighbours", "advanced"
    )

    gain_db: Annotated[Number | None, Ge(-60.0), Le(24.0)] = _key(None, "gain after levelling, decibel", "finish")
    peak_db: Annotated[Number | None, Ge(-60.0), Le(-0.1)] = _key(None, "peak of the take, dBFS", "finish")
    lufs: Annotated[Number | None, Ge(-60.0), Le(-5.0)] = _key(
        None, "integrated loudness of the take; the peak stays under -1 dBFS", "finish"
    )
    fade_in: Annotated[Number | None, Ge(0.0), Le(60.0)] = _key(None, "seconds of fade-in", "finish")
    fade_out: Annotated[Number | None, Ge(0.0), Le(60.0)] = _key(None, "seconds of fade-out", "finish")

    verb: Verb = _key("generate", "what is done: a new sound, or an edit of an existing one", "edit")
    source: Word | None = _key(None, "take or sound file that an edit starts from", "edit", expects="a path or a take")
    other: Word | None = _key(None, "the other end of a morph", "edit", expects="a path, a take or a prompt")
    amount: Annotated[Number | None, Ge(0.0), Le(1.0)] = _key(
        None, "vary: share of the sound that is made anew", "edit"
    )
    from_seconds: Annotated[Number | None, Ge(0.0), Le(36000.0)] = _key(None, "inpaint: start of the region", "edit")
    to_seconds: Annotated[Number | None, Ge(0.0), Le(36000.0)] = _key(None, "inpaint: end of the region", "edit")
    at: Literal["start", "end"] | None = _key(None, "extend: at which end", "edit")
    position: Annotated[Number | None, Ge(0.0), Le(1.0)] = _key(None, "morph: 0 is the one end, 1 the other", "edit")

    @classmethod
    def parse(cls, mapping: Mapping[str, Any], **fixed: Any) -> Request:
        """A request from loosely typed values.

        Args:
            mapping: keys (or their aliases) to numbers, numeric strings, text or truth values. None, "", "auto" and
                "default" stand for "not given" (an empty prompt is an error, though).
            fixed: further keys, which win.

        Raises:
            ImpactError: `unknown_key` or `bad_argument`; `field` is the key as the caller wrote it.
        """
        values, written = canonical({**mapping, **fixed})
        if "peak_db" in values and "lufs" in values:
            raise ImpactError("bad_argument", "give peak_db or lufs, not both", written["lufs"])
        try:
            request = cls.model_validate(values)
        except ValidationError as error:
            name = str(error.errors(include_url=False)[0]["loc"][0])
            raise _refusal(written.get(name, name), name, values.get(name)) from None
        if not request.prompt and not request.preset and request.verb == "generate":
            what = "empty" if "prompt" in values else "missing"
            raise ImpactError(
                "bad_argument",
                f"the prompt is {what}: say what is to be heard, in 1 to {MAX_PROMPT} characters",
                written.get("prompt", "prompt"),
            )
        if request.previews_every is not None and "preview" not in values:
            request = request.model_copy(update={"preview": True})
        return request

    @classmethod
    def parse_pairs(cls, pairs: Sequence[object], **fixed: Any) -> Request:
        """A request from a flat list `key value key value ...`, as OSC carries it.

        Raises:
            ImpactError: as :meth:`parse`, and for a key without a value or given twice.
        """
        return cls.parse(pairs_to_mapping(pairs), **fixed)

    @classmethod
    def fields_help(cls) -> list[KeyHelp]:
        """Every key with its range, default and meaning, for help texts and documents."""
        rows = []
        for name, info in cls.model_fields.items():
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            default = (
                "-" if info.default is None else f"{info.default:g}" if _is_number(info.default) else str(info.default)
            )
            if isinstance(info.default, bool):
                default = str(int(info.default))
            aliases = tuple(alias for alias, target in ALIASES.items() if target == name)
            rows.append(KeyHelp(name, expects(name), default, info.description or "", str(extra["group"]), aliases))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The keys that differ from their defaults, as :meth:`parse` takes them back."""
        return self.model_dump(exclude_defaults=True)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def canonical(mapping: Mapping[str, Any], *, slots: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """Aliases resolved and "not given" values dropped, nothing validated yet.

    Args:
        slots: whether `slot.NAME` may be among the keys, for whoever fills in presets.

    Returns:
        values by key, and for each key the name that the caller used.

    Raises:
        ImpactError: `unknown_key`; `bad_argument` when a key is given under two names.
    """
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    for given, value in mapping.items():
        name = given if _is_slot(given) else _known(given)
        if _is_slot(given) and not slots:
            raise ImpactError("bad_argument", f"{given} fills a slot of a preset: name the preset too", given)
        if name in written:
            raise ImpactError("bad_argument", f"{written[name]} and {given} are the same key: give one of them", given)
        written[name] = given
        if value is None or (name != "prompt" and isinstance(value, str) and value.strip().lower() in _DEFAULT_WORDS):
            continue
        if name == "seed" and isinstance(value, str) and value.strip().lower() == "random":
            continue
        if given == "prompt_influence":
            value = _influence(value)
        values[name] = value
    return values, written


def pairs_to_mapping(pairs: Sequence[object]) -> dict[str, Any]:
    """`[key, value, key, value]` as a mapping.

    Raises:
        ImpactError: `bad_argument` for a key that is no text, has no value or comes twice.
    """
    mapping: dict[str, Any] = {}
    for index in range(0, len(pairs), 2):
        key = pairs[index]
        if not isinstance(key, str):
            raise ImpactError("bad_argument", f"a key was expected, not {_shown(key)}: keys and values come in pairs")
        if index + 1 >= len(pairs):
            _known(key)
            raise ImpactError("bad_argument", f"the key {key} has no value: keys and values come in pairs", key)
        if key in mapping:
            raise ImpactError("bad_argument", f"{key} is given twice", key)
        mapping[key] = pairs[index + 1]
    return mapping


def assignments(items: Iterable[str]) -> dict[str, str]:
    """`["key=value", ...]` as a mapping.

    Raises:
        ImpactError: `bad_argument` for an item without `=`, or a key given twice.
    """
    mapping: dict[str, str] = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key.strip():
            raise ImpactError("bad_argument", f"KEY=VALUE was expected, not {_shown(item)}")
        if key.strip() in mapping:
            raise ImpactError("bad_argument", f"{key.strip()} is given twice", key.strip())
        mapping[key.strip()] = value
    return mapping


def expects(name: str) -> str:
    """What a key takes, in words: `a number from 0.05 to 3600`."""
    info = Request.model_fields[name]
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    if extra.get("expects"):
        return str(extra["expects"])
    choices = _choices(info.annotation)
    if choices:
        return "one of " + ", ".join(choices)
    low = [limit.ge for limit in info.metadata if isinstance(limit, Ge)]
    high = [limit.le for limit in info.metadata if isinstance(limit, Le)]
    if low and high:
        kind = "whole number" if isinstance(low[0], int) else "number"
        return f"a {kind} from {_plain(low[0])} to {_plain(high[0])}"
    return "0 or 1" if info.annotation is bool else "text"


def unknown_key(given: str, names: Iterable[str], what: str = "key") -> ImpactError:
    """The error for a name that does not exist, with the nearest that does."""
    if given in HINTS:
        return ImpactError("unknown_key", f"unknown {what} {given}: {HINTS[given]}", given)
    known = list(names)
    near = difflib.get_close_matches(given.lower(), known, n=2, cutoff=0.6)
    listed = (
        f"the {what}s are {', '.join(known)}" if len(known) <= 60 else f"none of the {len(known)} {what}s is like it"
    )
    advice = f"did you mean {' or '.join(near)}?" if near else listed
    return ImpactError("unknown_key", f"unknown {what} {_shown(given)}: {advice}", given)


def _is_slot(given: object) -> bool:
    return isinstance(given, str) and given.startswith(SLOT_PREFIX) and given != SLOT_PREFIX


def _known(given: object) -> str:
    name = ALIASES.get(given, given) if isinstance(given, str) else given
    if not isinstance(name, str) or name not in Request.model_fields:
        keys = list(Request.model_fields)
        if isinstance(given, str) and difflib.get_close_matches(given.lower(), keys, n=1, cutoff=0.6):
            raise unknown_key(given, keys)
        raise unknown_key(str(given), [*keys, *ALIASES])
    return name


def _influence(value: object) -> float:
    """ElevenLabs' prompt influence, 0...1, as guidance 1...10 (its default, 0.3, is 3.7)."""
    try:
        number = _number(value)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ImpactError(
            "bad_argument", f"prompt_influence must be a number from 0 to 1, not {_shown(value)}", "prompt_influence"
        )
    return 1.0 + 9.0 * number


def _refusal(written: str, name: str, value: object) -> ImpactError:
    if name in {"prompt", "negative", "label"} and isinstance(value, str):
        try:
            length = len(_text(value))
        except ValueError:
            return ImpactError("bad_argument", f"the {written} holds characters that are not valid Unicode", written)
        limit = MAX_LABEL if name == "label" else MAX_PROMPT
        return ImpactError("bad_argument", f"the {written} has {length} characters, {limit} at most are taken", written)
    return ImpactError("bad_argument", f"{written} must be {expects(name)}, not {_shown(value)}", written)


def _choices(annotation: Any) -> tuple[str, ...]:
    args = get_args(annotation)
    if args and all(isinstance(arg, str) for arg in args):
        return tuple(args)
    return next((found for found in map(_choices, args) if found), ())


def _plain(limit: Any) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def _shown(value: object) -> str:
    """A value as an error quotes it: short, on one line, printable."""
    if isinstance(value, str):
        short = value if len(value) <= 40 else value[:37] + "..."
        return repr("".join(char if char.isprintable() else "?" for char in short))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if abs(value) < 10**12 else "a number of many digits"
    return f"{value:g}" if isinstance(value, numbers.Real) else f"a {type(value).__name__}"
