"""The sound files of a folder.

Knows endings and which folders and files a user does not mean (hidden ones). Opens none of them.
"""

from __future__ import annotations

import os
from pathlib import Path

#: Endings of what libsndfile reads and sound libraries hold.
ENDINGS = frozenset(
    {".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".caf", ".au", ".snd", ".flac", ".ogg", ".oga"}
    | {".opus", ".mp3"}
)


def sound_files(folder: Path, *, skip: Path | None = None) -> list[Path]:
    """The sound files of a folder and its subfolders, by their ending, sorted; hidden ones are left out.

    Args:
        skip: a folder to leave out, if it lies inside.
    """
    found: list[Path] = []
    skipped = skip.resolve() if skip else None
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (Path(base) / f).resolve() != skipped)
        found += [Path(base) / n for n in names if not n.startswith(".") and Path(n).suffix.lower() in ENDINGS]
    return sorted(found)
