"""`impact takes`: what a take says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="""Takes that were made.

    \b
    impact takes show out.wav
    """,
)


@app.callback()
def _group() -> None:
    """Takes that were made.

    \b
    impact takes show out.wav
    """


@app.command()
def show(
    take: Annotated[Path, typer.Argument(help="A WAV or FLAC file.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Prompt, seed, model and settings of a take, read out of the file itself.

    \b
    impact takes show out.wav
    impact takes show out.wav --json
    """
    from impact_plugin.cli.output import print_json, print_line
    from impact_plugin.takes.record import read_record

    record = read_record(take)
    data = record.model_dump(exclude_none=True)
    if as_json:
        print_json(data)
        return
    request = data.pop("request")
    for name, value in data.items():
        print_line(f"{name:<16}{value}")
    for name, value in request.items():
        print_line(f"  {name:<14}{value}")
