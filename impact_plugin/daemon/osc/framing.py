"""Packets in a byte stream: OSC 1.0's length prefix and OSC 1.1's SLIP, told apart by the first byte.

Knows bytes only. Takes them in pieces of any size, holds back at most one unfinished packet, and never raises: a
stream that cannot be followed any further says so by :attr:`Framer.broken`.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

from impact_plugin.daemon.osc.wire import MAX_PACKET

Framing = Literal["unknown", "length", "slip"]

END: Final = b"\xc0"
_ESC: Final = b"\xdb"
_ESC_END: Final = b"\xdb\xdc"
_ESC_ESC: Final = b"\xdb\xdd"


class Framer:
    """One direction of one connection.

    Attributes:
        framing: unknown until the first byte is there; it also holds for what is sent back.
        broken: why the stream cannot be followed any further, "" while it can.
        too_large: packets that were skipped for their size (SLIP only); malformed: ones with a broken escape.
    """

    def __init__(self, limit: int = MAX_PACKET) -> None:
        self.framing: Framing = "unknown"
        self.broken = ""
        self.too_large = 0
        self.malformed = 0
        self._limit = limit
        self._buffer = bytearray()
        self._skipping = False

    @property
    def partial(self) -> bool:
        """Whether a packet has begun and not ended."""
        return bool(self._buffer) or self._skipping

    @property
    def held(self) -> int:
        """Bytes held back."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are complete with these bytes; the work grows with the bytes, however they are cut."""
        if self.broken or not data:
            return []
        if self.framing == "unknown":
            self._tell_apart(data[:1])
        if self.framing == "length":
            return self._lengths(data)
        return self._slips(data) if self.framing == "slip" else []

    def _tell_apart(self, first: bytes) -> None:
        """A length below 16 MiB starts with 0, SLIP with END or (where only the tail has one) with the packet."""
        if first == b"\0":
            self.framing = "length"
        elif first in (END, b"/", b"#"):
            self.framing = "slip"
        else:
            self._break("this is no OSC stream: it starts with neither a length nor SLIP's END")

    def _break(self, why: str) -> None:
        self.broken = why
        self._buffer.clear()

    def _lengths(self, data: bytes) -> list[bytes]:
        self._buffer += data
        packets: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= 4:
            (length,) = struct.unpack_from(">i", self._buffer, start)
            if not 0 <= length <= self._limit:
                self._break(f"a packet of {length} bytes is announced, {self._limit} at most are taken")
                return packets
            if len(self._buffer) - start - 4 < length:
                break
            if length:
                packets.append(bytes(self._buffer[start + 4 : start + 4 + length]))
            start += 4 + length
        del self._buffer[:start]
        return packets

    def _slips(self, data: bytes) -> list[bytes]:
        packets = []
        *ended, rest = data.split(END)
        for part in ended:
            self._keep(part)
            if self._skipping:
                self.too_large += 1
            elif self._buffer:
                packet = self._unescape(bytes(self._buffer))
                if packet is not None:
                    packets.append(packet)
            self._buffer.clear()
            self._skipping = False
        self._keep(rest)
        return packets

    def _keep(self, part: bytes) -> None:
        """More of a SLIP packet; of one that is too large nothing is kept."""
        if self._skipping or len(self._buffer) + len(part) > 2 * self._limit:
            self._buffer.clear()
            self._skipping = True
        else:
            self._buffer += part

    def _unescape(self, frame: bytes) -> bytes | None:
        if _ESC not in frame:
            packet = frame
        else:
            first, *rest = frame.split(_ESC)
            if any(part[:1] not in (b"\xdc", b"\xdd") for part in rest):
                self.malformed += 1
                return None
            packet = first + b"".join((END if part[:1] == b"\xdc" else _ESC) + part[1:] for part in rest)
        if len(packet) > self._limit:
            self.too_large += 1
            return None
        return packet


def frame(packet: bytes, framing: Framing) -> bytes:
    """A packet as it goes into a stream; END stands on both sides of a SLIP packet."""
    if framing == "slip":
        return END + packet.replace(_ESC, _ESC_ESC).replace(END, _ESC_END) + END
    return struct.pack(">i", len(packet)) + packet
