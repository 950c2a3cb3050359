"""From the bytes of a packet to messages, whatever the bytes are.

Parsing is python-osc's. What stands before it are guards, so that a packet costs bounded work, is never misread, and
never raises: the shape of bundles, the size of everything, the address (exact, no patterns) and the type tags are
checked before an argument is parsed. Knows no sockets and no addresses of ours.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Final

from pythonosc import osc_message
from pythonosc.parsing import osc_types

from impact_plugin.errors import ImpactError

#: The largest packet, bytes, on either transport: what a UDP datagram can hold.
MAX_PACKET: Final = 65_535
#: Bundles inside bundles.
MAX_DEPTH: Final = 8
#: Messages and bundles in one packet.
MAX_ELEMENTS: Final = 256
MAX_ARGUMENTS: Final = 512
MAX_ADDRESS: Final = 255
#: A time tag may lie so many seconds ahead.
MAX_AHEAD: Final = 10.0
#: Types that are taken: int32, float32, string, int64, double, true, false, nil.
TAGS: Final = frozenset("ifshdTFN")

_BUNDLE: Final = b"#bundle\0"
_PATTERN: Final = re.compile(r"[*?\[\]{}]")
_ADDRESS: Final = re.compile(r"/[!-~]*")

Value = int | float | str | bool | None


@dataclass(frozen=True)
class Message:
    """A message that was read. delay: seconds to wait before it is run, 0 = run it now."""

    address: str
    arguments: tuple[Value, ...]
    delay: float = 0.0


@dataclass(frozen=True)
class Refusal:
    """What could not be read. address: as far as it could be made out, fit for a reply."""

    address: str
    error: ImpactError


@dataclass
class Reading:
    """All that was in a packet, in its order.

    Attributes:
        messages: to be run; refusals: to be answered by `fail`.
        elements: messages and bundles that were walked over.
    """

    messages: list[Message] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    elements: int = 0


def read_packet(packet: bytes, now: float) -> Reading:
    """Everything in a packet. A bundle whose shape is broken is refused whole. Never raises.

    Args:
        now: seconds since 1970, which time tags are held against.
    """
    reading = Reading()
    try:
        if len(packet) > MAX_PACKET:
            raise ImpactError("too_large", f"the packet has {len(packet)} bytes, {MAX_PACKET} at most are taken")
        _read_element(packet, 0, len(packet), 0.0, 0, now, reading)
    except ImpactError as error:
        return Reading(refusals=[Refusal(_subject(packet), error)], elements=reading.elements)
    return reading


def _read_element(packet: bytes, start: int, stop: int, delay: float, depth: int, now: float, reading: Reading) -> None:
    """One message or bundle at start...stop; raises what refuses the packet as a whole."""
    reading.elements += 1
    if reading.elements > MAX_ELEMENTS:
        raise ImpactError("too_large", f"a packet may hold {MAX_ELEMENTS} messages at most: send several")
    if packet.startswith(_BUNDLE, start, stop):
        _read_bundle(packet, start, stop, delay, depth, now, reading)
    elif packet.startswith(b"/", start, stop):
        message = packet[start:stop]
        try:
            address, arguments = _read_message(message)
        except ImpactError as error:
            reading.refusals.append(Refusal(_subject(message), error))
        else:
            reading.messages.append(Message(address, arguments, delay))
    else:
        raise ImpactError("bad_argument", "this is no OSC packet: one starts with an address or with #bundle")


def _read_bundle(packet: bytes, start: int, stop: int, delay: float, depth: int, now: float, reading: Reading) -> None:
    if depth >= MAX_DEPTH:
        raise ImpactError("too_large", f"bundles may be nested {MAX_DEPTH} deep at most")
    if stop - start < 16:
        raise ImpactError("bad_argument", "the bundle ends inside its time tag")
    due, _ = osc_types.get_date(packet[start : start + 16], 8)
    ahead = due - now if due != osc_types.IMMEDIATELY else 0.0
    if ahead > MAX_AHEAD:
        what = f"the time tag lies {min(ahead, 1e10):.0f} s ahead, {MAX_AHEAD:.0f} s at most are waited"
        raise ImpactError("bad_argument", f"{what}: send it later, or check both clocks")
    delay = max(delay, ahead, 0.0)
    index = start + 16
    while index < stop:
        if stop - index < 4:
            raise ImpactError("bad_argument", "the bundle ends inside the size of an element")
        (size,) = struct.unpack_from(">i", packet, index)
        index += 4
        if size <= 0 or size % 4 or size > stop - index:
            raise ImpactError("bad_argument", f"the bundle has an element of {size} bytes, which cannot be")
        _read_element(packet, index, index + size, delay, depth + 1, now, reading)
        index += size


def _read_message(message: bytes) -> tuple[str, tuple[Value, ...]]:
    """Address and arguments.

    Raises:
        ImpactError: `unknown_address` (a pattern), `too_large`, `bad_argument`.
    """
    end = message.find(b"\0", 0, MAX_ADDRESS + 1)
    if end < 0:
        if len(message) > MAX_ADDRESS:
            raise ImpactError("too_large", f"an address has {MAX_ADDRESS} characters at most")
        raise ImpactError("bad_argument", "the address does not end")
    address = message[:end].decode("ascii", "replace")
    if _PATTERN.search(address):
        raise ImpactError("unknown_address", "address patterns are not taken: send the address itself")
    if not _ADDRESS.fullmatch(address):
        raise ImpactError("bad_argument", "an address consists of printable ASCII characters")
    _check_tags(message, (end // 4 + 1) * 4)
    try:
        parsed = osc_message.OscMessage(message)
    except osc_message.ParseError:
        raise ImpactError("bad_argument", "the message ends before its last argument") from None
    except UnicodeDecodeError:
        raise ImpactError("bad_argument", "text must be UTF-8") from None
    return address, tuple(parsed.params)


def _check_tags(message: bytes, start: int) -> None:
    """Refuse what python-osc would misread: it skips unknown type tags and then takes one argument for another."""
    if start >= len(message):
        return
    if not message.startswith(b",", start):
        raise ImpactError("bad_argument", "the type tags are missing: they start with a comma")
    end = message.find(b"\0", start, start + MAX_ARGUMENTS + 2)
    if end < 0:
        if len(message) > start + MAX_ARGUMENTS + 1:
            raise ImpactError("too_large", f"a message has {MAX_ARGUMENTS} arguments at most")
        raise ImpactError("bad_argument", "the type tags do not end")
    for tag in message[start + 1 : end].decode("latin-1"):
        if tag not in TAGS:
            raise ImpactError("bad_argument", f"arguments of type {tag!r} are not taken: send i, f or s")


def _subject(packet: bytes) -> str:
    """What a refusal names: the address as far as it is one, else what kind of packet it was."""
    if packet.startswith(_BUNDLE):
        return "#bundle"
    if not packet.startswith(b"/"):
        return "#packet"
    head = packet[:64].split(b"\0", 1)[0].decode("ascii", "replace")
    return "".join(char if "!" <= char <= "~" else "?" for char in head)
