"""What each address does: from a call to the core, and the answers back.

Knows the core's interface and the services. Does not know sockets: it is told where answers go by `send`. Runs in one
thread, one message after the other, so that `/impact/sync` means what it says.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from impact_plugin.daemon.events import EVENTS, DaemonEvent, JobId
from impact_plugin.daemon.ids import ALL, id_key
from impact_plugin.daemon.osc.peers import Peer
from impact_plugin.daemon.osc.replies import Reply, cut, encode, encode_fail, encode_row
from impact_plugin.daemon.osc.services import Listing, Row, Services
from impact_plugin.daemon.osc.sessions import Sessions
from impact_plugin.daemon.osc.table import (
    ADDRESSES,
    MAX_ROWS,
    PROTOCOL,
    SYNCED,
    Address,
    Call,
    read_call,
    unknown_address,
)
from impact_plugin.daemon.osc.values import read_id
from impact_plugin.daemon.osc.wire import Message
from impact_plugin.errors import ImpactError
from impact_plugin.request import Request
from impact_plugin.version import VERSION

if TYPE_CHECKING:
    from impact_plugin.daemon.core import Core

logger = logging.getLogger(__name__)

Send = Callable[[Sequence[Peer], bytes], None]
#: Bytes of a prompt in a list.
PROMPT_SIZE: Final = 400


class Caller:
    """Who sent the message that is being handled, and the way back."""

    def __init__(self, peer: Peer, entry: Address, sessions: Sessions, send: Send) -> None:
        self.peer = peer
        self.client = peer.client
        self.entry = entry
        self._sessions = sessions
        self._send = send

    def row(self, *values: Reply) -> None:
        """One answer."""
        for packet in encode_row(self.entry.reply, self.entry.rows, values):
            self._send(self._sessions.answers(self.peer), packet)

    def done(self, *values: Reply) -> None:
        """The command is through."""
        self.say(EVENTS["done"].address, self.entry.path, *values)

    def say(self, address: str, *values: Reply, to: Sequence[Peer] | None = None) -> None:
        """Any message, to where this client's answers go unless told otherwise."""
        self._send(self._sessions.answers(self.peer) if to is None else to, encode(address, values)[0])


class Handlers:
    """The methods that the table names.

    Args:
        token: what `/impact/quit` takes; port: this server's own, which nobody may subscribe.
        send: takes packets for peers from this thread, in order.

    Attributes:
        ready: the core's `ready`, once it has come: new subscribers get it.
        failures: errors that were nobody's fault but ours.
    """

    def __init__(
        self, core: Core, services: Services, sessions: Sessions, send: Send, *, token: str = "", port: int = 0
    ) -> None:
        self.ready: DaemonEvent | None = None
        self.failures = 0
        self._core = core
        self._services = services
        self._sessions = sessions
        self._send = send
        self._token = token
        self._port = port

    def handle(self, peer: Peer, message: Message) -> None:
        """Run a message and answer it. Never raises."""
        subject: JobId = message.address
        try:
            entry = ADDRESSES.get(message.address)
            if entry is None:
                raise unknown_address(message.address)
            subject = subject_of(message)
            caller = Caller(peer, entry, self._sessions, self._send)
            getattr(self, entry.handler)(caller, read_call(entry, message.arguments))
        except ImpactError as error:
            self.fail(peer, subject, error)
        except Exception as error:  # the acceptance test: no message whatever ends this thread
            self.failures += 1
            logger.exception("%s failed", message.address)
            what = f"{type(error).__name__}: {error}"
            self.fail(peer, subject, ImpactError("internal", f"{message.address} failed: {what[:200]}"))

    def fail(self, peer: Peer, subject: JobId, error: ImpactError) -> None:
        """`/impact/fail` to where the sender's answers go, and to all subscribers."""
        targets = dict.fromkeys([*self._sessions.answers(peer), *self._sessions.subscribers()])
        self._send(list(targets), encode_fail(subject, error))

    def refuse(self, peer: Peer, subject: JobId, error: ImpactError) -> None:
        """`/impact/fail` to the sender alone: what is no command of ours is nobody else's business."""
        self._send(self._sessions.answers(peer), encode_fail(subject, error))

    # Jobs

    def generate(self, caller: Caller, call: Call) -> None:
        self._submit(caller, call, "prompt", call["prompt"])

    def preset(self, caller: Caller, call: Call) -> None:
        self._submit(caller, call, "preset", call["name"])

    def edit(self, caller: Caller, call: Call) -> None:
        raise ImpactError("unsupported", f"{caller.entry.path} is not supported by this version")

    def _submit(self, caller: Caller, call: Call, key: str, value: object) -> None:
        if key in call.pairs:
            raise ImpactError("bad_argument", f"{key} is given twice: {caller.entry.usage}", key)
        self._core.submit(caller.client, call["id"], {key: value, **call.pairs}, origin="osc")
        self._sessions.submitted(caller.peer)

    def prompt(self, caller: Caller, call: Call) -> None:
        weight = 1.0 if call["weight"] is None else call["weight"]
        owner = self._owner(caller, call["id"])
        self._core.set_prompt(owner, call["id"], call["prompt"], weight)
        caller.done(call["id"])

    def cancel(self, caller: Caller, call: Call) -> None:
        if call["id"] == ALL:
            count = self._core.cancel(caller.client, ALL) + self._cancel_orphans(caller)
        else:
            count = self._core.cancel(self._owner(caller, call["id"]), call["id"])
        caller.done(call["id"], count)

    def _cancel_orphans(self, caller: Caller) -> int:
        """Jobs whose client is not there any more (its port was refused, its connection closed) are everybody's."""
        clients = {str(row["client"]) for row in self._core.queue()} - {caller.client}
        return sum(self._core.cancel(client, ALL) for client in clients if self._sessions.gone(client))

    def _owner(self, caller: Caller, job_id: JobId) -> str:
        """Whose job is meant: the caller's own, or, when it has never had one, the only one of that name.

        A script that runs `oscsend` twice is two clients to us; it must still be able to cancel what it began.

        Raises:
            ImpactError: `unknown_id` when several clients have a job of that name.
        """
        if not self._sessions.passing(caller.peer):
            return caller.client
        key = id_key(job_id)
        owners = {str(row["client"]) for row in self._core.queue() if id_key(row["id"]) == key}
        if caller.client in owners or not owners:
            return caller.client
        if len(owners) > 1:
            raise ImpactError("unknown_id", f"{len(owners)} clients have a job {job_id}: only they can say which", "id")
        return owners.pop()

    # The queue and the daemon

    def queue(self, caller: Caller, call: Call) -> None:
        rows = self._core.queue()
        for row in rows[:MAX_ROWS]:
            caller.row(*(_cell(row, field.name) for field in caller.entry.rows))
        caller.done(min(len(rows), MAX_ROWS), len(rows))

    def resume(self, caller: Caller, call: Call) -> None:
        caller.done(self._core.resume())

    def status(self, caller: Caller, call: Call) -> None:
        rows = list(self._core.status().items())[:MAX_ROWS]
        for key, value in rows:
            caller.row(key, value if isinstance(value, int | float | str) else str(value))
        caller.done(len(rows), len(rows))

    def version(self, caller: Caller, call: Call) -> None:
        caller.row(VERSION, PROTOCOL, "impact-plugin")
        caller.done()

    def help(self, caller: Caller, call: Call) -> None:
        text = (call["text"] or "").lower()
        if text == "keys":
            rows = [(key.name, f"{key.text}: {key.expects}") for key in Request.fields_help() if key.group != "edit"]
        else:
            rows = [(entry.usage, entry.text) for entry in ADDRESSES.values() if text in entry.path]
            rows += [(kind.address, kind.text) for kind in EVENTS.values() if text in kind.address]
        for usage, meaning in rows:
            caller.row(usage, meaning)
        caller.done(len(rows), len(rows))

    def ping(self, caller: Caller, call: Call) -> None:
        caller.done(*([] if call["echo"] is None else [call["echo"]]))

    def sync(self, caller: Caller, call: Call) -> None:
        caller.say(SYNCED, call["n"])

    def quit(self, caller: Caller, call: Call) -> None:
        if not ipaddress.ip_address(caller.peer.host.partition("%")[0]).is_loopback:
            raise ImpactError("unsupported", "the daemon is stopped from its own machine only")
        if not self._token or not hmac.compare_digest(call["token"].encode("utf-8", "replace"), self._token.encode()):
            raise ImpactError("bad_argument", "that is not the token of the daemon's runtime file", "token")
        if self._services.quit is None:
            raise ImpactError("unsupported", "this daemon cannot be stopped by a message")
        caller.done()
        self._services.quit()

    # Clients

    def set_default(self, caller: Caller, call: Call) -> None:
        if call["key"] == "token":  # shown before it was needed, or again
            self._sessions.show_token(caller.peer, str(call["value"]))
            caller.done("token")
            return
        value = "" if call["value"] is None else call["value"]
        self._core.set_default(caller.client, call["key"], value)
        caller.done(call["key"])

    def get_default(self, caller: Caller, call: Call) -> None:
        keys = [call["key"]] if call["key"] else [key.name for key in Request.fields_help() if key.group != "edit"]
        for key in keys:
            value = self._core.get_default(caller.client, key)
            caller.row(key, "auto" if value is None else value)
        caller.done(len(keys), len(keys))

    def notify(self, caller: Caller, call: Call) -> None:
        port = call["port"]
        if port == self._port and port:
            raise ImpactError("bad_argument", f"port {port} is the daemon's own", "port")
        before = self._sessions.answers(caller.peer)
        if not call["on"]:
            self._sessions.unsubscribe(caller.peer, port)
            caller.say(EVENTS["done"].address, caller.entry.path, 0, to=before)
            return
        target = self._sessions.subscribe(caller.peer, port, time.monotonic())
        caller.say(EVENTS["done"].address, caller.entry.path, 1, to=list({caller.peer: None, target: None}))
        if self.ready is not None:
            self._send([target], encode(self.ready.address, self.ready.arguments())[0])

    # Lists and audition

    def presets(self, caller: Caller, call: Call) -> None:
        self._list(caller, call, self._services.presets)

    def takes(self, caller: Caller, call: Call) -> None:
        self._list(caller, call, self._services.takes)

    def models(self, caller: Caller, call: Call) -> None:
        self._list(caller, call, self._services.models)

    def _list(self, caller: Caller, call: Call, listing: Listing | None) -> None:
        if listing is None:
            raise ImpactError("unsupported", f"this daemon has nothing to list for {caller.entry.path}")
        sent = total = 0
        for row in listing(call["text"] or ""):
            total += 1
            if sent < MAX_ROWS:
                caller.row(*(_cell(row, field.name) for field in caller.entry.rows))
                sent += 1
        caller.done(sent, total)

    def play(self, caller: Caller, call: Call) -> None:
        if self._services.play is None:
            raise ImpactError("unsupported", "this daemon has no audio device: start it with --audio-device NAME")
        self._services.play(self._job(caller, call["id"]), call["variant"])
        caller.done(call["id"])

    def stop(self, caller: Caller, call: Call) -> None:
        if self._services.stop is None:
            raise ImpactError("unsupported", "this daemon has no audio device: start it with --audio-device NAME")
        given = call["id"] not in (None, "", ALL)
        self._services.stop(self._job(caller, call["id"]) if given else None, call["variant"])
        caller.done(*([call["id"]] if given else []))

    def _job(self, caller: Caller, job_id: JobId) -> Row:
        """The caller's job of that name, else anybody's: listening to it does no harm."""
        try:
            return self._core.job(caller.client, job_id)
        except ImpactError as error:
            if error.code != "unknown_id":
                raise
            return self._core.job(None, job_id)


def subject_of(message: Message) -> JobId:
    """What a `fail` names: the job's id where the address has one and it can be read, else the address."""
    entry = ADDRESSES.get(message.address)
    if entry is not None and entry.arguments and entry.arguments[0].kind == "id" and message.arguments:
        try:
            return read_id(message.arguments[0]) or entry.path
        except ImpactError:
            return entry.path
    return message.address


def _cell(row: Row, name: str) -> Reply:
    """One value of a list's row, as a message can carry it."""
    value = row.get(name)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    text = str(value)
    return cut(text.encode("utf-8", "replace").decode(), PROMPT_SIZE) if name in ("prompt", "description") else text
