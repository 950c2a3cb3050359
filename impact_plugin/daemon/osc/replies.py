"""From values to packets that every host can take: at most 1,400 bytes, fewer than 200 arguments, only i, f and s.

Text that is too long is cut and ends with `...`. A path is never cut: one that does not fit becomes "", and a `fail`
before it says so. Knows no sockets.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Final

from pythonosc.parsing import osc_types

from impact_plugin.daemon.events import DaemonEvent, EventField, JobId
from impact_plugin.errors import ImpactError

#: Bytes of a message; one packet of Ethernet, IP and UDP carries it whole.
MAX_MESSAGE: Final = 1400
MAX_ARGUMENTS: Final = 199
#: What stands for a number that is none: not known, not finite.
UNKNOWN: Final = -1.0
_CUT: Final = "..."
_SHORTEST: Final = 64
_LARGEST: Final = 3.4028234663852886e38

Reply = str | int | float | None


def encode(
    address: str, values: Sequence[Reply], *, paths: Collection[int] = (), ids: Collection[int] = ()
) -> tuple[bytes, bool]:
    """A message.

    Args:
        values: None is sent as "", truth values as 0 and 1, whole numbers beyond 32 bits as text.
        paths: places of values that are never cut, but left empty when they do not fit; ids: ones that always stay.

    Returns:
        the packet, and whether every path is in it.
    """
    plain = [_plain(value) for value in values[:MAX_ARGUMENTS]]
    places = [place for place in paths if place < len(plain)]
    missing = {place for place in places if isinstance(values[place], str) and plain[place] != values[place]}
    for place in missing:
        plain[place] = ""
    packet = pack(address, plain)
    if len(packet) > MAX_MESSAGE:
        _shorten(plain, len(packet) - MAX_MESSAGE, {*places, *ids})
        packet = pack(address, plain)
    if len(packet) > MAX_MESSAGE and any(plain[place] for place in places):
        missing = {place for place in places if plain[place]}
        plain = ["" if place in missing else _plain(value) for place, value in enumerate(values[:MAX_ARGUMENTS])]
        _shorten(plain, len(pack(address, plain)) - MAX_MESSAGE, set(ids))
        packet = pack(address, plain)
    while len(packet) > MAX_MESSAGE:
        plain.pop()
        packet = pack(address, plain)
    return packet, not missing


def _shorten(values: list[str | int | float], excess: int, fixed: Collection[int]) -> None:
    """Cut texts, the longest first, until `excess` bytes are gone or none is longer than a few words."""
    texts = [(place, value) for place, value in enumerate(values) if isinstance(value, str) and place not in fixed]
    sizes = {place: len(value.encode()) for place, value in texts}
    for place, size in sorted(sizes.items(), key=lambda item: -item[1]):
        room = max(_SHORTEST, size - excess - 4)  # 4: what padding may take back
        if excess <= 0 or room >= size:
            return
        values[place] = cut(str(values[place]), room)
        excess -= size - room - 4


def cut(text: str, size: int) -> str:
    """The text in at most `size` bytes of UTF-8, whole characters, `...` at the end of a shortened one."""
    data = text.encode()
    if len(data) <= size:
        return text
    return data[: max(0, size - len(_CUT))].decode(errors="ignore") + _CUT


def encode_fail(subject: JobId, error: ImpactError) -> bytes:
    """`/impact/fail`: subject is a job's id or the address that was called."""
    return encode("/impact/fail", [subject, error.code, error.text], ids=(0,))[0]


def encode_event(event: DaemonEvent) -> list[bytes]:
    """An event's message, before it a `fail` when its path does not fit."""
    first = 0 if event.job is None else 1
    paths = [first + place for place, field in enumerate(event.kind.fields) if field.name == "path"]
    packet, whole = encode(event.address, event.arguments(), paths=paths, ids=(0,) if first else ())
    if whole:
        return [packet]
    return [encode_fail(event.job or event.address, _no_room(f"the path of {event.name}")), packet]


def encode_row(address: str, fields: Sequence[EventField], values: Sequence[Reply]) -> list[bytes]:
    """A row of a list, its values cast to the fields' types; before it a `fail` when its path does not fit."""
    cast = [cast_value(field, value) for field, value in zip(fields, values, strict=True)]
    paths = [place for place, field in enumerate(fields) if field.name == "path"]
    ids = [place for place, field in enumerate(fields) if field.name == "id"]
    packet, whole = encode(address, cast, paths=paths, ids=ids)
    return [packet] if whole else [encode_fail(address, _no_room(f"the path of {cast[0]}")), packet]


def cast_value(field: EventField, value: Reply) -> Reply:
    """A value as its field's type; what is not known is -1 or ""; ids and plain values stay what they are."""
    if field.tag == "s":
        return "" if value is None else value
    number = UNKNOWN if value is None else float(value)
    return number if field.tag == "f" else int(number) if math.isfinite(number) else int(UNKNOWN)


def _no_room(what: str) -> ImpactError:
    return ImpactError(
        "too_large", f"{what} does not fit a message of {MAX_MESSAGE} bytes: `impact takes list` and HTTP tell it"
    )


def _plain(value: Reply) -> str | int | float:
    """The value as i, f or s can carry it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -(2**31) <= value < 2**31 else str(value)
    if isinstance(value, float):
        return min(max(value, -_LARGEST), _LARGEST) if math.isfinite(value) else UNKNOWN
    text = "".join(char if char >= " " and char != "\x7f" else " " for char in value)
    return text.encode("utf-8", "replace").decode("utf-8")


def pack(address: str, values: Sequence[str | int | float]) -> bytes:
    """A message as it stands, whatever its size. Text is without null characters, numbers fit 32 bits."""
    tags, parts = ",", b""
    for value in values:
        if isinstance(value, str):
            tags, parts = tags + "s", parts + osc_types.write_string(value)
        elif isinstance(value, int):
            tags, parts = tags + "i", parts + osc_types.write_int(value)
        else:
            tags, parts = tags + "f", parts + osc_types.write_float(value)
    return osc_types.write_string(address) + osc_types.write_string(tags) + parts
