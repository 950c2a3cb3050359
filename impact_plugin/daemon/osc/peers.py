"""Who is at the other end: transport, address and port, and the name that the core knows a client by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Transport = Literal["udp", "tcp"]

_KEY: Final = re.compile(r"osc(-tcp)?:(?:\[([0-9A-Fa-f:.%a-z]+)\]|([0-9.]+)):([0-9]{1,5})")


@dataclass(frozen=True)
class Peer:
    """An address and port that speaks OSC. host: numeric."""

    transport: Transport
    host: str
    port: int

    @property
    def client(self) -> str:
        """What the core and the journal call it: `osc:127.0.0.1:57120`, `osc-tcp:[::1]:40000`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'osc' if self.transport == 'udp' else 'osc-tcp'}:{host}:{self.port}"

    def at(self, port: int) -> Peer:
        """The same machine's UDP port."""
        return Peer("udp", self.host, port)


def peer_of(client: str) -> Peer | None:
    """The peer that :attr:`Peer.client` names; None for clients of other transports.

    A job that outlived a crash is answered this way: to the address that once asked for it.
    """
    match = _KEY.fullmatch(client)
    if match is None or not 0 < int(match[4]) < 65536:
        return None
    return Peer("tcp" if match[1] else "udp", match[2] or match[3], int(match[4]))
