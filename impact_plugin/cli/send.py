"""`impact send`: one OSC message to a running daemon, and what it answers.

Knows the options and the runtime file. What ends an exchange is :mod:`impact_plugin.daemon.osc.client`'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from impact_plugin.daemon.osc.wire import Message

DEFAULT_PORT = 9800
LOOPBACK = "127.0.0.1"
#: So that -3 is an argument, not an option.
CONTEXT = {"ignore_unknown_options": True}
_ANYWHERE = {"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}


def send(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="An OSC address, such as /impact/generate.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARG]...", help="Its arguments; numbers as you would write them.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Another machine's daemon (default: the one running here).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Its OSC port (default: the running daemon's).")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="IMPACT_TOKEN", help="What a daemon of another machine asks for.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, metavar="S", help="Give up after S seconds (default: never).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")] = False,
) -> None:
    """Send one OSC message to the daemon and print its replies, for a job until it ends.

    Exit status: 0 done, 2 refused for what was asked, 1 failed, cancelled, or no daemon answers.

    \b
    impact send /impact/generate door "heavy wooden door slams" seconds 2 variants 4
    impact send /impact/generate "" "glass breaks" peak_db -3 --json
    impact send /impact/queue
    impact send /impact/cancel door
    """
    from impact_plugin.cli.output import print_json, print_line
    from impact_plugin.daemon.osc.client import exchange, row

    given = list(arguments or [])
    option = next((word for word in given if word.startswith("--")), None)
    if option is not None:
        raise ImpactError("bad_argument", f"there is no option {option}: `impact send --help` lists them")
    to_host, to_port, known_token, open_to_others = _daemon(host, port)
    if address == "/impact/quit" and not given:
        given = [word for word in (token or known_token,) if word]
    if token is None:
        token = "" if to_host in (LOOPBACK, "::1", "localhost") and not open_to_others else known_token
    last = None
    for message, last in exchange(address, given, host=to_host, port=to_port, token=token, timeout=timeout):
        if as_json:
            print_json(row(message))
        elif not (last.over and message.address == "/impact/fail"):
            print_line(_written(message))
    if last is None or last.exit_status == 0:
        return
    if last.error is not None and last.state != "cancelled":
        raise last.error
    raise typer.Exit(last.exit_status)


def _daemon(host: str | None, port: int | None) -> tuple[str, int, str, bool]:
    """Host, port and token of the daemon that is meant, and whether it listens to other machines too.

    Raises:
        ImpactError: none is running here, and none was named.
    """
    from impact_plugin.daemon.runtime import read_runtime

    running = read_runtime()
    if host is None and port is None and running is None:
        raise ImpactError("internal", "no daemon is running: start one with `impact serve`, or name one with --port")
    if (
        running is None
        or (host is not None and host != running.host)
        or (port is not None and port != running.osc_port)
    ):
        return host or LOOPBACK, port or DEFAULT_PORT, "", False
    closed = running.host in (LOOPBACK, "::1", "localhost")
    return _ANYWHERE.get(running.host, running.host), running.osc_port, running.token, not closed


def _written(message: Message) -> str:
    """A reply as one would type it."""
    import json

    words = [
        json.dumps(value, ensure_ascii=False)
        if isinstance(value, str) and (not value or not value.isprintable() or set(value) & set(" \"'"))
        else f"{value:.7g}"
        if isinstance(value, float)
        else str(value)
        for value in message.arguments
    ]
    return " ".join([message.address, *words])
