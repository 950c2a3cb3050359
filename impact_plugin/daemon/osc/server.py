"""The OSC server: UDP and TCP on one port, one thread for the sockets, one for the messages.

The socket thread reads, parses and answers what must be answered at once (`/impact/ping`, refusals); all else goes
through one bounded queue to the message thread, which calls the core and may wait for its disk. What comes back, from
whatever thread, is sent by the socket thread. Knows sockets and threads; what messages mean is the handlers' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from impact_plugin.daemon.events import DaemonEvent, JobId
from impact_plugin.daemon.osc.handlers import Handlers, subject_of
from impact_plugin.daemon.osc.intake import Intake
from impact_plugin.daemon.osc.limiter import Limiter
from impact_plugin.daemon.osc.peers import Peer
from impact_plugin.daemon.osc.ports import open_sockets
from impact_plugin.daemon.osc.replies import encode_event
from impact_plugin.daemon.osc.services import Services
from impact_plugin.daemon.osc.sessions import Sessions
from impact_plugin.daemon.osc.table import ADDRESSES, REPLIES, unknown_address
from impact_plugin.daemon.osc.tcp import MAX_CONNECTIONS, Connection
from impact_plugin.daemon.osc.udp import UdpSocket
from impact_plugin.daemon.osc.wire import Message, read_packet
from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from impact_plugin.daemon.core import Core

logger = logging.getLogger(__name__)

DEFAULT_PORT: Final = 9800
#: Datagrams read, and messages sent, before others get their turn.
TURN: Final = 64
#: Messages that wait to be sent; above it progress is dropped, far above it everything.
OUTBOX: Final = 4096
#: Messages of time-tagged bundles that wait for their time.
WAITING: Final = 256
SWEEP: Final = 5.0
_SEND_AGAIN: Final = 0.005

Packets = tuple[Sequence[Peer], bytes]
Batch = list[Message]


@dataclass
class Counters:
    """What has come and gone.

    Attributes:
        received: packets; messages: those taken in; refused: what could not be read or is unknown or not trusted.
        dropped: messages for which there was no room; echoed: our own messages, come back.
        unsent: messages that were not sent because too many were waiting; connections: refused or cut off.
    """

    received: int = 0
    messages: int = 0
    refused: int = 0
    dropped: int = 0
    echoed: int = 0
    unsent: int = 0
    connections: int = 0


class OscServer:
    """One server. `start`, then `stop`; both from any thread but its own.

    Args:
        host, port: where it listens; port 0 takes a free one.
        token: what `/impact/quit` takes, and what clients must show when `host` is not loopback.
        intake: the queue to the message thread.

    Attributes:
        port: the real one, once started; open_to_others: whether the host is not loopback, so that a token is needed.
    """

    def __init__(
        self,
        core: Core,
        services: Services | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        token: str = "",
        intake: Intake[tuple[Peer, Message]] | None = None,
    ) -> None:
        self.counters = Counters()
        self.port = port
        self.host = host
        self.open_to_others = False
        self._core = core
        self._services = services or Services()
        self._token = token
        self._intake: Intake[tuple[Peer, Message]] = intake or Intake()
        self._limiter = Limiter()
        self._outbox: deque[Packets | DaemonEvent] = deque()
        self._outbox_lock = threading.Lock()
        self._flushing = False
        self._waiting = 0
        self._connections: dict[Peer, Connection[list[Batch]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Listen, and answer from now on.

        Raises:
            ImpactError: `busy` (the port is taken), `bad_argument` (a host or port that cannot be had, no token).
        """
        udp, tcp = open_sockets(self.host, self.port)
        self.port = udp.getsockname()[1]
        self.open_to_others = not ipaddress.ip_address(udp.getsockname()[0].partition("%")[0]).is_loopback
        if self.open_to_others and not self._token:
            udp.close()
            tcp.close()
            raise ImpactError("bad_argument", f"a token is needed to listen on {self.host}, which others can reach")
        if self.open_to_others:
            logger.warning("listening on %s: other machines can reach this port, with the token", self.host)
        self._sessions = Sessions(self._token if self.open_to_others else "")
        self._handlers = Handlers(
            self._core, self._services, self._sessions, self.send, token=self._token, port=self.port
        )
        self._udp = UdpSocket(udp)
        self._tcp = tcp
        self._loop = asyncio.SelectorEventLoop()
        self._started = threading.Event()
        self._unsubscribe = self._core.subscribe(self._hear)
        self._threads = [
            threading.Thread(target=self._run_sockets, name="osc-sockets", daemon=True),
            threading.Thread(target=self._run_messages, name="osc-messages", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._started.wait()
        for key, value in self._figures().items():
            self._core.add_status(key, value)

    def stop(self) -> None:
        """Handle what is queued, send what is waiting, close."""
        if self._loop is None:
            return
        self._intake.close()
        self._threads[1].join(10.0)
        self._unsubscribe()
        self._loop.call_soon_threadsafe(self._finish)
        self._threads[0].join(10.0)
        self._loop = None

    def _figures(self) -> dict[str, Any]:
        return {
            "osc_port": lambda: self.port,
            "osc_received": lambda: self.counters.received,
            "osc_refused": lambda: self.counters.refused,
            "osc_dropped": lambda: self.dropped,
            "osc_unsent": lambda: self.counters.unsent + self._udp.unsent,
            "osc_subscribers": lambda: self._sessions.counts()[1],
        }

    @property
    def dropped(self) -> int:
        """Messages and datagrams that were lost for want of room, those that the system dropped among them."""
        return self.counters.dropped + self._udp.overflow

    # The message thread

    def _run_messages(self) -> None:
        while (item := self._intake.get()) is not None:
            self._handlers.handle(*item)

    def _hear(self, event: DaemonEvent) -> None:
        """The core's events, from its threads."""
        if event.name == "ready":
            self._handlers.ready = event
        self._enqueue(event, droppable=event.name == "progress")

    def send(self, peers: Sequence[Peer], packet: bytes) -> None:
        """Send a packet; from any thread, in order."""
        if peers:
            self._enqueue((peers, packet))

    def _enqueue(self, item: Packets | DaemonEvent, droppable: bool = False) -> None:
        loop = self._loop
        with self._outbox_lock:
            if loop is None or len(self._outbox) >= (OUTBOX if droppable else 4 * OUTBOX):
                self.counters.unsent += 1
                return
            self._outbox.append(item)
            if self._flushing:
                return
            self._flushing = True
        with contextlib.suppress(RuntimeError):  # the loop has ended a moment ago
            loop.call_soon_threadsafe(self._flush)

    # The socket thread

    def _run_sockets(self) -> None:
        loop = self._loop
        if loop is None:
            return
        asyncio.set_event_loop(loop)
        listening = loop.run_until_complete(loop.create_server(lambda: Connection(self), sock=self._tcp))
        loop.add_reader(self._udp.socket, self._receive)
        loop.call_later(SWEEP, self._sweep)
        loop.call_soon(self._started.set)
        try:
            loop.run_forever()
        finally:
            loop.remove_reader(self._udp.socket)
            self._udp.socket.close()
            listening.close()
            loop.run_until_complete(self._hang_up())
            loop.close()

    async def _hang_up(self) -> None:
        """Close the connections: those that read get what was sent, the others are cut off."""
        for connection in list(self._connections.values()):
            connection.close()
        until = time.monotonic() + 1.0
        while self._connections and time.monotonic() < until:
            await asyncio.sleep(0.01)
        for connection in list(self._connections.values()):
            connection.abort()
        await asyncio.sleep(0)

    def _finish(self) -> None:
        """Send what is left, then end the loop."""
        self._flush(turn=4 * OUTBOX)
        if self._loop is not None:
            self._loop.stop()

    def _receive(self) -> None:
        for _ in range(TURN):
            found = self._udp.receive()
            if found is None:
                break
            packet, peer = found
            batches = self.read(peer, packet)
            if batches and not self.take_in(peer, batches):
                self._drop(peer, batches)
        self._note_refused()

    def _note_refused(self) -> None:
        for peer in self._udp.refused:
            self._sessions.lost(peer)
        self._udp.refused.clear()

    def read(self, peer: Peer, packet: bytes) -> list[Batch] | None:
        """What a packet asks for: lists of messages to be run together, the ones that wait already taken care of."""
        self.counters.received += 1
        reading = read_packet(packet, time.time())
        for refusal in reading.refusals:
            self.refuse(peer, refusal.address, refusal.error)
        batches: dict[float, Batch] = {}
        for message in reading.messages:
            if self._admit(peer, message):
                self.counters.messages += 1
                if message.address == "/impact/ping" and not message.delay:
                    self._handlers.handle(peer, message)
                else:
                    batches.setdefault(message.delay, []).append(message)
        for delay, batch in batches.items():
            if delay > 0:
                self._wait(peer, delay, batch)
        now = batches.get(0.0)
        return [now] if now else None

    def _admit(self, peer: Peer, message: Message) -> bool:
        """Whether a message is one for the handlers; all others are dealt with here, and cheaply."""
        if message.address in REPLIES:
            self.counters.echoed += 1
            return False
        if not self._sessions.trusted(peer):
            self._ask_for_token(peer, message)
            return False
        if message.address not in ADDRESSES:
            self.refuse(peer, message.address[:64], unknown_address(message.address))
            return False
        self._sessions.heard(peer, time.monotonic())
        return True

    def _ask_for_token(self, peer: Peer, message: Message) -> None:
        arguments = message.arguments
        if message.address != "/impact/set" or len(arguments) != 2 or arguments[0] != "token":
            error = ImpactError(
                "bad_argument", "first send /impact/set token TOKEN, with the token of the daemon's runtime file"
            )
            self.refuse(peer, message.address[:64], error)
        elif self._limiter.allow(f"token {peer.host}", time.monotonic()):  # so that it cannot be guessed
            self._handlers.handle(peer, message)

    def _wait(self, peer: Peer, delay: float, batch: Batch) -> None:
        if self._loop is None or self._waiting + len(batch) > WAITING:
            self._drop(peer, [batch])
            return
        self._waiting += len(batch)
        self._loop.call_later(delay, self._due, peer, batch)

    def _due(self, peer: Peer, batch: Batch) -> None:
        self._waiting -= len(batch)
        if not self.take_in(peer, [batch]):
            self._drop(peer, [batch])

    def take_in(self, peer: Peer, work: list[Batch]) -> bool:
        """Queue messages for the handlers, all or none; False = there is no room now."""
        return self._intake.put(peer.client, [(peer, message) for batch in work for message in batch])

    def _drop(self, peer: Peer, work: list[Batch]) -> None:
        for batch in work:
            for message in batch:
                self.counters.dropped += 1
                error = ImpactError(
                    "busy", f"too many messages at once: {self.dropped} are lost so far; /impact/sync paces a client"
                )
                self._fail(peer, subject_of(message), error)

    def refuse(self, peer: Peer, subject: JobId, error: ImpactError) -> None:
        """Count what cannot be taken, and say so as long as it is not too often."""
        self.counters.refused += 1
        self._fail(peer, subject, error)

    def _fail(self, peer: Peer, subject: JobId, error: ImpactError) -> None:
        if self._limiter.allow(peer.client, time.monotonic()):
            self._handlers.refuse(peer, subject, error)

    def connected(self, connection: Connection[list[Batch]]) -> bool:
        """A TCP client is there."""
        if len(self._connections) >= MAX_CONNECTIONS:
            self.counters.connections += 1
            return False
        self._connections[connection.peer] = connection
        return True

    def disconnected(self, connection: Connection[list[Batch]]) -> None:
        """A TCP client is gone."""
        if self._connections.get(connection.peer) is connection:
            del self._connections[connection.peer]
            self._sessions.forget_connection(connection.peer)
        self.counters.connections += connection.slow

    def _flush(self, turn: int = TURN) -> None:
        for _ in range(turn):
            with self._outbox_lock:
                if not self._outbox:
                    self._flushing = False
                    break
                item = self._outbox.popleft()
            left = self._deliver(item)
            if left:
                with self._outbox_lock:
                    self._outbox.extendleft(reversed(left))
                if self._loop is not None:
                    self._loop.call_later(_SEND_AGAIN, self._flush)
                return
        else:
            if self._loop is not None:
                self._loop.call_soon(self._flush)
        self._note_refused()

    def _deliver(self, item: Packets | DaemonEvent) -> list[Packets]:
        """Send; gives back what the system had no room for."""
        if isinstance(item, DaemonEvent):
            targets = self._sessions.event_targets(item.client)
            parcels: list[Packets] = [(targets, packet) for packet in encode_event(item)] if targets else []
        else:
            parcels = [item]
        for index, (peers, packet) in enumerate(parcels):
            for place, peer in enumerate(peers):
                if peer.transport == "tcp":
                    connection = self._connections.get(peer)
                    if connection is not None:
                        connection.send(packet)
                elif not self._udp.send(packet, peer):
                    return [(peers[place:], packet), *parcels[index + 1 :]]
        return []

    def _sweep(self) -> None:
        """Now and then: subscriptions that lapsed, connections that hang."""
        now = time.monotonic()
        self._sessions.sweep(now)
        subscribers = set(self._sessions.subscribers())
        for connection in list(self._connections.values()):
            if connection.overdue(now, connection.peer in subscribers):
                self.counters.connections += 1
                connection.close()
        if self._loop is not None:
            self._loop.call_later(SWEEP, self._sweep)
