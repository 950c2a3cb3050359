"""Who listens: where answers and events go, how long a subscription holds, and who has shown the token.

Two kinds of clients send OSC. Most keep their port, so that an answer to the sender reaches them. Others (`oscsend`,
Csound, ChucK) send every message from a new port that nobody listens on: they name a port of theirs by
`/impact/notify 1 PORT`, and whatever comes from their machine's ports that are not known otherwise is answered there
too. Knows no sockets.
"""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from impact_plugin.daemon.osc.peers import Peer, peer_of
from impact_plugin.errors import ImpactError

#: Seconds without a word from a client (or, for a named port, from its machine) after which a subscription lapses.
LAPSE: Final = 3600.0
MAX_SUBSCRIBERS: Final = 64
#: Clients remembered; the one unheard for longest is forgotten first, and is then a new client when it comes back.
MAX_CLIENTS: Final = 2048


@dataclass
class _Client:
    """What is remembered of a sender.

    Attributes:
        jobs: how many it has had; listens: where it wants to be answered instead, if it said so.
        gone: its port refused, or its connection is closed, and it was not heard since.
    """

    jobs: int = 0
    listens: Peer | None = None
    gone: bool = False


@dataclass
class _Subscription:
    """named: by a port in `/impact/notify`, hence not tied to the port that the message came from."""

    heard: float
    named: bool


class Sessions:
    """Every method may be called from any thread.

    Args:
        token: what a client must show before it is listened to; "" = nothing.

    Attributes:
        lapsed: subscriptions that ended by themselves (refused, closed, unheard).
    """

    def __init__(self, token: str = "") -> None:
        self.lapsed = 0
        self._token = token
        self._lock = threading.Lock()
        self._clients: OrderedDict[Peer, _Client] = OrderedDict()
        self._subscriptions: dict[Peer, _Subscription] = {}
        self._trusted: OrderedDict[str, None] = OrderedDict()

    def heard(self, peer: Peer, now: float) -> None:
        """A client is there. now: seconds, never running backwards."""
        with self._lock:
            client = self._client(peer)
            client.gone = False
            for target, subscription in self._subscriptions.items():
                if target in (peer, client.listens) or (subscription.named and target.host == peer.host):
                    subscription.heard = now

    def submitted(self, peer: Peer) -> None:
        """A client has a job."""
        with self._lock:
            self._client(peer).jobs += 1

    def passing(self, peer: Peer) -> bool:
        """Whether a sender has no jobs of its own: it may be one that takes a new port for each message."""
        with self._lock:
            client = self._clients.get(peer)
            return client is None or client.jobs == 0

    def gone(self, client: str) -> bool:
        """Whether a client is known not to be there any more."""
        peer = peer_of(client)
        with self._lock:
            known = self._clients.get(peer) if peer else None
            return known is not None and known.gone

    def subscribe(self, peer: Peer, port: int | None, now: float) -> Peer:
        """Events of all jobs, to a port of the client's machine if it names one.

        Returns:
            where they will go.

        Raises:
            ImpactError: `busy` when there are too many subscribers.
        """
        with self._lock:
            target = peer if port is None else peer.at(port)
            if target not in self._subscriptions and len(self._subscriptions) >= MAX_SUBSCRIBERS:
                raise ImpactError("busy", f"there are {MAX_SUBSCRIBERS} subscribers already")
            client = self._client(peer)
            if port is None and client.listens is not None:
                self._end(client.listens)
            client.listens = None if port is None else target
            self._subscriptions[target] = _Subscription(now, port is not None)
            return target

    def unsubscribe(self, peer: Peer, port: int | None) -> None:
        """No more events; without a port, none of what this client asked for."""
        with self._lock:
            client = self._clients.get(peer)
            targets = {peer.at(port)} if port is not None else {peer}
            if port is None and client is not None and client.listens is not None:
                targets.add(client.listens)
            for target in targets:
                self._end(target)

    def subscribers(self) -> list[Peer]:
        """Everybody who gets everything."""
        with self._lock:
            return list(self._subscriptions)

    def answers(self, peer: Peer) -> list[Peer]:
        """Where answers to a message go: to its sender, or to the port it named.

        From a port that is not known otherwise, they also go to the ports that were named from that machine.
        """
        with self._lock:
            client = self._clients.get(peer)
            if client is not None and client.listens is not None:
                return [client.listens]
            known = peer in self._subscriptions or (client is not None and client.jobs > 0)
            named = [] if known else self._named(peer)
            return [peer, *(target for target in named if target != peer)]

    def _named(self, peer: Peer) -> list[Peer]:
        if peer.transport == "tcp":
            return []
        return [target for target, kind in self._subscriptions.items() if kind.named and target.host == peer.host]

    def event_targets(self, client: str) -> list[Peer]:
        """Where an event of a client's job goes: to it (as long as it is there) and to all subscribers."""
        own = peer_of(client)
        with self._lock:
            targets = dict.fromkeys(self._subscriptions)
            if own is not None:
                known = self._clients.get(own)
                if known is not None and known.listens is not None:
                    own = known.listens
                elif known is not None and known.gone:
                    own = None
            if own is not None:
                targets[own] = None
            return list(targets)

    def lost(self, peer: Peer) -> None:
        """Nobody is at that address: no more is sent there until it is heard again."""
        with self._lock:
            self.lapsed += self._end(peer)
            self._client(peer).gone = True

    def sweep(self, now: float) -> None:
        """End the subscriptions of clients that were not heard for long."""
        with self._lock:
            for target, subscription in list(self._subscriptions.items()):
                if now - subscription.heard > LAPSE:
                    self.lapsed += self._end(target)

    def trusted(self, peer: Peer) -> bool:
        """Whether a client need not show the token (any more)."""
        if not self._token:
            return True
        with self._lock:
            return self._mark(peer) in self._trusted

    def show_token(self, peer: Peer, token: str) -> None:
        """Check a token; the right one opens this connection, or for UDP this address with all its ports.

        Where none is needed, any is right.

        Raises:
            ImpactError: `bad_argument` for a wrong one.
        """
        if self._token and not hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode()):
            raise ImpactError("bad_argument", "that is not this daemon's token", "token")
        with self._lock:
            self._trusted[self._mark(peer)] = None
            while len(self._trusted) > MAX_CLIENTS:
                self._trusted.popitem(last=False)

    def forget_connection(self, peer: Peer) -> None:
        """A connection is closed: nothing can reach it, and its trust ends."""
        with self._lock:
            self.lapsed += self._end(peer)
            self._trusted.pop(self._mark(peer), None)
            client = self._clients.get(peer)
            if client is not None:
                client.gone = True

    def counts(self) -> tuple[int, int]:
        """Clients remembered, and subscriptions."""
        with self._lock:
            return len(self._clients), len(self._subscriptions)

    def _client(self, peer: Peer) -> _Client:
        client = self._clients.get(peer)
        if client is None:
            client = self._clients[peer] = _Client()
            if len(self._clients) > MAX_CLIENTS:
                self._clients.popitem(last=False)
        else:
            self._clients.move_to_end(peer)
        return client

    def _end(self, target: Peer) -> bool:
        """End a subscription; whether there was one. Clients that were answered there are answered themselves again."""
        if self._subscriptions.pop(target, None) is None:
            return False
        for client in self._clients.values():
            if client.listens == target:
                client.listens = None
        return True

    @staticmethod
    def _mark(peer: Peer) -> str:
        return peer.client if peer.transport == "tcp" else f"udp {peer.host}"
