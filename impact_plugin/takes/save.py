"""A take to its file: complete or not there, never over another one, its record inside.

Knows files and records. Does not know the engine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from impact_plugin.audio.files import Format, Subtype, encode_sound, write_bytes
from impact_plugin.errors import ImpactError
from impact_plugin.takes.names import candidates
from impact_plugin.takes.record import TakeRecord

Audio = npt.NDArray[np.float32]


def save_take(
    folder: Path,
    stem: str,
    audio: Audio,
    record: TakeRecord,
    *,
    format: Format = "wav",
    subtype: Subtype = "PCM_24",
    overwrite: bool = False,
) -> TakeRecord:
    """Write a take into an existing folder.

    Args:
        stem: file name without its ending; when it is taken, `stem_2`, `stem_3` ... are tried.
        audio: (frames,) float32 at `record.rate`.

    Returns:
        The record with the path it got.

    Raises:
        ImpactError: as :func:`impact_plugin.audio.files.write_bytes`.
    """
    data = encode_sound(audio, record.rate, format=format, subtype=subtype, strings=record.strings())
    path = write_new(folder, stem, f".{format}", data, overwrite=overwrite)
    return record.model_copy(update={"path": str(path)})


def write_new(folder: Path, stem: str, suffix: str, data: bytes, *, overwrite: bool = False) -> Path:
    """Write bytes under the first free name."""
    for path in candidates(folder, stem, suffix):
        if not overwrite and path.exists():
            continue
        try:
            return write_bytes(path, data, overwrite=overwrite)
        except ImpactError as error:
            if not isinstance(error.__cause__, FileExistsError):  # taken a moment ago: try the next name
                raise
    raise ImpactError("internal", f"no free name for {stem} in {folder}")  # pragma: no cover - candidates never end
