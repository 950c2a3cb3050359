"""The index brought up to date from the files: what is new, changed, moved or gone.

Knows folders, files and the index. What it makes of nothing but the files is the same index that grew take by take.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from impact_plugin.errors import ImpactError
from impact_plugin.takes.file import TAKE_ENDINGS, NoTakeError, read_record
from impact_plugin.takes.index import FileState, TakeIndex, absolute
from impact_plugin.takes.record import TakeRecord

#: Files that are put in together, so that nobody waits long for the index.
_BATCH: Final = 200


@dataclass
class Changes:
    """What a scan found.

    Attributes:
        added, changed: takes. moved: takes whose file has another place now. gone: rows whose file is not there.
        broken: files that look like takes of ours but cannot be read, with the reason.
        others: sound files that are no takes.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    gone: int = 0
    others: int = 0
    broken: list[tuple[Path, str]] = field(default_factory=list)


def scan(index: TakeIndex, folders: Sequence[Path] = (), *, anew: bool = False) -> Changes:
    """Look at every file that the index knows and at every one in these folders, and put right what differs.

    Args:
        folders: with all their subfolders; hidden ones and links to folders are left out.
        anew: read every file, also those that look unchanged, and forget those that are not there. Otherwise a row
            whose file is missing stays, unseen, in case its disk comes back.

    Raises:
        ImpactError: what the index raises.
    """
    changes = Changes()
    known = index.states()
    lost = _takes_at(index, [path for path in known if not os.path.lexists(path)])
    records: list[TakeRecord] = []
    gone: list[str] = []

    for path in dict.fromkeys([*known, *_files(folders)]):
        state, before = _state(path), known.get(path)
        if state is None:
            changes.gone += before is not None
            if before is not None and (anew or os.path.lexists(path)):
                gone.append(path)
        elif state != before or anew:
            record = _read(path, changes)
            if record is not None:
                records.append(record)
                _count(changes, record, state, before, lost)
            elif before is not None:
                gone.append(path)
        if len(records) + len(gone) >= _BATCH:
            index.update(records, gone)
            records, gone = [], []
    index.update(records, gone)
    return changes


def _count(changes: Changes, record: TakeRecord, state: FileState, before: FileState | None, lost: set[str]) -> None:
    if before is not None:
        changes.changed += state != before
    elif record.take in lost:
        changes.moved += 1
        changes.gone -= 1  # it was counted at its old place, which came first
        lost.discard(record.take)
    else:
        changes.added += 1


def _read(path: str, changes: Changes) -> TakeRecord | None:
    try:
        return read_record(Path(path))
    except NoTakeError:
        changes.others += 1
    except ImpactError as error:
        changes.broken.append((Path(path), error.text))
    return None


def _takes_at(index: TakeIndex, paths: Sequence[str]) -> set[str]:
    """The takes that the index has at these paths."""
    found = (index.at(path) for path in paths)
    return {record.take for record in found if record is not None and record.take}


def _files(folders: Sequence[Path]) -> Iterator[str]:
    """Paths of what may be takes, in a fixed order."""
    for folder in folders:
        for base, inner, names in os.walk(absolute(folder)):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in TAKE_ENDINGS:
                    yield os.path.join(base, name)


def _state(path: str) -> FileState | None:
    """None for what is no file: gone, a folder, a pipe."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return FileState(found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
