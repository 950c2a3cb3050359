"""`docs/osc.md` out of the table: `python -m impact_plugin.daemon.osc.docs` writes it, `--check` says if it is stale.

Knows Markdown. Everything that is a fact about an address, a key, an event or a limit comes from where the program has
it; what is written here is what a reader needs around it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from impact_plugin.daemon.events import EVENTS, EventField
from impact_plugin.daemon.ids import MAX_LENGTH
from impact_plugin.daemon.osc import intake, limiter, replies, sessions, tcp, wire
from impact_plugin.daemon.osc.server import DEFAULT_PORT, WAITING
from impact_plugin.daemon.osc.table import ADDRESSES, MAX_ROWS, PROTOCOL, SYNCED, Address, reply_address
from impact_plugin.errors import Code
from impact_plugin.request import Request

FILE: Final = Path(__file__).parents[3] / "docs" / "osc.md"

#: When each code is sent.
CODES: Final[dict[Code, str]] = {
    "bad_argument": "an argument is missing, of a wrong kind or out of range; bytes that are no OSC",
    "unknown_key": "a key that does not exist; the nearest one is named",
    "unknown_address": "an address that does not exist, or an address pattern",
    "unknown_preset": "a preset that does not exist",
    "unknown_id": "a job that does not exist (any more)",
    "duplicate_id": "this client has an unfinished job of that id",
    "queue_full": "too many jobs wait",
    "disk_full": "there is no room for the takes",
    "out_of_memory": "the device has no memory for the job, not even in halves",
    "model_missing": "the bundle is not there or broken",
    "bad_file": "a sound file that cannot be read",
    "busy": "messages come faster than they can be taken in; too many subscribers; the daemon is stopping",
    "too_large": "a packet, a bundle, an answer's path or a request beyond the limits",
    "unsupported": "not in this version, or not possible here (no audio device, quit from another machine)",
    "internal": "a mistake of ours: please report it",
}

_HEAD: Final = """\
# OSC

This page is made from the program's own table: `python -m impact_plugin.daemon.osc.docs` writes it. The same table
answers `/impact/help` and describes itself to OSCQuery hosts.

`impact serve` listens on UDP and TCP port {port} of 127.0.0.1. TCP takes OSC 1.0 streams (a length before each packet)
and OSC 1.1 streams (SLIP); the first byte tells which, and answers come framed the same way. Protocol {protocol}.

A job in full, as a client sees it:

```
-> /impact/generate  door1 "heavy wooden door slams" seconds 3 variants 4 preview 1
<- /impact/queued    door1 0
<- /impact/start     door1 1234567 4 3.0
<- /impact/progress  door1 1 32 0.03 4.1
<- /impact/preview   door1 0 6 /.../door1_0_006.wav 3.0      and so on
<- /impact/result    door1 0 /.../DOORWood_heavy wooden door slams_... .wav 3.0 48000 1234567
<- /impact/end       door1 ok
```

From a shell, `impact send` finds the daemon and prints what it answers until the job ends:

```
impact send /impact/generate door1 "heavy wooden door slams" seconds 3 variants 4
impact send /impact/status
```
"""

_HOST_ROWS: Final = (
    (
        "Pure Data",
        "`[door glass\\\\ breaking seconds 3(` into `[oscformat -f sssf impact generate]` into `[netsend -u -b]`, "
        "connected to 127.0.0.1 {port}",
        "its right outlet into `[oscparse]`, `[list trim]`, `[route impact]`",
    ),
    (
        "SuperCollider",
        '`NetAddr("127.0.0.1", {port}).sendMsg(\'/impact/generate\', \\door, "door slams")`',
        "`OSCdef(\\r, {{ arg m; m.postln }}, '/impact/result')`",
    ),
    ("Max", "`[udpsend 127.0.0.1 {port}]`", "`/impact/notify 1 7400` once, then `[udpreceive 7400]`"),
    (
        "Csound, ChucK, `oscsend`",
        "from a port of their own that nobody listens on",
        "`/impact/notify 1 PORT` once, then listen on PORT",
    ),
    ("Python", '`pythonosc.udp_client.SimpleUDPClient("127.0.0.1", {port})`', "its `receive`"),
)

_HOSTS_END: Final = """
Give the sample rate of `/impact/result` to the host where it does not read it from the file: not every host resamples.
"""

_RULES: Final = """\
## Rules

- **Arguments.** Numbers may come as int, float or numeric text; flags also as true and false. What a host cannot send
  is never needed: no blobs, no arrays, no 64-bit numbers. Types taken: `{tags}`; a message with any other is refused.
- **Ids** are text of at most {id} characters or a whole number; 7, 7.0 and "7" are the same. They belong to the client
  that sent them (its address and port, or its TCP connection): two clients may use the same one.
- **Addresses** are matched exactly. Address patterns are refused before anything else is looked at.
- **Answers** to an address come on the same address with `.reply`, one message a row, closed by
  `/impact/done ADDRESS [more]`; for lists the two numbers after it are the rows sent and the rows there are. A list
  sends {rows} rows at most: give a text to narrow it. An address that ends in `.reply` is never a command, so two
  programs can never answer each other for ever.
- **Where answers go**: to the sender's address and port; if it has named a port by `/impact/notify 1 PORT`, there
  instead. Events and what is wrong with a command also go to all subscribers; what is no command of ours is answered
  to its sender alone. What comes from a port that has neither subscribed nor
  had a job is also answered on the ports that were named from the same machine: so a program that sends each message
  from a new port hears its answers.
- **A sender without jobs of its own** may name a job of another client in `/impact/cancel` and `/impact/prompt` if only
  one has that id: a shell script is a new client with every message. `/impact/cancel all` stops the sender's own jobs,
  and those whose client is not there any more.
- **Subscriptions** end by `/impact/notify 0`, when the port refuses (where the system tells), when the TCP connection
  closes, and {lapse:.0f} minutes after the last message from that client; any message renews them.
- **Time tags.** A bundle is run at once, or when its time comes if that is at most {ahead:.0f} s ahead; further ahead
  it is refused whole. Nothing ever waits for it: other messages pass. {waiting} messages may wait at a time.
- **After a crash** the queue is restored but does not run: `paused` in `/impact/status` counts its jobs,
  `/impact/resume` lets them run. That is an address of its own, not a key of `/impact/set`, because keys are one
  client's defaults, and whether the queue runs is everybody's.
- **Order.** Messages of a client are handled in the order they came. `/impact/sync n` is answered once all before it
  are through; `/impact/ping` overtakes everything.
- **Long text** (prompts in lists, the text of a `fail`) is cut and ends with `...`. Paths are never cut: one that does
  not fit is left empty, and a `fail ... too_large` before it says so.
"""

_LIMITS: Final = (
    ("packet in, UDP and TCP", "{packet} bytes", "refused; a TCP 1.0 stream is closed, since it cannot be followed"),
    ("packet out", "{out} bytes, {args} arguments, types i f s", "shortened as above"),
    ("messages in a bundle", "{elements}, nested {depth} deep", "`too_large`, nothing of it is run"),
    ("arguments of a message", "{arguments}", "`too_large`"),
    (
        "messages waiting",
        "{capacity}, {share} of one client",
        "UDP: dropped, `busy`, counted as `osc_dropped` in `/impact/status`; TCP: not read until there is room",
    ),
    ("refusals", "{burst:.0f} at once, then {per_second:.0f} a second to one client", "counted, not sent"),
    ("TCP connections", "{connections}", "closed at once"),
    ("unfinished packet", "{unfinished:.0f} s", "the connection is closed"),
    ("unread answers on TCP", "{unread} MiB", "the connection is closed"),
    ("subscribers", "{subscribers}", "`busy`"),
)

_END: Final = """\
## Other machines

`--host` opens the port to a network, and then everything but `/impact/set token TOKEN` is refused until the token has
been shown. The daemon's runtime file holds it (`daemon.json`, readable by its user alone). It opens one TCP connection,
or for UDP the sender's address with all its ports. OSC is not encrypted. `/impact/quit` is taken from the machine
itself only.
"""


def page() -> str:
    """The whole document."""
    values: dict[str, Any] = {
        "port": DEFAULT_PORT,
        "protocol": PROTOCOL,
        "tags": "` `".join(tag for tag in "ifshdTFN" if tag in wire.TAGS),
        "id": MAX_LENGTH,
        "rows": MAX_ROWS,
        "lapse": sessions.LAPSE / 60,
        "ahead": wire.MAX_AHEAD,
        "waiting": WAITING,
        "packet": wire.MAX_PACKET,
        "out": replies.MAX_MESSAGE,
        "args": replies.MAX_ARGUMENTS,
        "elements": wire.MAX_ELEMENTS,
        "depth": wire.MAX_DEPTH,
        "arguments": wire.MAX_ARGUMENTS,
        "capacity": intake.CAPACITY,
        "share": intake.SHARE,
        "burst": limiter.BURST,
        "per_second": limiter.PER_SECOND,
        "connections": tcp.MAX_CONNECTIONS,
        "unfinished": tcp.UNFINISHED,
        "unread": tcp.MAX_UNREAD >> 20,
        "subscribers": sessions.MAX_SUBSCRIBERS,
    }
    parts = [
        _HEAD.format(**values),
        _commands(),
        _keys(),
        _events(),
        _codes(),
        "## From hosts\n\n" + _table(("host", "send", "hear"), _filled(_HOST_ROWS, values)) + _HOSTS_END,
        _RULES.format(**values),
        "## Limits\n\n" + _table(("what", "limit", "beyond it"), _filled(_LIMITS, values)),
        _END,
    ]
    return "\n".join(parts)


def _filled(rows: Iterable[Sequence[str]], values: dict[str, Any]) -> list[list[str]]:
    return [[cell.format(**values) for cell in row] for row in rows]


def _commands() -> str:
    rows = [
        (f"`{entry.path}`", _arguments(entry), entry.text[0].upper() + entry.text[1:], _answers(entry))
        for entry in ADDRESSES.values()
    ]
    return "## In\n\n" + _table(("address", "arguments", "meaning", "answers"), rows)


def _arguments(entry: Address) -> str:
    words = []
    for argument in entry.arguments:
        name = f"[{argument.name}]" if argument.optional else argument.name
        takes = f" ({argument.expects})" if argument.kind in ("whole", "number", "flag") else ""
        words.append(f"**{name}**: {argument.text}{takes}")
    return "<br>".join([*words, *(["`key value` ..."] if entry.pairs else [])])


def _answers(entry: Address) -> str:
    if entry.ends == "job":
        return "the job's events, to `/impact/end`"
    rows = f"`{reply_address(entry)}` " + " ".join(field.name for field in entry.rows) if entry.rows else ""
    done = "" if entry.ends == SYNCED else "`/impact/done`"
    return ", then ".join(part for part in (rows, done) if part)


def _keys() -> str:
    rows = []
    for key in Request.fields_help():
        if key.group != "edit" and key.name not in ("prompt",):
            names = ", ".join(f"`{name}`" for name in (key.name, *key.aliases))
            rows.append((names, key.expects, f"`{key.default}`", key.text))
    text = "After the fixed arguments of `/impact/generate` and `/impact/preset`, and for `/impact/set` and `get`."
    return f"## Keys\n\n{text}\n\n" + _table(("key", "takes", "default", "meaning"), rows)


def _events() -> str:
    rows = []
    for kind in EVENTS.values():
        fields = [*([kind.subject] if kind.subject else []), *kind.fields]
        more = " ..." if kind.name == "done" else ""
        names = " ".join(field.name for field in fields) + more
        rows.append((f"`{kind.address}`", names, kind.text, _field_texts(fields)))
    head = "To the client whose job it is, and to all subscribers.\n\n"
    return "## Out\n\n" + head + _table(("address", "arguments", "when", "what they are"), rows)


def _field_texts(fields: Iterable[EventField]) -> str:
    return "<br>".join(f"**{field.name}** `{field.tag}` {field.text}" for field in fields)


def _codes() -> str:
    return "## Codes of `/impact/fail`\n\n" + _table(("code", "when"), [(f"`{c}`", text) for c, text in CODES.items()])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in cells)


def main(arguments: Sequence[str]) -> int:
    """Write the file, or with `--check` only look at it; 1 when it is not what the table says."""
    text = page()
    if "--check" in arguments:
        current = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
        return 0 if current == text else 1
    FILE.parent.mkdir(exist_ok=True)
    partial = FILE.with_suffix(".md.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    os.replace(partial, FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
