"""RIFF: the chunks of a WAV file, walked, added and replaced.

Knows ids, sizes and the byte that pads an odd chunk. Does not know what any chunk means. libsndfile writes the sound
itself, but no chunks of others' choosing, and no kept library does that under a licence that goes with this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple

from impact_plugin.errors import ImpactError

#: A RIFF file says its size, less eight bytes, in 32 bits.
MAX_FILE: Final = 2**32 - 1

#: Files of more chunks than this are broken, or made to keep a reader busy.
MAX_CHUNKS: Final = 4096

_HEADER: Final = 12

#: What programs say that write into a pipe and cannot come back to say the size.
_UNKNOWN: Final = (0, MAX_FILE)


class Chunk(NamedTuple):
    """A chunk: its four letters, where its content begins, and how many bytes that is, the padding not among them."""

    id: bytes
    at: int
    size: int

    @property
    def end(self) -> int:
        """Where the next chunk begins."""
        return self.at + self.size + (self.size & 1)


@dataclass(frozen=True)
class Layout:
    """The chunks of a WAV file in their order. size: bytes that the file has; end: where it says that it ends."""

    chunks: tuple[Chunk, ...]
    size: int
    end: int

    @property
    def missing(self) -> int:
        """Bytes that should follow the end of the file; 0 = it is whole."""
        ends = [chunk.at + chunk.size for chunk in self.chunks[-1:]]
        return max(0, self.end - self.size, *(end - self.size for end in ends))

    def find(self, id: bytes) -> Chunk | None:
        """The first whole chunk of an id."""
        return next((chunk for chunk in self.chunks if chunk.id == id and chunk.at + chunk.size <= self.size), None)


def read_layout(file: BinaryIO) -> Layout | None:
    """Walk the chunks of a file; None when it is no WAV file of 32-bit sizes."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(_HEADER)
    if len(head) < _HEADER or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    said = int.from_bytes(head[4:8], "little")
    end = size if said in _UNKNOWN else said + 8
    chunks: list[Chunk] = []
    at = _HEADER
    while at + 8 <= min(size, end) and len(chunks) < MAX_CHUNKS:
        file.seek(at)
        header = file.read(8)
        length = int.from_bytes(header[4:], "little")
        if header[:4] == b"data" and length == MAX_FILE:
            length = size - at - 8
        chunks.append(Chunk(header[:4], at + 8, length))
        at = chunks[-1].end
    return Layout(tuple(chunks), size, end)


def read_chunk(file: BinaryIO, chunk: Chunk) -> bytes:
    """The content of a chunk."""
    file.seek(chunk.at)
    return file.read(chunk.size)


def encode_chunk(id: bytes, content: bytes) -> bytes:
    """A chunk with its header and, when its size is odd, the zero that pads it."""
    return id + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) & 1)


def append_chunks(file: BinaryIO, chunks: Sequence[tuple[bytes, bytes]]) -> None:
    """Put chunks behind those of a WAV file that is open for reading and writing.

    Raises:
        ImpactError: `too_large` when the file would get longer than RIFF can say.
    """
    tail = b"".join(encode_chunk(id, content) for id, content in chunks)
    size = file.seek(0, 2)
    padding = size & 1
    check_size(size + padding + len(tail))
    file.write(b"\0" * padding + tail)
    _write_size(file)


def replace_chunks(source: BinaryIO, target: BinaryIO, layout: Layout, replaced: Mapping[bytes, bytes]) -> None:
    """Copy a whole WAV file, chunk by chunk and in order, with other contents for some ids; new ids come last.

    Raises:
        ImpactError: `too_large`.
    """
    source.seek(0)
    target.write(source.read(_HEADER))
    left = dict(replaced)
    for chunk in layout.chunks:
        if chunk.id in left:
            target.write(encode_chunk(chunk.id, left.pop(chunk.id)))
            continue
        if chunk.id in replaced:  # once is enough
            continue
        source.seek(chunk.at - 8)
        _copy(source, target, 8 + chunk.size)
        target.write(b"\0" * (chunk.size & 1))
    for id, content in left.items():
        target.write(encode_chunk(id, content))
    check_size(target.tell())
    _write_size(target)


def check_size(size: int) -> None:
    """Refuse a WAV file of so many bytes if it would need more than 32 bits for its size.

    Raises:
        ImpactError: `too_large`.
    """
    if size > MAX_FILE:
        raise ImpactError("too_large", "a WAV file holds 4 GiB at most: ask for less, for a lower rate, or for FLAC")


def _write_size(file: BinaryIO) -> None:
    size = file.seek(0, 2)
    file.seek(4)
    file.write((size - 8).to_bytes(4, "little"))
    file.seek(0, 2)


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size > 0 and (data := source.read(min(size, 1 << 20))):
        target.write(data)
        size -= len(data)
