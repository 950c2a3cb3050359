"""The other side: one message to a running daemon, and its answers until they are complete.

Knows the table, hence which message ends what. Used by `impact send`; a UDP socket of its own, so that whatever arrives
is an answer to it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from pythonosc.parsing import osc_types

from impact_plugin.daemon.events import EVENTS, DaemonEvent, Name
from impact_plugin.daemon.ids import id_key
from impact_plugin.daemon.osc.replies import pack
from impact_plugin.daemon.osc.table import ADDRESSES, REPLY, ROOT
from impact_plugin.daemon.osc.wire import MAX_PACKET, Message, read_packet
from impact_plugin.errors import CODES, Code, ImpactError

#: Seconds without a word after which the daemon is asked whether it is there, and after which it counts as gone.
ASK: Final = 2.0
GONE: Final = 12.0
_PING: Final = f"{ROOT}/ping"
_NAMES: Final = {f"{ROOT}/{name}": name for name in get_args(Name)}


@dataclass
class Exchange:
    """What one message began, followed answer by answer.

    Attributes:
        address: what was sent; job: its job's id as text, "" while not known, or where there is none.
        over: whether the last answer has come; error: why it failed; state: of the job, at its end.
    """

    address: str
    job: str = ""
    over: bool = False
    error: ImpactError | None = None
    state: str = ""
    _queued: bool = field(default=False, init=False, repr=False)

    def take(self, message: Message) -> bool:
        """Follow an answer; False = it is not one to this message."""
        name = _NAMES.get(message.address, "")
        first = str(message.arguments[0]) if message.arguments else ""
        starts_job = self.address in ADDRESSES and ADDRESSES[self.address].ends == "job"
        if name == "done":
            mine = first == self.address
            self.over |= mine and not starts_job
            return mine
        if name == "fail":
            return self._failed(first, message, starts_job)
        if starts_job and name == "queued" and not self._queued and (not self.job or first == self.job):
            self.job, self._queued = first, True
        if name == "end" and first == self.job:
            self.over = True
            self.state = str(message.arguments[1]) if len(message.arguments) > 1 else ""
        elif message.address == f"{ROOT}/synced":
            self.over |= self.address == f"{ROOT}/sync"
        return True

    def _failed(self, subject: str, message: Message, starts_job: bool) -> bool:
        if subject not in (self.address, self.job, "#bundle", "#packet"):
            return False
        code, text = [*(str(value) for value in message.arguments[1:3]), "", ""][:2]
        known: Code = code if code in CODES else "internal"  # type: ignore[assignment]
        self.error = ImpactError(known, text or code)
        self.over |= not (starts_job and self._queued)
        return True

    @property
    def exit_status(self) -> int:
        """0 when all went well, 2 when what was asked for was wrong, 1 else."""
        if self.error is not None and self.state not in ("ok", "cancelled"):
            return self.error.exit_status
        return 0 if self.over and self.state in ("", "ok") else 1


def exchange(
    address: str, arguments: Sequence[str], *, host: str, port: int, token: str = "", timeout: float | None = None
) -> Iterator[tuple[Message, Exchange]]:
    """Send a message and yield its answers, each with how things stand, until they are complete.

    Args:
        arguments: sent as text; the daemon reads numbers out of it, exactly.
        token: is shown first, if there is one; a daemon on loopback asks for none.
        timeout: seconds in all, None = as long as the daemon lives.

    Raises:
        ImpactError: `internal` when nothing answers (any more) or time is up, `bad_argument` for what OSC cannot carry.
    """
    entry = ADDRESSES.get(address)
    has_id = entry is not None and bool(entry.arguments) and entry.arguments[0].kind == "id"
    state = Exchange(address, _id_text(arguments[0]) if has_id and arguments else "")
    where = f"{host}:{port}"
    with _connected(host, port) as sock:
        if token:
            _show_token(sock, token, where)
        sock.send(_packed(address, arguments))
        began = heard = asked = time.monotonic()
        while not state.over:
            now = time.monotonic()
            if timeout is not None and now - began >= timeout:
                raise ImpactError("internal", f"no end after {timeout:g} s" + _goes_on(state))
            if now - heard >= GONE:
                raise ImpactError("internal", f"nothing answers at {where}: is `impact serve` running?")
            if now - max(heard, asked) >= ASK:
                asked = now
                sock.send(_packed(_PING, []))
            left = ASK if timeout is None else min(ASK, began + timeout - now)
            for message in _receive(sock, left, where):
                heard = time.monotonic()
                if state.take(message):
                    yield message, state


def _show_token(sock: socket.socket, token: str, where: str) -> None:
    showing = Exchange(f"{ROOT}/set")
    sock.send(_packed(showing.address, ["token", token]))
    until = time.monotonic() + GONE
    while not showing.over and time.monotonic() < until:
        for message in _receive(sock, ASK, where):
            showing.take(message)
    if showing.error is not None:
        raise showing.error
    if not showing.over:
        raise ImpactError("internal", f"nothing answers at {where}: is `impact serve` running?")


def row(message: Message) -> dict[str, Any]:
    """A reply as JSON: events have the contract's field names, rows of lists the table's."""
    values = list(message.arguments)
    name = _NAMES.get(message.address)
    if name is not None:
        kind = EVENTS[name]
        plain = tuple(value for value in values if isinstance(value, str | int | float))
        job = plain[0] if kind.subject is not None and plain and not isinstance(plain[0], float) else None
        event = DaemonEvent(kind.name, job, plain if kind.subject is None else plain[1:])
        return {key: value for key, value in event.as_json().items() if key != "client"}
    entry = ADDRESSES.get(message.address.removesuffix(REPLY))
    if entry is not None and message.address.endswith(REPLY) and len(values) == len(entry.rows):
        return {"reply": entry.path, **{field.name: value for field, value in zip(entry.rows, values, strict=True)}}
    return {"reply": message.address, "values": values}


def _id_text(given: str) -> str:
    try:
        return id_key(given)
    except ImpactError:  # the daemon says what is wrong with it
        return given


def _goes_on(state: Exchange) -> str:
    return f"; the job goes on: `impact send {ROOT}/cancel {state.job}` stops it" if state.job else ""


def _connected(host: str, port: int) -> socket.socket:
    """A socket that hears the daemon only, and that learns when nobody listens there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.connect(address)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ImpactError("bad_argument", f"cannot send to {host!r} port {port}: {error}", "host") from error
    return sock


def _packed(address: str, arguments: Sequence[str]) -> bytes:
    if not address.startswith("/") or "\0" in "".join([address, *arguments]):
        raise ImpactError("bad_argument", f"an OSC address starts with /, as in {ROOT}/status", "address")
    try:
        packet = pack(address, arguments)
    except osc_types.BuildError as error:
        raise ImpactError("bad_argument", "the arguments must be valid Unicode text") from error
    if len(packet) > MAX_PACKET - 28:  # what IP and UDP put before it
        raise ImpactError("too_large", f"the message has {len(packet)} bytes, more than a datagram holds")
    return packet


def _receive(sock: socket.socket, seconds: float, where: str) -> list[Message]:
    """What arrives within the time, or nothing."""
    sock.settimeout(max(0.001, seconds))
    try:
        return read_packet(sock.recv(MAX_PACKET), time.time()).messages
    except (TimeoutError, BlockingIOError):
        return []
    except ConnectionError as error:
        raise ImpactError("internal", f"no daemon listens at {where}: start one with `impact serve`") from error
