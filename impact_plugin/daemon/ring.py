"""Previews on disk: a ring of files that are complete under their names, the oldest going when room is needed.

Knows a folder of its own and its bounds. Does not know jobs; whoever is told a path should read it soon.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import Final

from impact_plugin.audio.files import PARTIAL, disk_error

logger = logging.getLogger(__name__)

MAX_BYTES: Final = 256 << 20
MAX_FILES: Final = 1024

_OWN: Final = re.compile(r"preview-\d+-v\d+-i\d+-[0-9a-f]{6}\.wav(" + re.escape(PARTIAL) + ")?")


class PreviewRing:
    """The newest previews of this daemon. Not for several threads at once.

    Args:
        folder: made when the first preview is written. Previews that an earlier daemon left in it are removed, other
            files are not.
        max_bytes, max_files: bounds of the whole.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
        self.folder = folder
        self._max_bytes, self._max_files = max_bytes, max_files
        self._files: OrderedDict[Path, int] = OrderedDict()
        self._bytes = 0
        self._run = os.urandom(3).hex()
        self.clear()

    def write(self, number: int, variant: int, iteration: int, data: bytes) -> Path:
        """A preview, complete when this returns. It need not survive a power cut, so it is not flushed to the disk.

        Raises:
            ImpactError: `disk_full` and the like.
        """
        path = self.folder / f"preview-{number}-v{variant}-i{iteration:03d}-{self._run}.wav"
        partial = path.with_name(path.name + PARTIAL)
        self._make_room(len(data))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_bytes(data)
                os.replace(partial, path)
            finally:
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, path) from error
        self._bytes += len(data) - self._files.pop(path, 0)
        self._files[path] = len(data)
        return path

    def clear(self) -> None:
        """Remove all previews, also those of earlier daemons."""
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if _OWN.fullmatch(path.name):
                    with contextlib.suppress(OSError):
                        path.unlink()
        self._files.clear()
        self._bytes = 0

    def _make_room(self, needed: int) -> None:
        while self._files and (self._bytes + needed > self._max_bytes or len(self._files) >= self._max_files):
            path, size = self._files.popitem(last=False)
            self._bytes -= size
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
