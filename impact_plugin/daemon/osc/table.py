"""The table of addresses: what a client may send, what it gets back, in which order, and what it means.

This one table drives dispatch, `/impact/help`, `docs/osc.md` and the OSCQuery description; `handler` is the name of a
method of :class:`~impact_plugin.daemon.osc.handlers.Handlers`. Knows no sockets and no core. What the daemon tells by
itself (queued, start, progress ...) is the table of :mod:`impact_plugin.daemon.events`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from impact_plugin.daemon.events import EVENTS, EventField
from impact_plugin.daemon.ids import MAX_LENGTH
from impact_plugin.daemon.osc.values import read_id, shown
from impact_plugin.errors import ImpactError
from impact_plugin.request import Flag, Number, Whole, Word, pairs_to_mapping

#: Number of this protocol: it grows when a client that knew the earlier one would go wrong.
PROTOCOL: Final = 1
ROOT: Final = "/impact"
#: What the answers of an address come on; no address that is taken in ends so, hence answers can never be commands.
REPLY: Final = ".reply"
#: Most rows that a list sends; `done` tells how many there are.
MAX_ROWS: Final = 200

Kind = Literal["id", "text", "whole", "number", "flag", "any"]

_READERS: Final[Mapping[str, TypeAdapter[Any]]] = MappingProxyType(
    {
        "text": TypeAdapter(Word),
        "whole": TypeAdapter(Whole),
        "number": TypeAdapter(Number),
        "flag": TypeAdapter(Flag),
    }
)
_EXPECTED: Final = {"text": "text", "whole": "a whole number", "number": "a number", "flag": "0 or 1"}


@dataclass(frozen=True)
class Argument:
    """One argument. kind: what it is read as (numbers also come as floats or text); low, high: limits of a number."""

    name: str
    kind: Kind
    text: str
    optional: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def tag(self) -> str:
        """The OSC type tag that fits it best."""
        return {"whole": "i", "flag": "i", "number": "f"}.get(self.kind, "s")

    @property
    def expects(self) -> str:
        words = {
            "id": f"a whole number or text of at most {MAX_LENGTH} characters",
            "any": "a number or text",
        }.get(self.kind) or _EXPECTED[self.kind]
        return words if self.low is None else f"{words} from {self.low:.10g} to {self.high:.10g}"

    def read(self, value: object) -> Any:
        """The value as this argument takes it.

        Raises:
            ImpactError: `bad_argument`.
        """
        if self.kind == "id":
            return read_id(value)
        if self.kind == "any":
            return value
        try:
            found = _READERS[self.kind].validate_python(value)
        except ValidationError:
            found = None
        if found is None or (self.low is not None and self.high is not None and not self.low <= found <= self.high):
            raise ImpactError("bad_argument", f"{self.name} must be {self.expects}, not {shown(value)}", self.name)
        return found


@dataclass(frozen=True)
class Address:
    """One address.

    Attributes:
        path: exactly as it must be sent; handler: who runs it; arguments: in their order, optional ones last.
        text: what it does; pairs: whether `key value` pairs may follow.
        rows: fields of each answer on `path.reply`, () when it has none.
        ends: how a client sees that it is through: "done", "job" (the events of a job, up to `end`) or an address.
        access: OSCQuery's number: 1 = it is asked, 2 = it is told, 3 = both.
    """

    path: str
    handler: str
    arguments: tuple[Argument, ...]
    text: str
    pairs: bool = False
    rows: tuple[EventField, ...] = ()
    ends: str = "done"
    access: int = 2

    @property
    def usage(self) -> str:
        """`/impact/prompt id prompt [weight]`."""
        words = [f"[{argument.name}]" if argument.optional else argument.name for argument in self.arguments]
        return " ".join([self.path, *words, *(["[key value]..."] if self.pairs else [])])

    @property
    def reply(self) -> str:
        """The address of its answers."""
        return self.path + REPLY


@dataclass(frozen=True)
class Call:
    """A message understood. values: every argument of the table by name, None = not given; pairs: what followed."""

    address: Address
    values: dict[str, Any]
    pairs: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


_ID = Argument("id", "id", 'the job: your own number or text; "" lets the daemon choose one')
_JOB = Argument("id", "id", "a job of yours")
_TEXT = Argument("text", "text", "only rows that hold these words", optional=True)
_TAKE = Argument("take", "text", "a take or a sound file")


def _field(name: str, tag: Literal["i", "f", "s"], text: str) -> EventField:
    return EventField(name, tag, text)


def _addresses() -> tuple[Address, ...]:
    edits = {
        "vary": "more sounds like this one",
        "inpaint": "make a part of it anew",
        "extend": "make it longer",
        "loop": "make it repeat without a seam",
        "morph": "go from this sound to another",
    }
    return (
        Address(
            "/impact/generate",
            "generate",
            (_ID, Argument("prompt", "any", "what is to be heard")),
            "queue a request",
            pairs=True,
            ends="job",
        ),
        Address(
            "/impact/preset",
            "preset",
            (_ID, Argument("name", "text", "name of a preset")),
            "queue a preset; keys override it",
            pairs=True,
            ends="job",
        ),
        Address(
            "/impact/prompt",
            "prompt",
            (
                _JOB,
                Argument("prompt", "text", "the new words"),
                Argument("weight", "number", "share of the new words", optional=True, low=0.0, high=1.0),
            ),
            "change the prompt of a job while it decodes: tokens not yet decided follow the new words",
        ),
        *(
            Address(f"/impact/edit/{verb}", "edit", (_ID, _TAKE), f"{text} (not yet supported)", pairs=True, ends="job")
            for verb, text in edits.items()
        ),
        Address(
            "/impact/cancel",
            "cancel",
            (Argument("id", "id", "a job, or `all`: all jobs of yours"),),
            "stop that job and no other",
        ),
        Address(
            "/impact/queue",
            "queue",
            (),
            "the unfinished jobs of all clients, one reply a job, in the order they will be served",
            rows=(
                _field("id", "s", "as its client gave it, string or number"),
                _field("state", "s", "waiting, running, saving, paused or interrupted"),
                _field("position", "i", "jobs before it"),
                _field("prompt", "s", "its words, long ones cut"),
                _field("variants", "i", "how many takes"),
                _field("seconds", "f", "length of each, -1 = not chosen yet"),
                _field("fraction", "f", "0...1 of it is done"),
                _field("priority", "i", "higher goes first"),
            ),
            access=1,
        ),
        Address(
            "/impact/resume",
            "resume",
            (),
            "let the jobs that were restored after a crash run, and try again to write takes that found no room",
        ),
        Address(
            "/impact/set",
            "set_default",
            (
                Argument("key", "text", "a key of requests"),
                Argument("value", "any", 'its new default; "" or none takes it away again', optional=True),
            ),
            "a default for this client's requests; presets and requests win over it",
        ),
        Address(
            "/impact/get",
            "get_default",
            (Argument("key", "text", "a key of requests; without it all of them", optional=True),),
            "this client's defaults",
            rows=(_field("key", "s", "a key of requests"), _field("value", "s", "its default, `auto` = chosen anew")),
            access=1,
        ),
        Address(
            "/impact/presets",
            "presets",
            (_TEXT,),
            "presets, one reply each",
            rows=(
                _field("name", "s", "for `/impact/preset`"),
                _field("prompt", "s", "with its {slots}"),
                _field("tags", "s", "with commas between"),
            ),
            access=1,
        ),
        Address(
            "/impact/takes",
            "takes",
            (_TEXT,),
            f"takes, one reply each, the newest first, {MAX_ROWS} at most",
            rows=(
                _field("id", "s", "of the take"),
                _field("path", "s", "its file"),
                _field("prompt", "s", "its words, long ones cut"),
                _field("seed", "i", "the take's own"),
                _field("seconds", "f", "its length"),
                _field("rate", "i", "its sample rate, hz"),
                _field("rating", "i", "0...5"),
            ),
            access=1,
        ),
        Address(
            "/impact/models",
            "models",
            (_TEXT,),
            "model bundles, one reply each",
            rows=(
                _field("name", "s", "for `impact serve --model`"),
                _field("rate", "i", "its own sample rate, hz"),
                _field("seconds_limit", "f", "the longest sound it makes"),
                _field("description", "s", "what it is"),
            ),
            access=1,
        ),
        Address(
            "/impact/play",
            "play",
            (_JOB, Argument("variant", "whole", "which take, from 0", optional=True, low=0, high=63)),
            "audition a take on the daemon's audio device",
        ),
        Address(
            "/impact/stop",
            "stop",
            (
                Argument("id", "id", "a job; without it whatever plays", optional=True),
                Argument("variant", "whole", "which take, from 0", optional=True, low=0, high=63),
            ),
            "stop the audition",
        ),
        Address(
            "/impact/notify",
            "notify",
            (
                Argument("on", "flag", "1 = send me the events of all jobs, 0 = no longer"),
                Argument("port", "whole", "to this UDP port of my address", optional=True, low=1, high=65535),
            ),
            "subscribe to the events of all jobs",
        ),
        Address(
            "/impact/status",
            "status",
            (),
            "how the daemon is, one reply a value",
            rows=(
                _field("key", "s", "what: state, waiting, running, paused ..."),
                _field("value", "s", "number or text"),
            ),
            access=1,
        ),
        Address(
            "/impact/version",
            "version",
            (),
            "which program this is",
            rows=(
                _field("version", "s", "of the program"),
                _field("protocol", "i", "of these messages"),
                _field("program", "s", "impact-plugin"),
            ),
            access=1,
        ),
        Address(
            "/impact/help",
            "help",
            (Argument("text", "text", "only addresses that hold it; `keys`: the keys of requests", optional=True),),
            "this table",
            rows=(
                _field("usage", "s", "an address and its arguments, or a key"),
                _field("text", "s", "what it does, or what the key takes"),
            ),
            access=1,
        ),
        Address(
            "/impact/ping",
            "ping",
            (Argument("echo", "any", "comes back", optional=True),),
            "answered at once, ahead of everything in the queue",
        ),
        Address(
            "/impact/sync",
            "sync",
            (Argument("n", "whole", "comes back", low=-(2**31), high=2**31 - 1),),
            "`/impact/synced n` once all before it has been taken in",
            rows=(_field("n", "i", "as it was sent"),),
            ends="/impact/synced",
        ),
        Address(
            "/impact/quit",
            "quit",
            (Argument("token", "text", "from the daemon's runtime file"),),
            "stop the daemon (loopback only)",
        ),
    )


#: Every address that is taken in.
ADDRESSES: Final[Mapping[str, Address]] = MappingProxyType({entry.path: entry for entry in _addresses()})

#: What the sync verb is answered with, instead of a row and `done`.
SYNCED: Final = "/impact/synced"


def reply_address(entry: Address) -> str:
    """Where the rows of an address come."""
    return entry.ends if entry.ends.startswith("/") else entry.reply


#: Every address that is sent out. One of them coming in is an echo of ourselves, and never answered.
REPLIES: Final[frozenset[str]] = frozenset(
    [kind.address for kind in EVENTS.values()] + [reply_address(entry) for entry in ADDRESSES.values() if entry.rows]
)


def read_call(entry: Address, values: Sequence[object]) -> Call:
    """A message's arguments as the table has them.

    Raises:
        ImpactError: `bad_argument` (missing, too many, of a wrong kind, a key without a value).
    """
    found: dict[str, Any] = {}
    for place, argument in enumerate(entry.arguments):
        if place < len(values):
            found[argument.name] = argument.read(values[place])
        elif argument.optional:
            found[argument.name] = None
        else:
            raise ImpactError("bad_argument", f"{argument.name} is missing: {entry.usage}", argument.name)
    rest = values[len(entry.arguments) :]
    if rest and not entry.pairs:
        raise ImpactError("bad_argument", f"{len(values)} arguments are too many: {entry.usage}")
    return Call(entry, found, pairs_to_mapping(rest))


def unknown_address(path: str) -> ImpactError:
    """The error for an address that does not exist, with the nearest that does."""
    near = difflib.get_close_matches(path[:64].lower(), ADDRESSES, n=1, cutoff=0.6)
    advice = f"did you mean {near[0]}?" if near else "/impact/help lists them"
    return ImpactError("unknown_address", f"unknown address {shown(path)}: {advice}")
