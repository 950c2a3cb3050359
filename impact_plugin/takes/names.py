"""File names of takes after the Universal Category System: `CatID_FXName_CreatorID_SourceID_UserData.wav`.

Knows which characters are safe in file names everywhere, and how to make any prompt one. Does not write files.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

CREATOR = "IMPACT"
MAX_BYTES = 120
FXNAME_LENGTH = 24


def fx_name(prompt: str) -> str:
    """The prompt as an FXName: `GlassBottleShatters`, at most 24 letters and digits, whole words where they fit."""
    folded = unicodedata.normalize("NFKD", prompt)
    folded = unicodedata.normalize("NFC", "".join(char for char in folded if not unicodedata.combining(char)))
    words = re.findall(r"[^\W_]+", folded)
    name = ""
    for word in words:
        word = word[0].upper() + word[1:]
        if len(name) + len(word) > FXNAME_LENGTH:
            name = name or word[:FXNAME_LENGTH]
            break
        name += word
    return name or "Sound"


def safe_part(text: str, fallback: str = "x") -> str:
    """Letters, digits, `.`, `-`, `+` of a text, so that it can be one block of a file name on any system."""
    safe = re.sub(r"[^\w.+-]+", "-", text.replace("_", "-"), flags=re.ASCII).strip(".-")
    return safe[:40].rstrip(".-") or fallback


def take_stem(prompt: str, *, catid: str, model: str, seed: int, variant: int) -> str:
    """The name of a take without its ending, at most :data:`MAX_BYTES` bytes.

    Args:
        catid: CatID of the Universal Category System.
        model: name of the bundle, the SourceID.
        seed: the take's own seed; variant: its number in the request. Together they are the UserData.
    """
    tail = f"{CREATOR}_{safe_part(model, 'model')}_{user_data(seed, variant)}"
    room = MAX_BYTES - len(f"{catid}__{tail}".encode()) - 8  # for _2 and .flac
    name = fx_name(prompt).encode()[: max(room, 4)].decode(errors="ignore")
    return f"{catid}_{name}_{tail}"


def user_data(seed: int, variant: int) -> str:
    """The block of a file name that no other take of a model and prompt has."""
    return f"s{seed}-t{variant:02d}"


def safe_stem(text: str) -> str:
    """An id of the user's own as a file name: unlike :func:`safe_part` it keeps `_` and spaces between words."""
    kept = "".join(char if char.isalnum() or char in " ._+-()" else "-" for char in unicodedata.normalize("NFC", text))
    stem = kept.strip(" .-").encode()[:MAX_BYTES].decode(errors="ignore").strip(" .-") or "take"
    reserved = stem.split(".")[0].upper() in {"CON", "PRN", "AUX", "NUL"} or re.fullmatch(
        r"(COM|LPT)\d", stem.split(".")[0].upper()
    )
    return f"take-{stem}" if reserved else stem


def candidates(folder: Path, stem: str, suffix: str) -> Iterator[Path]:
    """`stem.wav`, `stem_2.wav`, `stem_3.wav` ...: the names to try so that nothing is overwritten."""
    yield folder / f"{stem}{suffix}"
    number = 2
    while True:
        yield folder / f"{stem}_{number}{suffix}"
        number += 1
