"""A take to its file: complete or not there, never over another one, its record inside.

Knows names and files. Does not know the engine or the index (:mod:`impact_plugin.takes.store` knows both).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from impact_plugin.audio.files import Format, Subtype, write_file
from impact_plugin.takes.file import Audio, take_writer
from impact_plugin.takes.names import candidates
from impact_plugin.takes.record import TakeRecord, new_take, now


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
        The record with the path it got, and with `take` and `made` where it had none.

    Raises:
        ImpactError: `too_large`, and as :func:`impact_plugin.audio.files.write_file`.
    """
    record = record.model_copy(update={"take": record.take or new_take(), "made": record.made or now()})
    fill = take_writer(audio, record, format=format, subtype=subtype)
    path = write_file(candidates(folder, stem, f".{format}"), fill, overwrite=overwrite)
    return record.model_copy(update={"path": str(path)})


def write_new(folder: Path, stem: str, suffix: str, data: bytes, *, overwrite: bool = False) -> Path:
    """Write bytes under the first free name. Errors as :func:`impact_plugin.audio.files.write_file`."""

    def fill(handle: BinaryIO) -> None:
        handle.write(data)

    return write_file(candidates(folder, stem, suffix), fill, overwrite=overwrite)
