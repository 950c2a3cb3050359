"""The UDP socket: datagrams in and out, never blocking, and what the system tells beside them.

Where the system says so (Linux), datagrams that it dropped are counted and ports that nobody listens on are named, so
that subscribers who went away are noticed. Elsewhere both stay unknown. Knows no OSC.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from typing import Final

from impact_plugin.daemon.osc.peers import Peer

#: Bytes that the system is asked to keep for us, the first that it grants.
RECEIVE_BUFFERS: Final = (4 << 20, 1 << 20, 1 << 18)
_SIZE: Final = 65_536
# Linux's numbers; Python's socket module does not have all of them.
_SO_RXQ_OVFL: Final = 40
_RECVERR: Final = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
_REFUSED: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET})
_ATTEMPTS: Final = 16


class UdpSocket:
    """A bound socket.

    Attributes:
        socket: for the event loop to watch.
        refused: peers that datagrams could not be delivered to, since they were last taken from here.
        overflow: datagrams that the system dropped because they were not fetched in time.
        unsent: datagrams that could not be sent.
    """

    def __init__(self, bound: socket.socket) -> None:
        self.socket = bound
        self.refused: list[Peer] = []
        self.overflow = 0
        self.unsent = 0
        bound.setblocking(False)
        for size in RECEIVE_BUFFERS:
            with contextlib.suppress(OSError):
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
                break
        self._errors = False
        self._counts = False
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                bound.setsockopt(*_RECVERR[bound.family], 1)
                self._errors = True
            with contextlib.suppress(OSError):
                bound.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
                self._counts = True

    def receive(self) -> tuple[bytes, Peer] | None:
        """The next datagram, None when there is none now."""
        for _ in range(_ATTEMPTS):
            try:
                data, address = self._receive()
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # an earlier datagram was refused; Windows and Linux tell it here
                self.collect_errors()
                continue
            if len(data) < _SIZE:
                return data, Peer("udp", address[0], address[1])
        self.collect_errors()
        return None

    def _receive(self) -> tuple[bytes, tuple[str, int]]:
        if not self._counts:
            data, address = self.socket.recvfrom(_SIZE)
            return data, address[:2]
        data, ancillary, _, address = self.socket.recvmsg(_SIZE, 64)
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                self.overflow = int.from_bytes(value[:4], sys.byteorder)
        return data, address[:2]

    def send(self, packet: bytes, peer: Peer) -> bool:
        """Send, or count that it could not be.

        Returns:
            False when the system has no room now: try again a little later.
        """
        for _ in range(2):  # the first error may be an earlier datagram's
            try:
                self.socket.sendto(packet, (peer.host, peer.port))
                return True
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                self.collect_errors()
                if error.errno not in _REFUSED:
                    break
        self.unsent += 1
        return True

    def collect_errors(self) -> None:
        """Read which peers refused; without this Linux would report the socket as readable for ever."""
        if not self._errors:
            return
        for _ in range(_ATTEMPTS):
            try:
                _, ancillary, _, address = self.socket.recvmsg(1, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, value in ancillary:
                if (level, kind) == _RECVERR[self.socket.family]:
                    code = int.from_bytes(value[:4], sys.byteorder)  # sock_extended_err begins with its errno
                    if code in _REFUSED and address:
                        self.refused.append(Peer("udp", address[0], address[1]))
