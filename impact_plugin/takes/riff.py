"""The text inside a WAV file's LIST/INFO chunk, however long it is (libsndfile reads 2 KB of each string only).

Knows RIFF's chunks and their sizes. Does not know what the text means.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

#: Chunks that are read: longer ones than this are not ours.
MAX_BYTES: Final = 1 << 20

_HEADERS: Final = (b"RIFF", b"RF64")


def info_strings(path: Path) -> dict[str, str]:
    """Chunk ids (INAM, ICMT, ISFT ...) to text; empty for whatever is no WAV file or has none.

    Raises:
        OSError: when the file cannot be read.
    """
    strings: dict[str, str] = {}
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] not in _HEADERS or head[8:12] != b"WAVE":
            return {}
        while chunk := _chunk(file):
            name, size = chunk
            if name == b"LIST" and 4 <= size <= MAX_BYTES:
                strings.update(_info(file.read(size)))
                file.seek(size & 1, 1)
            else:
                file.seek(size + (size & 1), 1)
    return strings


def _chunk(file: BinaryIO) -> tuple[bytes, int] | None:
    head = file.read(8)
    return (head[:4], int.from_bytes(head[4:8], "little")) if len(head) == 8 else None


def _info(body: bytes) -> dict[str, str]:
    """The strings of a LIST chunk's content; what is cut short or of another list is left out."""
    found: dict[str, str] = {}
    if body[:4] != b"INFO":
        return found
    at = 4
    while at + 8 <= len(body):
        name, size = body[at : at + 4], int.from_bytes(body[at + 4 : at + 8], "little")
        text = body[at + 8 : at + 8 + size]
        if len(text) == size:
            found[name.decode("latin-1")] = text.split(b"\0")[0].decode("utf-8", "replace")
        at += 8 + size + (size & 1)
    return found
