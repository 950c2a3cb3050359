"""The index of all takes: a SQLite file that answers at once what the files would answer slowly.

Knows rows, words and lines of descent, and how processes share the file. The files are the truth and this is a copy of
what they say: it may be deleted at any time. Does not open sound files; :mod:`impact_plugin.takes.scan` does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from impact_plugin.errors import ImpactError
from impact_plugin.takes.categories import words_of
from impact_plugin.takes.record import TakeRecord
from impact_plugin.takes.words import folded, query

logger = logging.getLogger(__name__)

#: Number of the tables below. An index with another number is emptied, to be filled again from the files.
SCHEMA: Final = 1

#: How long one process waits for another, seconds.
PATIENCE_S: Final = 15.0

#: Rows that are read at once.
_PAGE: Final = 500

_TABLES: Final = """
CREATE TABLE takes (
    number INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    take TEXT NOT NULL,
    prompt TEXT NOT NULL,
    seed INTEGER NOT NULL,
    model TEXT NOT NULL,
    made TEXT NOT NULL,
    rating INTEGER NOT NULL,
    parent TEXT,
    seconds REAL NOT NULL,
    rate INTEGER NOT NULL,
    label TEXT,
    ucs TEXT NOT NULL,
    size INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    words TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX takes_take ON takes (take);
CREATE INDEX takes_parent ON takes (parent);
CREATE INDEX takes_made ON takes (made);
"""

_WORDS: Final = "CREATE VIRTUAL TABLE takes_words USING fts5 (words, tokenize = 'unicode61')"


class FileState(NamedTuple):
    """What tells that a file was changed. size: bytes; changed: nanoseconds."""

    size: int
    changed: int

    @classmethod
    def of(cls, path: str | Path) -> FileState:
        """Raises: OSError."""
        found = os.stat(path)
        return cls(found.st_size, found.st_mtime_ns)


class TakeIndex:
    """An opened index. Any thread may use it; any number of processes may have the same file open.

    Args:
        path: of the file, which is made if need be.
        full_text: whether SQLite's own word index is used where SQLite has one.

    Attributes:
        empty: it was made, or emptied, just now: takes that lie about are not in it yet.

    Raises:
        ImpactError: `bad_argument` where the folder cannot be written; `disk_full`; `busy`.
    """

    def __init__(self, path: Path, *, full_text: bool = True) -> None:
        self.path = path
        self.empty = False
        self._lock = threading.RLock()
        self._full_text = full_text
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            from impact_plugin.audio.files import disk_error

            raise disk_error(error, path) from error
        with self._errors():
            try:
                self._base = self._open()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                logger.warning("the index of takes is broken (%s), a new one is made: %s", error, path)
                self._set_aside()
                self._base = self._open()

    def close(self) -> None:
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._base.close()

    def __enter__(self) -> TakeIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, record: TakeRecord) -> None:
        """Put in what the file at `record.path` says, or bring it up to date.

        Raises:
            ImpactError: `busy`, `disk_full`; `bad_file` when there is no such file.
        """
        self.update([record], [])

    def update(self, records: Iterable[TakeRecord], gone: Iterable[str | Path]) -> None:
        """Put in and take out, all or nothing. A take whose file was moved keeps no row for the old place.

        Args:
            records: with the paths of their files; gone: paths to forget.

        Raises:
            ImpactError: as :meth:`add`.
        """
        rows = [_row(record) for record in records]
        with self._writing() as base:
            for path in gone:
                self._remove(base, str(absolute(path)))
            for row in rows:
                self._insert(base, row)

    def forget(self, path: str | Path) -> None:
        """Take the row of a file out."""
        self.update([], [path])

    def states(self) -> dict[str, FileState]:
        """Path to what its file was like, of every row."""
        return {row[0]: FileState(row[1], row[2]) for row in self._select("SELECT path, size, changed FROM takes")}

    def at(self, path: str | Path) -> TakeRecord | None:
        """The row of a file."""
        return next(self._records("WHERE path = ?", [str(absolute(path))]), None)

    def named(self, take: str) -> list[TakeRecord]:
        """The rows of takes whose `take` begins so; copies of a file have the same. Those whose file is there first."""
        if not take:
            return []
        found = list(self._records("WHERE take >= ? AND take < ? ORDER BY made DESC, path", [take, take + "g"]))
        return sorted(found, key=lambda record: not os.path.exists(record.path))

    def find(
        self,
        text: str = "",
        *,
        rating: int = 0,
        model: str | None = None,
        limit: int | None = None,
        missing: bool = False,
    ) -> Iterator[TakeRecord]:
        """Takes in which every word of a text occurs, the newest first.

        Args:
            text: words or their beginnings, in prompt, label, file name, model, id of the request or category; "" for
                all takes.
            rating: at least. limit: how many at most. missing: those too whose file is not there now.
        """
        where: list[str] = ["rating >= ?"]
        values: list[object] = [rating]
        if model is not None:
            where.append("model = ?")
            values.append(model)
        wanted = query(text)
        if wanted.match and self._has_words:
            where.append("number IN (SELECT rowid FROM takes_words WHERE takes_words MATCH ?)")
            values.append(wanted.match)
        for pattern in wanted.patterns(plain=not self._has_words):
            where.append("words LIKE ?")
            values.append(pattern)
        condition = f"WHERE {' AND '.join(where)} ORDER BY made DESC, path LIMIT {_PAGE} OFFSET ?"
        given, offset = 0, 0
        while page := list(self._records(condition, [*values, offset])):
            offset += len(page)
            for record in page:
                if limit is not None and given >= limit:
                    return
                if missing or os.path.exists(record.path):
                    given += 1
                    yield record

    def children(self, take: str) -> list[TakeRecord]:
        """Takes that were made from this one, the oldest first."""
        return list(self._records("WHERE parent = ? ORDER BY made, path", [take]))

    def ancestors(self, record: TakeRecord) -> list[TakeRecord]:
        """The take it was made from, the one that was made from, and so on, as far as the index knows them."""
        line: list[TakeRecord] = []
        seen = {record.take}
        while record.parent and record.parent not in seen:
            seen.add(record.parent)
            parents = [parent for parent in self.named(record.parent) if parent.take == record.parent]
            if not parents:
                break
            record = parents[0]
            line.append(record)
        return line

    def __len__(self) -> int:
        return int(self._select("SELECT count(*) FROM takes")[0][0])

    def _open(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)
        try:
            _write_ahead(base)
            base.execute("PRAGMA synchronous = NORMAL")
            self._has_words = self._full_text and _can_index_words(base)
            self._prepare(base)
        except BaseException:
            base.close()
            raise
        return base

    def _prepare(self, base: sqlite3.Connection) -> None:
        """Tables as this version wants them."""
        if base.execute("PRAGMA user_version").fetchone()[0] == SCHEMA and not self._words_lack(base):
            base.execute("SELECT number FROM takes LIMIT 1").fetchone()  # a broken file says so here
            return
        with _transaction(base):
            if base.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                for table in _tables(base):
                    base.execute(f'DROP TABLE IF EXISTS "{table}"')
                for statement in _TABLES.split(";\n"):
                    base.execute(statement)
                base.execute(f"PRAGMA user_version = {SCHEMA}")
                self.empty = True
            if self._words_lack(base):
                base.execute("DROP TABLE IF EXISTS takes_words")
                base.execute(_WORDS)
                base.execute("INSERT INTO takes_words (rowid, words) SELECT number, words FROM takes")

    def _words_lack(self, base: sqlite3.Connection) -> bool:
        """Whether the word index has to be filled: a program without one may have written since."""
        if not self._has_words:
            return False
        if "takes_words" not in _tables(base):
            return True
        counted = base.execute("SELECT (SELECT count(*) FROM takes), (SELECT count(*) FROM takes_words)").fetchone()
        return bool(counted[0] != counted[1])

    def _set_aside(self) -> None:
        """Move a broken file out of the way; it is kept, for whoever wants to look."""
        for ending in ("-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        os.replace(self.path, self.path.with_name(self.path.name + ".broken"))

    def _insert(self, base: sqlite3.Connection, row: Mapping[str, object]) -> None:
        self._remove(base, str(row["path"]))
        if row["take"]:
            moved = base.execute("SELECT path FROM takes WHERE take = ?", [row["take"]]).fetchall()
            for (path,) in moved:
                if not os.path.lexists(path):
                    self._remove(base, path)
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        number = base.execute(f"INSERT INTO takes ({names}) VALUES ({marks})", list(row.values())).lastrowid
        if self._has_words:
            base.execute("INSERT INTO takes_words (rowid, words) VALUES (?, ?)", [number, row["words"]])

    def _remove(self, base: sqlite3.Connection, path: str) -> None:
        if self._has_words:
            base.execute("DELETE FROM takes_words WHERE rowid IN (SELECT number FROM takes WHERE path = ?)", [path])
        base.execute("DELETE FROM takes WHERE path = ?", [path])

    def _records(self, where: str, values: Iterable[object]) -> Iterator[TakeRecord]:
        for path, text in self._select(f"SELECT path, record FROM takes {where}", values):
            yield TakeRecord.from_json(text).model_copy(update={"path": path})

    def _select(self, statement: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        with self._errors(), self._lock:
            return self._base.execute(statement, list(values)).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._errors(), self._lock, _transaction(self._base):
            yield self._base

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise ImpactError("busy", f"another program keeps the index of takes {self.path} busy") from error
            if name.startswith("SQLITE_FULL"):
                raise ImpactError("disk_full", f"no room for the index of takes {self.path}") from error
            raise ImpactError("bad_argument", f"the index of takes {self.path} cannot be used: {error}") from error
        except sqlite3.Error as error:
            raise ImpactError(
                "bad_file", f"the index of takes {self.path} is broken ({error}): delete it, takes are not lost by that"
            ) from error


def absolute(path: str | Path) -> Path:
    """The path under which a file is indexed: from the root, links not followed."""
    return Path(os.path.abspath(path))


def _row(record: TakeRecord) -> dict[str, object]:
    path = absolute(record.path)
    try:
        str(path).encode()
        state = FileState.of(path)
    except (OSError, ValueError) as error:
        raise ImpactError("bad_file", f"{record.path} cannot be indexed: {error}") from error
    return {
        "path": str(path),
        "take": record.take,
        "prompt": record.prompt,
        "seed": record.seed,
        "model": record.model,
        "made": record.made,
        "rating": record.rating,
        "parent": record.parent,
        "seconds": record.seconds,
        "rate": record.rate,
        "label": record.label,
        "ucs": record.ucs,
        "size": state.size,
        "changed": state.changed,
        "words": folded(
            record.prompt, record.label or "", path.stem, record.model, record.id, record.ucs, *words_of(record.ucs)
        ),
        "record": record.to_json(),
    }


def _tables(base: sqlite3.Connection) -> list[str]:
    found = base.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'takes%'").fetchall()
    # SQLite drops what belongs to a word index together with it.
    return [name for (name,) in found if not name.startswith("takes_words_")]


def _can_index_words(base: sqlite3.Connection) -> bool:
    try:
        base.execute("CREATE VIRTUAL TABLE temp.probe USING fts5 (words)")
        base.execute("DROP TABLE temp.probe")
    except sqlite3.OperationalError:
        return False
    return True


def _write_ahead(base: sqlite3.Connection) -> None:
    """Readers and a writer at once. Two processes that open a new file together may have to try again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            base.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def _transaction(base: sqlite3.Connection) -> Iterator[None]:
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
        base.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            base.execute("ROLLBACK")
        raise
