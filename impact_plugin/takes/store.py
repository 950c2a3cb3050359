"""Takes as a whole: files in their folders and the index that finds them again.

Knows how to save, find, rate and take away; whoever makes takes goes through here. A take whose file is written is
saved, whatever the index says: a broken, busy or unwritable index costs a remark, never a take.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from impact_plugin.audio.files import Format, Subtype, disk_error, remove_partials
from impact_plugin.errors import ImpactError
from impact_plugin.paths import takes_folder, takes_index
from impact_plugin.takes.fence import fence
from impact_plugin.takes.file import TAKE_ENDINGS, Audio, rate_file, read_record
from impact_plugin.takes.index import TakeIndex, absolute
from impact_plugin.takes.record import TakeRecord
from impact_plugin.takes.save import save_take
from impact_plugin.takes.scan import Changes, scan

logger = logging.getLogger(__name__)

_TAKE = re.compile(r"[0-9a-f]{4,16}")


class TakeStore:
    """All takes of a user. Any thread may use it.

    Args:
        folder: where takes go and which is looked through without being asked; without it the user's own.
        index: file of the index; without it the user's own. It is opened when it is first needed.

    Attributes:
        problem: why takes were saved without getting into the index, "" when they all did.
    """

    def __init__(self, folder: Path | None = None, index: Path | None = None) -> None:
        self.folder = takes_folder() if folder is None else folder
        self.problem = ""
        self._path = takes_index() if index is None else index
        self._index: TakeIndex | None = None
        self._lock = threading.Lock()

    @property
    def index(self) -> TakeIndex:
        """The index, opened. One that was deleted, broken or never there is filled from the store's folder first.

        Raises:
            ImpactError: as :class:`impact_plugin.takes.index.TakeIndex`.
        """
        with self._lock:
            if self._index is not None and not self._path.exists():  # somebody deleted it while it was open
                self._index.close()
                self._index = None
            if self._index is None:
                self._index = TakeIndex(self._path)
                if self._index.empty:
                    scan(self._index, [self.folder])
            return self._index

    def close(self) -> None:
        """Close the index; it is opened again when it is needed again."""
        with self._lock:
            if self._index is not None:
                self._index.close()
                self._index = None

    def save(
        self,
        audio: Audio,
        record: TakeRecord,
        *,
        folder: Path | None = None,
        stem: str | None = None,
        format: Format = "wav",
        subtype: Subtype = "PCM_24",
        overwrite: bool = False,
    ) -> TakeRecord:
        """Write a take and put it into the index.

        Args:
            audio: (frames,) float32 at `record.rate`.
            folder: an existing one, without it the store's own. stem: file name without ending, without it the one
                after the Universal Category System; a number is put behind it when it is taken.

        Returns:
            The record with path, `take` and `made`. The file is whole and on the disk: it may be announced.

        Raises:
            ImpactError: as :func:`impact_plugin.takes.save.save_take`; never for the index's sake.
        """
        saved = save_take(
            self.folder if folder is None else folder,
            record.stem if stem is None else stem,
            audio,
            record,
            format=format,
            subtype=subtype,
            overwrite=overwrite,
        )
        try:
            self.index.add(saved)
        except ImpactError as error:
            self.problem = error.text
            logger.warning("%s is saved, but not in the index: %s", saved.path, error.text)
        return saved

    def path_of(self, name: str, *, roots: Sequence[Path] | None = None) -> Path:
        """The file of a take.

        Args:
            name: a path, from the current folder or the store's; or `take`, or the beginning of it that no other has;
                or a file's name without the ending.
            roots: folders that a path must lie in, for names that came over the network. None: anywhere.

        Raises:
            ImpactError: `bad_argument` (outside of the folders, or several takes begin so), `unknown_id`, `bad_file`
                (the file is gone).
        """
        if not name.strip() or "\0" in name:
            raise ImpactError("bad_argument", "which take? Give a file or the id of a take", "take")
        looks_like_path = any(sign in name for sign in ("/", os.sep)) or Path(name).suffix.lower() in TAKE_ENDINGS
        if roots is not None and looks_like_path:
            found: Path | None = fence(name, roots, "take")
        elif looks_like_path or os.path.exists(name):
            found = next((path for path in (Path(name), self.folder / name) if path.exists()), None)
        else:
            found = self._named(name)
        if found is None and not looks_like_path:
            raise self._unknown(name)
        if found is None or not found.exists():
            raise ImpactError("bad_file", f"there is no take {name}", "take")
        return found if roots is None else fence(found, roots, "take")

    def read(self, name: str, *, roots: Sequence[Path] | None = None) -> TakeRecord:
        """The record inside a take's file. Arguments and errors as :meth:`path_of` and `read_record`."""
        return read_record(self.path_of(name, roots=roots))

    def rate(self, path: Path, rating: int) -> TakeRecord:
        """Give a take 0 (no rating) to 5, in its file and in the index.

        Raises:
            ImpactError: as :func:`impact_plugin.takes.file.rate_file`, and what the index raises.
        """
        record = rate_file(path, rating)
        self.index.add(record)
        return record

    def delete(self, path: Path) -> None:
        """Delete a take's file, if it is a take, and its row.

        Raises:
            ImpactError: `bad_file` for what is no take; `bad_argument` where it cannot be deleted.
        """
        read_record(path)
        try:
            path.unlink()
        except OSError as error:
            raise disk_error(error, path) from error
        self.index.forget(path)

    def refresh(self, folders: Sequence[Path] = (), *, anew: bool = False) -> Changes:
        """Bring the index up to date with the store's folder, further ones, and every file it knows.

        Raises:
            ImpactError: what the index raises.
        """
        return scan(self.index, [self.folder, *folders], anew=anew)

    def folders(self) -> list[Path]:
        """The store's folder and all others that hold takes which the index knows."""
        known = {absolute(self.folder)} | {Path(path).parent for path in self.index.states()}
        return sorted(known)

    def clean(self, *, older_than_s: float = 600.0) -> list[Path]:
        """Remove temporary files that crashes left in :meth:`folders`."""
        return [path for folder in self.folders() for path in remove_partials(folder, older_than_s=older_than_s)]

    def forget_missing(self) -> int:
        """Forget the rows whose file is not there; how many there were."""
        missing = [path for path in self.index.states() if not os.path.lexists(path)]
        self.index.update([], missing)
        return len(missing)

    def _named(self, name: str) -> Path | None:
        """The file of a take by the beginning of its id, or by its file's name without the ending."""
        records = self.index.named(name) if _TAKE.fullmatch(name) else []
        if not records:
            records = [record for record in self.index.find(name, missing=True) if Path(record.path).stem == name]
        takes = {record.take for record in records}
        if len(takes) > 1:
            raise ImpactError("bad_argument", f"{len(takes)} takes are called {name}: give more of the id", "take")
        there = [record for record in records if os.path.exists(record.path)]
        return self._there(Path((there or records)[0].path)) if records else None

    def _there(self, path: Path) -> Path:
        if not path.exists():
            raise ImpactError("bad_file", f"the file of this take is gone: {path}; `impact takes scan` looks for it")
        return path

    def _unknown(self, name: str) -> ImpactError:
        names = [Path(path).stem for path in self.index.states()]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        advice = f"did you mean {near[0]}?" if near else "see `impact takes list`"
        return ImpactError("unknown_id", f"there is no take {name[:100]!r}; {advice}", "take")
