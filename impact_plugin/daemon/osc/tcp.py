"""One TCP connection: packets out of its stream, answers back into it, and an end to clients that misbehave.

A client that sends faster than its messages are taken in is not read any further until there is room: over TCP nothing
is dropped. One that does not read its answers, or leaves a packet unfinished, is disconnected. Knows no OSC.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final, Generic, Protocol, TypeVar, cast

from impact_plugin.daemon.osc.framing import Framer, frame
from impact_plugin.daemon.osc.peers import Peer
from impact_plugin.errors import ImpactError

MAX_CONNECTIONS: Final = 64
#: Bytes read at once, and packets handled, before others get their turn.
CHUNK: Final = 8192
TURN: Final = 32
#: Bytes of answers that wait for a client to read them.
MAX_UNREAD: Final = 1 << 20
#: Seconds that a packet may take to arrive, and that a connection may stay without a first one.
UNFINISHED: Final = 30.0
#: Seconds of silence after which a connection without a subscription is closed.
SILENT: Final = 3600.0
_RETRY: Final = 0.01

Work = TypeVar("Work")


class Owner(Protocol[Work]):
    """Whoever the packets are for."""

    def connected(self, connection: Connection[Work]) -> bool:
        """A connection is there; False = it is one too many."""

    def disconnected(self, connection: Connection[Work]) -> None: ...

    def read(self, peer: Peer, packet: bytes) -> Work | None:
        """What a packet asks for, None when nothing is left to be done. Never raises."""

    def take_in(self, peer: Peer, work: Work) -> bool:
        """Queue it; False = there is no room now."""

    def refuse(self, peer: Peer, subject: str, error: ImpactError) -> None: ...


class Connection(asyncio.BufferedProtocol, Generic[Work]):
    """One connection, in the event loop's thread.

    Attributes:
        peer: the other end, from when it is made; slow: whether it was closed because it did not read.
    """

    def __init__(self, owner: Owner[Work]) -> None:
        self.peer = Peer("tcp", "0.0.0.0", 0)
        self.slow = False
        self._owner = owner
        self._framer = Framer()
        self._packets: deque[bytes] = deque()
        self._held: Work | None = None
        self._chunk = bytearray(CHUNK)
        self._transport: asyncio.Transport | None = None
        self._pumping = False
        self._told_large = 0
        self._began = time.monotonic()
        self._heard = self._began
        self._spoke = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.peer = Peer("tcp", name[0], name[1]) if name else self.peer
        if not self._owner.connected(self):
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._owner.disconnected(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._chunk

    def buffer_updated(self, nbytes: int) -> None:
        began = self._framer.partial
        packets = self._framer.feed(bytes(self._chunk[:nbytes]))
        now = time.monotonic()
        if packets or not began:
            self._began = now
        if packets:
            self._heard, self._spoke = now, True
            self._packets.extend(packets)
        if not self._pumping:
            self._pump()

    def _pump(self) -> None:
        """Hand on what has arrived, a few packets a turn; reading waits until they are through."""
        self._pumping = False
        for _ in range(TURN):
            if self._held is not None:
                if not self._owner.take_in(self.peer, self._held):
                    self._again(_RETRY)
                    return
                self._held = None
            if not self._packets:
                break
            self._held = self._owner.read(self.peer, self._packets.popleft())
        if self._packets or self._held is not None:
            self._again(0.0)
            return
        self._complain()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _again(self, seconds: float) -> None:
        self._pumping = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        asyncio.get_running_loop().call_later(seconds, self._pump)

    def _complain(self) -> None:
        """Tell what the framer could not follow."""
        framer = self._framer
        if framer.too_large + framer.malformed > self._told_large:
            self._told_large = framer.too_large + framer.malformed
            error = ImpactError("too_large", "a SLIP packet was larger than 65535 bytes or had a broken escape")
            self._owner.refuse(self.peer, "#packet", error)
        if framer.broken:
            self._owner.refuse(self.peer, "#stream", ImpactError("bad_argument", f"{framer.broken}: closing"))
            self.close()

    def send(self, packet: bytes) -> bool:
        """Send a packet the way this client sends its own; False = it is gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size() > MAX_UNREAD:
            self.slow = True
            self._transport.abort()
            return False
        self._transport.write(frame(packet, self._framer.framing))
        return True

    def overdue(self, now: float, subscribed: bool) -> bool:
        """Whether it has been waited for long enough. now: of `time.monotonic`."""
        if (self._framer.partial or not self._spoke) and now - self._began > UNFINISHED:
            return True
        return not subscribed and now - self._heard > SILENT

    def abort(self) -> None:
        """Cut it off."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close, once what was sent is through; told a second time, do not wait for that."""
        if self._transport is None:
            return
        if self._transport.is_closing():
            self._transport.abort()
        self._transport.close()
