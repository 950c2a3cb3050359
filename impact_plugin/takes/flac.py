"""FLAC: the Vorbis comments of a file, read and replaced, everything else left as it is.

Knows metadata blocks (RFC 9639, section 8) and nothing of sound. libsndfile writes FLAC files, but only the few tags
that it has names for.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import BinaryIO, Final, NamedTuple

from impact_plugin.errors import ImpactError

MARK: Final = b"fLaC"
COMMENTS: Final = 4
PADDING: Final = 1

#: What 24 bits can say.
MAX_BLOCK: Final = (1 << 24) - 1

#: No file needs more, pictures included; a broken one must not keep a reader busy.
MAX_BLOCKS: Final = 1024
MAX_METADATA: Final = 64 << 20


class Block(NamedTuple):
    """A metadata block: its kind and its content."""

    kind: int
    content: bytes


def read_blocks(file: BinaryIO) -> list[Block] | None:
    """The metadata blocks of a FLAC file, after which the file stands at its first frame; None when it is none.

    Raises:
        ImpactError: `bad_file` when the file ends inside them or they never end.
    """
    file.seek(0)
    if file.read(4) != MARK:
        return None
    blocks: list[Block] = []
    last = False
    while not last:
        if len(blocks) >= MAX_BLOCKS or file.tell() > MAX_METADATA:
            raise ImpactError("bad_file", "the metadata of the file have no end")
        head = file.read(4)
        size = int.from_bytes(head[1:], "big")
        content = file.read(size)
        if len(head) < 4 or len(content) < size:
            raise ImpactError("bad_file", "the file is cut short inside its metadata")
        last = bool(head[0] & 0x80)
        blocks.append(Block(head[0] & 0x7F, content))
    return blocks


def read_comments(blocks: list[Block]) -> dict[str, str]:
    """The Vorbis comments, names in capitals; of a name that comes twice the first."""
    found: dict[str, str] = {}
    for field in _fields(blocks)[1]:
        name, sign, text = field.partition(b"=")
        if sign:
            found.setdefault(name.decode("ascii", "replace").upper(), text.decode("utf-8", "replace"))
    return found


def write_comments(source: BinaryIO, target: BinaryIO, blocks: list[Block], comments: Mapping[str, str]) -> None:
    """Copy a FLAC file with these comments added, each in the place of those of its name.

    Args:
        source: stands at its first frame, as :func:`read_blocks` leaves it; blocks: what that gave.

    Raises:
        ImpactError: `too_large` when the comments do not fit into a block.
    """
    vendor, fields = _fields(blocks)
    names = {name.upper().encode("ascii") for name in comments}
    kept = [field for field in fields if field.partition(b"=")[0].upper() not in names]
    kept += [f"{name}={text}".encode() for name, text in comments.items()]
    content = _sized(vendor) + len(kept).to_bytes(4, "little") + b"".join(map(_sized, kept))
    if len(content) > MAX_BLOCK:
        raise ImpactError("too_large", "the metadata are too long for a FLAC file")
    result = [block for block in blocks if block.kind not in (COMMENTS, PADDING)]
    result.insert(1, Block(COMMENTS, content))  # the first block is always STREAMINFO
    target.write(MARK)
    for number, block in enumerate(result, start=1):
        last = 0x80 if number == len(result) else 0
        target.write(bytes([block.kind | last]) + len(block.content).to_bytes(3, "big") + block.content)
    shutil.copyfileobj(source, target, 1 << 20)


def _fields(blocks: list[Block]) -> tuple[bytes, list[bytes]]:
    """The vendor's name and the comments as `NAME=text`; what is cut short is left out."""
    content = next((block.content for block in blocks if block.kind == COMMENTS), b"")
    vendor, at = _field(content, 0)
    count = int.from_bytes(content[at : at + 4], "little")
    at += 4
    fields: list[bytes] = []
    while len(fields) < count and at + 4 <= len(content):
        field, at = _field(content, at)
        if at > len(content):
            break
        fields.append(field)
    return vendor, fields


def _field(content: bytes, at: int) -> tuple[bytes, int]:
    size = int.from_bytes(content[at : at + 4], "little")
    return content[at + 4 : at + 4 + size], at + 4 + size


def _sized(field: bytes) -> bytes:
    return len(field).to_bytes(4, "little") + field
