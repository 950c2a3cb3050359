"""Takes for elsewhere: copies and tables; and which takes are not wanted any more.

Knows records and files. Does not delete anything.
"""

from __future__ import annotations

import csv
import datetime
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, TextIO

from impact_plugin.audio.files import write_file
from impact_plugin.takes.names import candidates
from impact_plugin.takes.record import MORE, ROW, TakeRecord
from impact_plugin.takes.store import TakeStore


def copy_take(path: Path, folder: Path) -> Path:
    """Copy a take's file into a folder under its own name, with a number behind it when that is taken.

    Raises:
        ImpactError: as :func:`impact_plugin.audio.files.write_file`.
    """
    return write_file(candidates(folder, path.stem, path.suffix), partial(_copy, path))


def _copy(path: Path, target: BinaryIO) -> None:
    with open(path, "rb") as source:
        shutil.copyfileobj(source, target, 1 << 20)


def write_csv(target: TextIO, records: Iterable[TakeRecord]) -> None:
    """A table of takes, a row each: the contract's columns and those that lists say beyond them."""
    table = csv.DictWriter(target, [*ROW, *MORE], lineterminator="\n")
    table.writeheader()
    for record in records:
        table.writerow(record.long_row())


def unwanted(
    store: TakeStore, *, below: int | None = None, unrated: bool = False, older_than_days: float | None = None
) -> Iterator[TakeRecord]:
    """Takes that one does not want to keep, by rating and age; none without a word on rating or age.

    Args:
        below: rated, but less than this. unrated: without a rating. older_than_days: of those, only takes as old.
    """
    if below is None and not unrated and older_than_days is None:
        return
    limit = None
    if older_than_days is not None:
        limit = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=older_than_days)).isoformat()
    any_rating = below is None and not unrated
    for record in list(store.index.find()):
        poor = below is not None and 0 < record.rating < below
        if (any_rating or poor or (unrated and record.rating == 0)) and (limit is None or "" < record.made < limit):
            yield record
