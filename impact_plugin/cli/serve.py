"""`impact serve`: the daemon that hosts talk to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from impact_plugin.daemon.events import DaemonEvent
    from impact_plugin.daemon.runtime import Runtime

_FORCED = 1


def serve(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen. Other than this machine's own: with a token only.")
    ] = "127.0.0.1",
    osc_port: Annotated[
        int, typer.Option(min=0, max=65535, help="OSC over UDP and TCP; 0 takes a free port and prints it.")
    ] = 9800,
    http_port: Annotated[
        int, typer.Option(min=0, max=65535, help="HTTP and WebSocket; 0 takes a free port and prints it.")
    ] = 9880,
    model: Annotated[str | None, typer.Option(metavar="BUNDLE", help="Bundle to use (default: starter).")] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    takes: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where takes go (default: see impact doctor).")
    ] = None,
    audio_device: Annotated[
        str | None,
        typer.Option(metavar="NAME|none", help="Output for play (default: the system's); see impact devices."),
    ] = None,
    grace: Annotated[
        float, typer.Option(min=0.0, max=3600.0, help="Seconds that running jobs have when the daemon is stopped.")
    ] = 30.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The line that says it is ready as a JSON object.")] = False,
) -> None:
    """Make sounds for other programs, over OSC, HTTP and WebSocket, until stopped (Ctrl-C).

    \b
    impact serve
    impact serve --osc-port 0 --http-port 0 --audio-device none
    impact send /impact/generate "" "glass bottle shatters"
    """
    import logging

    from impact_plugin.cli.output import print_json, print_line, remark
    from impact_plugin.daemon.serve import Daemon, Options

    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.captureWarnings(True)

    def ready(runtime: Runtime, event: DaemonEvent) -> None:
        row = {**event.as_json(), **runtime.model_dump(exclude={"token"})}
        row.pop("client", None)
        if as_json:
            print_json(row)
        else:
            print_line(
                f"impact {runtime.version} is ready: OSC {runtime.host}:{runtime.osc_port}, {runtime.url}/, "
                f"model {row['model']} on {row['device']}, takes in {runtime.takes}"
            )

    options = Options(host, osc_port, http_port, model, device, takes, audio_device, grace)
    remark("impact: loading the model")
    if not Daemon(options, ready).run():
        remark("impact: stopped before everything was done; the rest waits for the next start")
        raise typer.Exit(_FORCED)
