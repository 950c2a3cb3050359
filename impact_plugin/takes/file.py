"""A take's file: the sound with its record inside, written, read, and rated.

Knows which bytes of a WAV or FLAC file hold the record. Does not know names, folders or the index.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from impact_plugin.audio.files import BYTES, Format, Subtype, encode_sound, write_file
from impact_plugin.errors import ImpactError
from impact_plugin.takes import flac, riff
from impact_plugin.takes.chunks import CHUNK, MAX_RECORD, TAG, flac_tags, wav_chunks
from impact_plugin.takes.record import TakeRecord

Audio = npt.NDArray[np.float32]

#: Endings of the files that can be takes.
TAKE_ENDINGS = frozenset({".wav", ".flac"})

#: Room that is kept for headers and chunks when a file's size is foreseen, bytes.
_METADATA = 1 << 16


class NoTakeError(ImpactError):
    """A file without a record inside: it may be a fine sound, but it is no take."""

    def __init__(self, text: str) -> None:
        super().__init__("bad_file", text, "take")


def take_writer(audio: Audio, record: TakeRecord, *, format: Format, subtype: Subtype) -> Callable[[BinaryIO], None]:
    """What fills a new file with a take.

    Args:
        audio: (frames,) or (frames, channels) float32 at `record.rate`.

    Raises:
        ImpactError: `too_large` when a WAV file cannot hold it; `bad_argument` for a loop that leaves the sound.
    """
    if record.loop is not None and record.loop[1] >= len(audio):
        raise ImpactError("bad_argument", f"a loop cannot end at sample {record.loop[1]} of {len(audio)}", "loop")
    if format == "wav":
        riff.check_size(audio.size * BYTES[subtype] + _METADATA)
    data = encode_sound(audio, record.rate, format=format, subtype=subtype)
    if format == "wav":
        return partial(_fill_wav, data, wav_chunks(record, bits=8 * BYTES[subtype]))
    return partial(_fill_flac, data, flac_tags(record))


def _fill_wav(data: bytes, chunks: list[tuple[bytes, bytes]], target: BinaryIO) -> None:
    target.write(data)
    riff.append_chunks(target, chunks)


def _fill_flac(data: bytes, tags: dict[str, str], target: BinaryIO) -> None:
    source = io.BytesIO(data)
    blocks = flac.read_blocks(source) or []
    flac.write_comments(source, target, blocks, tags)


def read_record(path: Path) -> TakeRecord:
    """The record inside a take.

    Raises:
        NoTakeError: no take of ours.
        ImpactError: `bad_file` when the file cannot be read, is cut short or its record broken.
    """
    try:
        record = TakeRecord.from_json(_read(path))
    except OSError as error:
        raise ImpactError("bad_file", f"cannot read {path}: {error.strerror or error}", "take") from error
    except NoTakeError as error:
        raise NoTakeError(f"{path}: {error.text}") from None
    except ImpactError as error:
        raise ImpactError(error.code, f"{path}: {error.text}", "take") from None
    return record.model_copy(update={"path": str(path)})


def rate_file(path: Path, rating: int) -> TakeRecord:
    """Put a rating into a take: the file is written anew beside itself and then replaced, the sound untouched.

    Args:
        rating: 0 (none) to 5.

    Raises:
        ImpactError: as :func:`read_record`; `bad_argument` for another rating or a file that cannot be replaced;
            `disk_full`.
    """
    if not 0 <= rating <= 5:
        raise ImpactError("bad_argument", f"a rating is a whole number from 0 to 5, not {rating}", "rating")
    record = read_record(path)
    if record.rating == rating:
        return record
    data = json.loads(_read(path))  # with whatever a later version may have put there
    data["rating"] = rating
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    write_file([path], partial(_refill, path, text), overwrite=True)
    return read_record(path)


def _refill(path: Path, text: str, target: BinaryIO) -> None:
    """The take at `path` with another record."""
    with open(path, "rb") as source:
        layout = riff.read_layout(source)
        if layout is not None:
            riff.replace_chunks(source, target, layout, {CHUNK: text.encode()})
        else:
            flac.write_comments(source, target, flac.read_blocks(source) or [], {TAG: text})
    shutil.copymode(path, target.name)


def _read(path: Path) -> str:
    """The embedded JSON.

    Raises:
        ImpactError: `bad_file`, without the path.
        OSError: when the file cannot be read.
    """
    with open(path, "rb") as file:
        layout = riff.read_layout(file)
        if layout is not None:
            return _read_wav(file, layout)
        blocks = flac.read_blocks(file)
        if blocks is None:
            raise NoTakeError("this is neither a WAV nor a FLAC file, so it is no take")
        text = flac.read_comments(blocks).get(TAG)
        if text is None:
            raise _foreign()
        return text


def _read_wav(file: BinaryIO, layout: riff.Layout) -> str:
    chunk = layout.find(CHUNK)
    if chunk is None:
        if layout.missing:
            raise ImpactError("bad_file", f"the file is cut short: {layout.missing} bytes are missing at its end")
        raise _foreign()
    if chunk.size > MAX_RECORD:
        raise ImpactError("bad_file", "the record of the take inside is broken")
    try:
        return riff.read_chunk(file, chunk).decode()
    except UnicodeDecodeError:
        raise ImpactError("bad_file", "the record of the take inside is broken") from None


def _foreign() -> NoTakeError:
    return NoTakeError("no record of a take is inside: impact did not make this file, or another program rewrote it")
