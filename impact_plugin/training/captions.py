"""What a sound file of a user's own library is a sound of: a caption from a table, a sidecar, its metadata or its name.

Knows CSV tables, text files beside the sound, `bext` and `iXML` chunks, and how people name sound files, the Universal
Category System among them. Does not decode audio and does not know data sets: see `folder`.
"""

from __future__ import annotations

import csv
import io
import re
import struct
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from impact_plugin.errors import ImpactError

MAX_CAPTION = 400
MAX_TABLE_BYTES = 64 << 20
MAX_CHUNK_BYTES = 1 << 20
FILE_COLUMNS = ("file", "filename", "file name", "filepath", "path", "name")
CAPTION_COLUMNS = ("caption", "description", "text", "prompt")
TABLE_NAMES = ("captions.csv", "metadata.csv", "captions.tsv")

#: CatIDs in capitals alone, which a name like `SFX_Door_01` must not be taken for.
_SHORT_CATIDS = frozenset({"RAIN", "THUN", "WHSH", "SWSH", "AIR", "FIRE", "WIND"})
_CATID = re.compile(r"[A-Z]{3,6}[a-z]{1,6}")
#: What a name says about the file rather than the sound.
_NOT_WORDS = frozenset(
    {"wav", "wave", "aif", "aiff", "flac", "mp", "ogg", "mono", "stereo", "left", "right", "sfx", "fx", "snd", "norm"}
    | {"normalized", "final", "master", "edit", "take", "tk", "ver", "version", "khz", "hz", "bit", "bits", "kbps"}
)
#: Names of files from freesound.org: number, user, title.
_FREESOUND = re.compile(r"\d+__.+?__(.+)")
_KINDS: dict[str, str] = {
    "ambience": "AMB",
    "animal": "ANML BIRD CREA WING",
    "alarm": "ALRM BEEP",
    "cartoon": "TOON",
    "explosion": "EXPL DEST FRWK",
    "fire": "FIRE",
    "foley": "FEET DIRT FOLY FOOD PAPR CLOTH VEGE OBJ TOOL DOOR LETHR",
    "human": "VOX HMN CRWD",
    "impact": "GLAS METL ROCK WOOD FGHT ICE BNC",
    "instrument": "MUSC BELL HORN",
    "machine": "MACH MECH MOTR",
    "magic": "MAG",
    "nature": "WIND WEAT RAIN THUN GEO NATD RAI THU",
    "scifi": "SCI LASR ROBT",
    "ui": "UI GAME",
    "vehicle": "VEH AERO BOAT TRN",
    "water": "WATR",
    "weapon": "WEAP GUN BLLT",
    "whoosh": "WHSH SWSH WHS SWS",
}
_KIND_OF = {prefix: kind for kind, prefixes in _KINDS.items() for prefix in prefixes.split()}


@dataclass(frozen=True)
class Described:
    """What is known about one sound. `family` is equal for variants of one sound, by their name; "" = not said."""

    captions: tuple[str, ...] = ()
    ucs: str = ""
    kind: str = ""
    family: str = ""
    loop: bool = False
    license: str = ""
    split: str = ""


@dataclass
class Table:
    """A captions table: rows by the name they give the file. `used` collects the names that were asked for."""

    path: Path
    rows: dict[str, Described]
    used: set[str] = field(default_factory=set)

    def find(self, path: Path, base: Path) -> Described | None:
        """The row for a sound: by its path within `base`, its name, or its name without ending."""
        relative = path.relative_to(base).as_posix()
        for key in (relative, relative.rsplit(".", 1)[0], path.name, path.stem):
            if (row := self.rows.get(key.lower())) is not None:
                self.used.add(key.lower())
                return row
        return None

    def unused(self) -> list[str]:
        """Rows that named no sound."""
        return sorted(set(self.rows) - self.used)


def read_table(path: Path) -> Table:
    """Read a captions CSV: columns `file`, `caption` and, as wanted, `caption2`, `caption3`, `ucs`, `kind`, `loop`,
    `license`, `split`. Comma, semicolon or tab; UTF-8.

    Raises:
        ImpactError: `bad_file` when it cannot be read or has no such columns.
    """
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise ImpactError("too_large", f"{path} is too large for a captions table", "captions")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ImpactError("bad_file", f"{path} is not UTF-8 text: save it as CSV UTF-8", "captions") from None
    except OSError as error:
        raise ImpactError(
            "bad_file", f"cannot read the captions {path}: {error.strerror or error}", "captions"
        ) from error
    return parse_table(path, text)


def parse_table(path: Path, text: str) -> Table:
    """The same for a table's text; `path` is what messages call it."""
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        names = [name.strip().lower() for name in next(reader, [])]
        records = [dict(zip(names, row, strict=False)) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ImpactError("bad_file", f"{path} is no CSV: {error}", "captions") from error
    file_column = next((name for name in FILE_COLUMNS if name in names), None)
    caption_columns = [name for name in names if name.rstrip("0123456789 _") in CAPTION_COLUMNS]
    if file_column is None or not caption_columns:
        raise ImpactError(
            "bad_file", f"{path} needs the columns file and caption, it has {', '.join(names)}", "captions"
        )
    rows: dict[str, Described] = {}
    for record in records:
        name = record.get(file_column, "").strip().replace("\\", "/").removeprefix("./")
        captions = tuple(dict.fromkeys(clean for c in caption_columns if (clean := clean_caption(record.get(c, "")))))
        if name:
            rows[name.lower()] = Described(
                captions=captions,
                ucs=record.get("ucs", record.get("catid", "")).strip(),
                kind=record.get("kind", "").strip().lower(),
                loop=record.get("loop", "").strip().lower() in ("1", "true", "yes"),
                license=record.get("license", "").strip(),
                split=record.get("split", "").strip().lower(),
            )
    return Table(path, rows)


def sidecar_captions(path: Path) -> tuple[str, ...]:
    """The lines of `stem.txt` beside the sound, each a caption; () without such a file or when it is no text."""
    for sidecar in (path.with_suffix(".txt"), path.with_name(path.name + ".txt")):
        try:
            text = sidecar.read_bytes()[:16384].decode("utf-8-sig")
        except (OSError, UnicodeDecodeError):
            continue
        captions = [clean_caption(line) for line in text.splitlines()]
        return tuple(dict.fromkeys(caption for caption in captions if caption))[:8]
    return ()


def clean_caption(text: str) -> str:
    """One line without control characters, at most `MAX_CAPTION` characters; "" when it holds no word."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())[:MAX_CAPTION].strip()
    letters = sum(char.isalpha() for char in line)
    return line if letters > 1 or (letters and not line.isascii()) else ""


def metadata_captions(path: Path) -> tuple[tuple[str, ...], str]:
    """Captions and CatID from a WAV's `iXML` and `bext` chunks; ((), "") where there are none or they say nothing."""
    chunks = riff_chunks(path, frozenset({b"bext", b"iXML"}))
    captions: list[str] = []
    ucs = ""
    if b"iXML" in chunks:
        described, ucs = _ixml(chunks[b"iXML"])
        captions += described
    if b"bext" in chunks:
        captions.append(_bext(chunks[b"bext"]))
    return tuple(dict.fromkeys(caption for caption in captions if caption)), ucs


def riff_chunks(path: Path, wanted: frozenset[bytes]) -> dict[bytes, bytes]:
    """The wanted chunks of a RIFF or RF64 file of waves, each at most 1 MB; what is broken is left out."""
    found: dict[bytes, bytes] = {}
    try:
        with open(path, "rb") as handle:
            head = handle.read(12)
            if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
                return found
            long_data = 0
            while len(chunk := handle.read(8)) == 8 and len(found) < len(wanted):
                name, size = chunk[:4], struct.unpack("<I", chunk[4:])[0]
                start = handle.tell()
                if name == b"ds64":
                    long_data = struct.unpack("<Q", handle.read(16)[8:].ljust(8, b"\0"))[0]
                elif name == b"data" and size == 0xFFFFFFFF:
                    size = long_data
                elif name in wanted and size <= MAX_CHUNK_BYTES:
                    found[name] = handle.read(size)
                handle.seek(start + size + size % 2)
    except (OSError, OverflowError):
        return found
    return found


def _bext(chunk: bytes) -> str:
    """The description of a `bext` chunk (its first 256 bytes, EBU Tech 3285), without recorders' `sKEY=value` notes."""
    text = chunk[:256].split(b"\0", 1)[0].decode("utf-8", errors="replace").replace("\ufffd", " ")
    lines = [line for line in text.splitlines() if not re.match(r"\s*[a-z]?[A-Z]+\w*=", line)]
    return clean_caption(" ".join(lines))


def _ixml(chunk: bytes) -> tuple[list[str], str]:
    """Descriptions and CatID of an `iXML` chunk: its USER and ASWG fields as library tools write them."""
    text = chunk.rstrip(b"\0").strip()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        return [], ""
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError):
        return [], ""
    values = {element.tag.rsplit("}", 1)[-1].upper(): (element.text or "").strip() for element in root.iter()}
    captions = [clean_caption(values.get(key, "")) for key in ("DESCRIPTION", "FXNAME", "BWF_DESCRIPTION")]
    ucs = values.get("CATID", "")
    return [caption for caption in captions if caption], ucs if is_catid(ucs) else ""


def is_catid(text: str) -> bool:
    """Whether a word has the form of a CatID of the Universal Category System, such as `DOORWood` or `RAIN`."""
    return bool(_CATID.fullmatch(text)) or text in _SHORT_CATIDS


def describe_name(path: Path, base: Path) -> Described:
    """Caption, CatID and family from a file's name, or from its folders' names where the name has no words.

    Args:
        base: the library's folder; names above it say nothing.
    """
    parts = path.stem.split("_")
    catid = parts[0].split("-")[0].strip()
    if len(parts) >= 3 and is_catid(catid):
        name = parts[1].rsplit("-", 1)[-1]
        if caption := words_of(name) or words_of(parts[1]):
            return Described((caption,), catid, kind_of(catid), f"{catid.lower()} {words_of(parts[1])}")
    title = _FREESOUND.fullmatch(path.stem)
    caption = words_of(title.group(1) if title else path.stem)
    if caption:
        return Described((caption,), family=caption)
    folders = [words for part in path.relative_to(base).parts[:-1][-2:] if (words := words_of(part))]
    caption = " ".join(dict.fromkeys(" ".join(folders).split()))
    return Described((caption,) if caption else ())


def words_of(name: str) -> str:
    """The words in a file name: `GlassBottle-Break_03 (stereo)` is `glass bottle break`; "" when there is none."""
    name = unicodedata.normalize("NFC", name)
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    letters = "".join(
        char if char.isalpha() or unicodedata.category(char)[0] == "M" or char == "'" else " " for char in spaced
    )
    words = [word for part in letters.lower().split() if (word := part.strip("'"))]
    kept = [word for word in words if word not in _NOT_WORDS and (len(word) > 1 or word == "a" or not word.isascii())]
    return clean_caption(" ".join(kept)) if any(len(word) > 2 or not word.isascii() for word in kept) else ""


def kind_of(catid: str) -> str:
    """The data set's kind for a CatID; "other" when it is not known."""
    capitals = re.match(r"[A-Z]*", catid)
    prefix = capitals.group() if capitals else ""
    return _KIND_OF.get(prefix) or _KIND_OF.get(prefix[:-1], "other")
