"""`impact generate`: text to takes, without a daemon.

Knows the command's options and the order of work: everything is checked before anything is made. The making is in
`cli.making`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from impact_plugin.errors import ImpactError

_SOUND, _FILES, _MACHINE = "Sound", "Files", "Machine"


def generate(
    prompt: Annotated[str | None, typer.Argument(help="What is to be heard.", show_default=False)] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE_OR_DIR",
            help="A .wav or .flac file, or a folder (default: here).",
            rich_help_panel=_FILES,
        ),
    ] = None,
    seconds: Annotated[
        str | None,
        typer.Option(metavar="S", help="Length. Without it the model chooses.", rich_help_panel=_SOUND),
    ] = None,
    variants: Annotated[
        str | None, typer.Option(metavar="N", help="Different takes, 1 to 64.", rich_help_panel=_SOUND)
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(metavar="K", help="Same seed, same sound: 0 to 16777215.", rich_help_panel=_SOUND),
    ] = None,
    iterations: Annotated[
        str | None,
        typer.Option(metavar="T", help="Few are fast, many are better.", rich_help_panel=_SOUND),
    ] = None,
    guidance: Annotated[
        str | None, typer.Option(metavar="G", help="How strictly to follow the prompt.", rich_help_panel=_SOUND)
    ] = None,
    negative: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What is not to be heard.", rich_help_panel=_SOUND)
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Start from a preset.", rich_help_panel=_SOUND)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any other key, several times (see --keys).", rich_help_panel=_SOUND
        ),
    ] = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="A sound that repeats without a seam.", rich_help_panel=_SOUND)
    ] = False,
    rate: Annotated[
        str | None,
        typer.Option(metavar="HZ", help="Sample rate, 8000 to 192000.", rich_help_panel=_FILES),
    ] = None,
    format: Annotated[str | None, typer.Option(metavar="wav|flac", help="File type.", rich_help_panel=_FILES)] = None,
    subtype: Annotated[
        str | None,
        typer.Option(metavar="PCM_16|PCM_24|FLOAT", help="Sample format (PCM_24).", rich_help_panel=_FILES),
    ] = None,
    previews: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the sound as it stands, again and again.", rich_help_panel=_FILES),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files instead of adding _2.", rich_help_panel=_FILES)
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Prompts: text, one a line, or CSV (prompt, id, seconds, seed, ...).",
            rich_help_panel=_FILES,
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="TAKE",
            help="Make a take again: a file of it, or its id. Other options change it.",
            rich_help_panel=_SOUND,
        ),
    ] = None,
    play: Annotated[
        bool, typer.Option("--play", help="Play each take when it is done.", rich_help_panel=_MACHINE)
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(metavar="BUNDLE", help="Name or folder of a model bundle.", rich_help_panel=_MACHINE),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.", rich_help_panel=_MACHINE)
    ] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a take on stdout.", rich_help_panel=_MACHINE)
    ] = False,
    keys: Annotated[
        bool, typer.Option("--keys", help="List every key of a request and stop.", rich_help_panel=_MACHINE)
    ] = False,
) -> None:
    """Make sounds from words.

    \b
    impact generate "glass bottle shatters on concrete" -o out.wav
    impact generate "heavy wooden door slams" --variants 4 --seed 7 -o takes/
    impact generate "laser shot" --seconds 0.8 --rate 48000 --previews previews/
    impact generate --preset footstep --set gain_db=-3
    impact generate --from prompts.csv -o takes/ --json
    impact generate --like out.wav --guidance 6
    """
    from impact_plugin.cli.rows import read_rows, single_row
    from impact_plugin.request import assignments

    if keys:
        _print_keys(as_json)
        return
    options = {
        "seconds": seconds,
        "variants": variants,
        "seed": seed,
        "iterations": iterations,
        "guidance": guidance,
        "negative": negative,
        "preset": preset,
        "rate": rate,
        "loop": loop or None,
        "play": play or None,
        "preview": True if previews is not None else None,
    }
    given = {key: value for key, value in options.items() if value is not None}
    common = _merge(given, assignments(settings or []))
    record = None
    if like is not None:
        if source is not None:
            raise ImpactError("bad_argument", "give --like or --from, not both", "like")
        from impact_plugin.cli.like import read_like

        row, record = read_like(like, common if prompt is None else {**common, "prompt": prompt})
        rows = [row]
    elif source is not None:
        if prompt is not None:
            raise ImpactError("bad_argument", "give a prompt or --from FILE, not both", "from")
        rows = read_rows(source, common)
    else:
        if prompt is None and preset is None and "preset" not in common:
            raise ImpactError(
                "bad_argument", "say what is to be heard: impact generate PROMPT, or --from FILE", "prompt"
            )
        rows = [single_row(common if prompt is None else {**common, "prompt": prompt})]

    from impact_plugin.cli.target import choose_target

    target = choose_target(output, format, subtype, rows_from_file=source is not None)

    from impact_plugin.cli.making import make_takes

    make_takes(
        rows,
        target,
        model=model,
        device=device,
        previews=previews,
        overwrite=overwrite,
        as_json=as_json,
        like=record,
    )


def _merge(options: Mapping[str, object], settings: Mapping[str, str]) -> dict[str, object]:
    """Options and --set together; a key given by both is a mistake."""
    from impact_plugin.request import canonical

    named, _ = canonical(settings, slots=True)
    for key in named:
        if key in options:
            raise ImpactError("bad_argument", f"{key} is given twice: as --{key} and by --set", key)
    return {**options, **settings}


def _print_keys(as_json: bool) -> None:
    from impact_plugin.cli.output import print_json, print_table
    from impact_plugin.request import Request

    rows = Request.fields_help()
    if as_json:
        for row in rows:
            print_json(
                {
                    "key": row.name,
                    "expects": row.expects,
                    "default": row.default,
                    "text": row.text,
                    "group": row.group,
                    "aliases": list(row.aliases),
                }
            )
        return
    print_table(("KEY", "TAKES", "DEFAULT", "MEANING"), [(r.name, r.expects, r.default, r.text) for r in rows])
