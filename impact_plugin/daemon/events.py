"""What the daemon tells: one table of events and their fields, for OSC, HTTP, WebSocket and the documents.

Knows names, order, OSC type tags and meaning of every field of the contract. Does not know transports: they turn a
:class:`DaemonEvent` into their own form by :meth:`DaemonEvent.arguments` or :meth:`DaemonEvent.as_json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

JobId = str | int
Value = str | int | float
Name = Literal["queued", "start", "progress", "preview", "result", "end", "fail", "done", "ready"]
Tag = Literal["i", "f", "s"]

#: How a job ends.
STATES: Final = ("ok", "cancelled", "failed")


@dataclass(frozen=True)
class EventField:
    """One field. name: in JSON; tag: its OSC type; text: what it says."""

    name: str
    tag: Tag
    text: str


@dataclass(frozen=True)
class EventKind:
    """One kind of event.

    Attributes:
        subject: name and meaning of what comes first, the job's id as a rule; None = the event is about no job.
        fields: what follows, in the contract's order.
        text: when it is sent.
    """

    name: Name
    subject: EventField | None
    fields: tuple[EventField, ...]
    text: str

    @property
    def address(self) -> str:
        """Its OSC address."""
        return f"/impact/{self.name}"


_ID: Final = EventField("id", "s", "the job's id as its client gave it, string or number")


def _kind(name: Name, text: str, *fields: EventField, subject: EventField | None = _ID) -> EventKind:
    return EventKind(name, subject, fields, text)


EVENTS: Final[Mapping[str, EventKind]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            _kind(
                "queued",
                "the job is accepted and on disk",
                EventField("position", "i", "jobs that wait or run before it"),
            ),
            _kind(
                "start",
                "its first iteration begins",
                EventField("seed", "i", "seed of variant 0"),
                EventField("variants", "i", "how many takes"),
                EventField("seconds", "f", "length of each"),
            ),
            _kind(
                "progress",
                "an iteration is done",
                EventField("iteration", "i", "how many are done"),
                EventField("iterations", "i", "of how many"),
                EventField("fraction", "f", "0...1"),
                EventField("seconds_left", "f", "an estimate, the writing of the takes included"),
            ),
            _kind(
                "preview",
                "the whole sound as it stands, in a file that is complete",
                EventField("variant", "i", "which take, from 0"),
                EventField("iteration", "i", "after how many iterations"),
                EventField("path", "s", "a WAV file; it is kept for a while only"),
                EventField("seconds", "f", "its length"),
            ),
            _kind(
                "result",
                "a finished take, complete on disk",
                EventField("variant", "i", "which take, from 0"),
                EventField("path", "s", "its file"),
                EventField("seconds", "f", "its length"),
                EventField("rate", "i", "its sample rate, hz"),
                EventField("seed", "i", "the take's own seed"),
            ),
            _kind(
                "end",
                "the job is over: exactly once for each accepted job, always last",
                EventField("state", "s", "one of " + ", ".join(STATES)),
            ),
            _kind(
                "fail",
                "something could not be done",
                EventField("code", "s", "one of the contract's codes"),
                EventField("text", "s", "one line: what is wrong and what to do next"),
                subject=EventField("id", "s", "the job's id, or the address that was called"),
            ),
            _kind(
                "done",
                "closes a list, or a command that starts no job; what follows depends on the command",
                EventField("command", "s", "the address that was called"),
                subject=None,
            ),
            _kind(
                "ready",
                "the model is warm; also sent to each new subscriber",
                EventField("version", "s", "of the program"),
                EventField("model", "s", "name of the bundle"),
                EventField("device", "s", "where it runs"),
                EventField("rate", "i", "the model's own sample rate, hz"),
                subject=None,
            ),
        )
    }
)


@dataclass(frozen=True)
class DaemonEvent:
    """Something that happened.

    Attributes:
        name: a key of :data:`EVENTS`.
        job: the job's id (an address for some `fail`), None for `done` and `ready`.
        values: the fields after the id, in the table's order; `done` may carry more than its one field.
        client: whose job it is; "" when it is nobody's.
    """

    name: Name
    job: JobId | None
    values: tuple[Value, ...]
    client: str = ""

    @property
    def kind(self) -> EventKind:
        return EVENTS[self.name]

    @property
    def address(self) -> str:
        """Its OSC address."""
        return self.kind.address

    def arguments(self) -> list[Value]:
        """The OSC arguments: the id first, numbers as the table's types (an id stays what its client sent)."""
        cast = {"i": int, "f": float, "s": str}
        fields = self.kind.fields
        values: list[Value] = [
            cast[fields[place].tag](value) if place < len(fields) else value for place, value in enumerate(self.values)
        ]
        return values if self.job is None else [self.job, *values]

    def as_json(self) -> dict[str, Any]:
        """The event with the contract's field names, plus `event` (its name) and `client`."""
        row: dict[str, Any] = {"event": self.name}
        if self.job is not None:
            row["id"] = self.job
        fields = self.kind.fields
        row.update(zip((field.name for field in fields), self.values, strict=False))
        if len(self.values) > len(fields):
            row["more"] = list(self.values[len(fields) :])
        row["client"] = self.client
        return row
