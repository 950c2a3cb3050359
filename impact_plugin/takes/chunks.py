"""What a take says of itself in the words of other programs: the chunks of a WAV file, the tags of a FLAC file.

Knows bext (EBU Tech 3285), LIST/INFO, `cue ` with its labels, `smpl` and our own chunk. Does not put them into files.
"""

from __future__ import annotations

import datetime
import struct
import unicodedata
from typing import Final

from impact_plugin.takes.categories import words_of
from impact_plugin.takes.ixml import ixml
from impact_plugin.takes.record import TakeRecord
from impact_plugin.takes.riff import encode_chunk

#: Our chunk: the record as JSON in UTF-8. And the tag of a FLAC file that holds the same.
CHUNK: Final = b"impt"
TAG: Final = "IMPACT_TAKE"

#: Long enough for every prompt that a job can be given on its way; a longer chunk is not ours.
MAX_RECORD: Final = 4 << 20

ORIGINATOR: Final = "impact-plugin"

#: The key at which a sampler plays a take as it is, and the one cue point of a loop.
_KEY: Final = 60
_CUE: Final = 1


def wav_chunks(record: TakeRecord, *, bits: int) -> list[tuple[bytes, bytes]]:
    """Ids and contents of all chunks that follow the sound, in their order; ours is the last.

    Args:
        bits: of a sample in the file.
    """
    chunks = [(b"bext", bext(record)), (b"iXML", ixml(record, bits=bits)), (b"LIST", info(record))]
    if record.loop is not None:
        start, end = record.loop
        chunks += [(b"cue ", _cue(start)), (b"LIST", _labels("loop")), (b"smpl", _smpl(record.rate, start, end))]
    return [*chunks, (CHUNK, record.to_json().encode())]


def flac_tags(record: TakeRecord) -> dict[str, str]:
    """Vorbis comments: those that players show, the loop as game engines read it, and the record."""
    category, subcategory = words_of(record.ucs)
    tags = {
        "TITLE": record.prompt,
        "SOFTWARE": f"{ORIGINATOR} {record.version}",
        "DATE": record.made[:10],
        "COMMENT": summary(record),
        "GENRE": category,
        "CATID": record.ucs,
        "CATEGORY": category,
        "SUBCATEGORY": subcategory,
        "BPM": record.tempo,
    }
    if record.loop is not None:
        start, end = record.loop
        tags |= {"LOOPSTART": str(start), "LOOPLENGTH": str(end - start + 1)}
    return {name: _plain(text) for name, text in tags.items() if text} | {TAG: record.to_json()}


def summary(record: TakeRecord) -> str:
    """A line for people: `seed 7, model starter, 16 iterations, guidance 3`."""
    return (
        f"seed {record.seed}, model {record.model}, {record.iterations} iterations, guidance {record.guidance:g}"
        + (f", label {record.label}" if record.label else "")
        + (f", made from take {record.parent}" if record.parent else "")
    )


def bext(record: TakeRecord) -> bytes:
    """The broadcast extension, version 1, all its text ASCII as EBU Tech 3285 wants it: iXML holds the rest."""
    try:
        made = datetime.datetime.fromisoformat(record.made)
        date, time = made.strftime("%Y-%m-%d"), made.strftime("%H:%M:%S")
    except ValueError:
        date, time = "", ""
    return struct.pack(
        "<256s32s32s10s8sQH64s190x",
        _ascii(record.prompt[:256]),
        ORIGINATOR.encode(),
        f"impact-{record.take}".encode("ascii", "replace") if record.take else b"",
        date.encode(),
        time.encode(),
        record.time_reference,
        1,
        b"",
    )


def info(record: TakeRecord) -> bytes:
    """LIST/INFO, in UTF-8."""
    category, subcategory = words_of(record.ucs)
    keywords = [record.ucs, *category.split(" & "), *subcategory.split(" & "), record.label or ""]
    strings = {
        b"INAM": record.prompt,
        b"ISFT": f"{ORIGINATOR} {record.version}",
        b"ICMT": summary(record),
        b"ICRD": record.made[:10],
        b"IGNR": category,
        b"IKEY": "; ".join(dict.fromkeys(word for word in keywords if word)),
    }
    chunks = [encode_chunk(id, _plain(text).encode() + b"\0") for id, text in strings.items() if text]
    return b"INFO" + b"".join(chunks)


def _cue(start: int) -> bytes:
    """One cue point. start: sample."""
    return struct.pack("<I" + "II4sIII", 1, _CUE, start, b"data", 0, 0, start)


def _labels(text: str) -> bytes:
    return b"adtl" + encode_chunk(b"labl", struct.pack("<I", _CUE) + text.encode() + b"\0")


def _smpl(rate: int, start: int, end: int) -> bytes:
    """One forward loop that never ends. end: the last sample that is played."""
    header = struct.pack("<9I", 0, 0, round(1e9 / rate), _KEY, 0, 0, 0, 1, 0)
    return header + struct.pack("<6I", _CUE, 0, start, end, 0, 0)


def _ascii(text: str) -> bytes:
    """Accents are dropped, what has no letter in ASCII becomes `?`."""
    folded = unicodedata.normalize("NFKD", text)
    plain = "".join(char for char in folded if not unicodedata.combining(char))
    return plain.replace("\0", " ").encode("ascii", "replace")[:256]


def _plain(text: str) -> str:
    return text.replace("\0", " ")
