"""Binary frames of the WebSocket: a preview's sound behind a small header.

    4 bytes   `IMP1`
    4 bytes   length of the header, unsigned, little-endian
    header    UTF-8 JSON: the `preview` event (event, id, variant, iteration, path, seconds, client)
    the rest  a whole WAV file, 16-bit PCM

Knows bytes. Does not know sockets.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Final

MAGIC: Final = b"IMP1"
_LENGTH: Final = struct.Struct("<I")
MAX_HEADER: Final = 65_536


def pack_preview(header: dict[str, Any], wav: bytes) -> bytes:
    """A frame."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return MAGIC + _LENGTH.pack(len(text)) + text + wav


def unpack_preview(frame: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and WAV file of a frame.

    Raises:
        ValueError: when it is none.
    """
    start = len(MAGIC) + _LENGTH.size
    if len(frame) < start or frame[: len(MAGIC)] != MAGIC:
        raise ValueError("no preview frame")
    (length,) = _LENGTH.unpack_from(frame, len(MAGIC))
    if length > MAX_HEADER or start + length > len(frame):
        raise ValueError("the header is cut short")
    header = json.loads(frame[start : start + length])
    if not isinstance(header, dict):
        raise ValueError("the header is no object")
    return header, frame[start + length :]
