"""`impact takes`: what was made, found again, rated, taken along and cleared away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from impact_plugin.takes.record import TakeRecord
    from impact_plugin.takes.scan import Changes
    from impact_plugin.takes.store import TakeStore

app = typer.Typer(
    no_args_is_help=True,
    help="""Takes that were made: every one, wherever it lies.

    TAKE is a file, the id of a take or the beginning of it, or a file's name.

    \b
    impact takes list
    impact takes show out.wav
    impact takes search "glass break"
    impact takes rate out.wav 5
    impact takes export --rating 4 --to best/
    """,
)

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]
Take = Annotated[str, typer.Argument(metavar="TAKE", help="A WAV or FLAC file, or a take's id.", show_default=False)]
Rating = Annotated[int, typer.Option("--rating", metavar="N", min=0, max=5, help="Only takes rated N or better.")]
Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="Only takes of this model.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many at most, the newest first.")]


@app.command("list")
def list_takes(rating: Rating = 0, model: Model = None, limit: Limit = 50, as_json: Json = False) -> None:
    """The newest takes.

    \b
    impact takes list
    impact takes list --rating 3 --limit 200
    impact takes list --json
    """
    _print_found("", rating, model, limit, as_json)


@app.command()
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Words, or their beginnings; all must occur.")],
    rating: Rating = 0,
    model: Model = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Takes in whose prompt, label, file name or model all these words occur.

    \b
    impact takes search glass
    impact takes search "door wood slam" --rating 4
    impact takes search DOORWood --json
    """
    _print_found(text, rating, model, limit, as_json)


@app.command()
def show(take: Take, as_json: Json = False) -> None:
    """Prompt, seed, model and settings of a take, read out of the file itself, and what it was made from.

    \b
    impact takes show out.wav
    impact takes show 3f9c
    impact takes show out.wav --json
    """
    from impact_plugin.cli.output import print_json, print_line

    with _store() as store:
        record = store.read(take)
        data = record.model_dump(mode="json", exclude_none=True)
        if as_json:
            print_json(data)
            return
        request = data.pop("request")
        for name, value in data.items():
            if value not in ("", [], 0) or name in ("variant", "seed"):
                print_line(f"{name:<16}{value}")
        print_line("request")
        for name, value in request.items():
            print_line(f"  {name:<14}{value}")
        for title, line in _family(store, record):
            print_line(f"{title:<16}{line}")


@app.command()
def rate(
    take: Take,
    rating: Annotated[int, typer.Argument(metavar="0-5", help="0 takes the rating away.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Rate a take, in its file: the rating goes wherever the file goes.

    \b
    impact takes rate out.wav 5
    impact takes rate 3f9c 0
    """
    from impact_plugin.cli.output import print_json, print_line

    with _store() as store:
        record = store.rate(store.path_of(take), rating)
    if as_json:
        print_json(record.long_row())
    else:
        print_line(f"{record.path}  {_stars(record) or 'no rating'}")


@app.command()
def export(
    takes: Annotated[
        list[str] | None, typer.Argument(metavar="[TAKE]...", help="Takes; without any, all that the options leave.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Copy the files into a folder; none is overwritten.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="A table of them on stdout, for spreadsheets.")] = False,
    text: Annotated[str, typer.Option("--text", metavar="TEXT", help="Only takes in which these words occur.")] = "",
    rating: Rating = 0,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Take takes along: copies of their files, or a table.

    \b
    impact takes export --rating 4 --to best/
    impact takes export --text door --csv > doors.csv
    impact takes export out.wav 3f9c --to kit/
    """
    from impact_plugin.cli.output import print_json, print_line
    from impact_plugin.takes.export import copy_take, write_csv

    if (to is None) == (not csv):
        raise ImpactError("bad_argument", "say either --to DIR or --csv", "to")
    with _store() as store:
        if takes:
            chosen = [store.read(name) for name in takes]
        else:
            _refresh(store)
            chosen = list(store.index.find(text, rating=rating, model=model))
    if csv:
        import io

        table = io.StringIO()
        write_csv(table, chosen)
        for line in table.getvalue().splitlines():
            print_line(line)
        return
    if to is not None:
        from impact_plugin.audio.files import make_folder

        make_folder(to)
        for record in chosen:
            path = copy_take(Path(record.path), to)
            if as_json:
                print_json(record.long_row() | {"path": str(path)})
            else:
                print_line(str(path))


@app.command()
def prune(
    below: Annotated[
        int | None, typer.Option("--below", metavar="N", min=1, max=5, help="Delete takes rated less than N.")
    ] = None,
    unrated: Annotated[bool, typer.Option("--unrated", help="Delete takes that have no rating.")] = False,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", min=0.0, help="Only takes older than this; alone: all of them."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do delete: without it they are only listed.")] = False,
    as_json: Json = False,
) -> None:
    """Clear away: what crashes left, and rows without a file; with options, takes that are not wanted.

    Unrated takes are not below any rating: --unrated speaks of those. Files that are no takes are never touched.

    \b
    impact takes prune
    impact takes prune --below 3
    impact takes prune --unrated --older-than 30 --yes
    """
    from impact_plugin.cli.output import print_json, print_line
    from impact_plugin.takes.export import unwanted

    with _store() as store:
        _refresh(store)
        chosen = list(unwanted(store, below=below, unrated=unrated, older_than_days=older_than))
        for record in chosen:
            if yes:
                store.delete(Path(record.path))
            if as_json:
                print_json(record.long_row() | {"deleted": yes})
            else:
                print_line(f"{'deleted' if yes else 'would delete'}  {record.path}")
        removed = len(store.clean())
        forgotten = store.forget_missing()
    if not as_json:
        print_line(f"{removed} temporary files removed, {forgotten} rows without a file forgotten")
        if chosen and not yes:
            print_line(f"{len(chosen)} takes would be deleted: add --yes")


@app.command()
def scan(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR]...", help="Folders to look through besides one's own.")
    ] = None,
    anew: Annotated[
        bool, typer.Option("--rebuild", help="Read every file again, and forget those that are gone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find takes that were copied, moved, changed or deleted behind the index's back.

    \b
    impact takes scan
    impact takes scan ~/sessions/film /mnt/library
    impact takes scan --rebuild
    """
    from impact_plugin.cli.output import print_json, print_line, remark

    for folder in folders or []:
        if not folder.is_dir():
            raise ImpactError("bad_argument", f"{folder} is no folder", "dir")
    with _store() as store:
        changes = store.refresh(folders or [], anew=anew)
        count = len(store.index)
    for path, text in changes.broken:
        remark(f"impact: {text}" if str(path) in text else f"impact: {path}: {text}")
    if as_json:
        print_json(_counts(changes) | {"takes": count})
        return
    print_line(
        f"{changes.added} new, {changes.changed} changed, {changes.moved} moved, {changes.gone} gone, "
        f"{len(changes.broken)} broken, {count} takes in all"
    )


@contextmanager
def _store() -> Iterator[TakeStore]:
    from impact_plugin.takes.store import TakeStore

    store = TakeStore()
    try:
        yield store
    finally:
        store.close()


def _refresh(store: TakeStore) -> None:
    """See what changed since, and tell what is broken."""
    from impact_plugin.cli.output import remark

    for _, text in store.refresh().broken:
        remark(f"impact: {text}")


def _print_found(text: str, rating: int, model: str | None, limit: int, as_json: bool) -> None:
    from impact_plugin.cli.output import print_json, print_line, print_table

    with _store() as store:
        _refresh(store)
        found = list(store.index.find(text, rating=rating, model=model, limit=limit))
    if as_json:
        for record in found:
            print_json(record.long_row())
    elif found:
        print_table(("TAKE", "MADE", "RATING", "SECONDS", "SEED", "PROMPT", "FILE"), map(_cells, found))
    else:
        print_line("no takes yet" if not (text or rating or model) else "no take fits")


def _cells(record: TakeRecord) -> Sequence[str]:
    made = record.made[:16].replace("T", " ")
    prompt = record.prompt if len(record.prompt) <= 48 else record.prompt[:47] + "…"
    cells = (record.take[:8], made, _stars(record), f"{record.seconds:.2f}", str(record.seed), prompt)
    return (*cells, record.path)


def _stars(record: TakeRecord) -> str:
    return "*" * record.rating


def _family(store: TakeStore, record: TakeRecord) -> Iterator[tuple[str, str]]:
    """What a take was made from and what was made from it, as far as the index can be read."""
    try:
        parents, children = store.index.ancestors(record), store.index.children(record.take)
    except ImpactError:
        return
    for parent in parents:
        yield "made from", f"{parent.take}  {parent.path}"
    for child in children:
        yield "made into", f"{child.take}  {child.path}"


def _counts(changes: Changes) -> dict[str, Any]:
    return {
        "added": changes.added,
        "changed": changes.changed,
        "moved": changes.moved,
        "gone": changes.gone,
        "broken": len(changes.broken),
        "others": changes.others,
    }
