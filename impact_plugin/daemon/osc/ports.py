"""UDP and TCP sockets on one port, and why they cannot be had."""

from __future__ import annotations

import errno
import socket
import sys

from impact_plugin.daemon.osc.tcp import MAX_CONNECTIONS
from impact_plugin.errors import ImpactError


def open_sockets(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """UDP and TCP sockets bound to the same number.

    Raises:
        ImpactError: `busy`, `bad_argument`.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, OverflowError, UnicodeError) as error:
        raise ImpactError("bad_argument", f"cannot listen on {host!r} port {port}: {error}", "host") from error
    for attempt in range(20):
        tcp = socket.socket(family, socket.SOCK_STREAM)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if sys.platform == "win32":
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(address)
            tcp.listen(MAX_CONNECTIONS)
            udp.bind((address[0], tcp.getsockname()[1], *address[2:]))
            return udp, tcp
        except (OSError, OverflowError) as error:
            tcp.close()
            udp.close()
            taken = isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", 0))
            if taken and port == 0 and attempt < 19:
                continue  # the free TCP port is somebody's UDP port
            if taken:
                text = f"port {port} of {host} is taken: is a daemon running already? --osc-port 0 takes a free one"
                raise ImpactError("busy", text, "osc_port") from error
            raise ImpactError("bad_argument", f"cannot listen on {host} port {port}: {error}", "host") from error
    raise ImpactError("busy", f"no port of {host} is free for both UDP and TCP", "osc_port")
