"""Sound files on disk, read whole and written whole or not at all.

Knows formats, atomic replacement and what a full disk or a read-only folder means to a user. Does not know takes:
names and metadata come from above as plain strings.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt

from impact_plugin.errors import ImpactError

Audio = npt.NDArray[np.float32]
Format = Literal["wav", "flac"]
Subtype = Literal["PCM_16", "PCM_24", "FLOAT"]

FORMATS: dict[str, tuple[str, ...]] = {"wav": ("PCM_16", "PCM_24", "FLOAT"), "flac": ("PCM_16", "PCM_24")}
BYTES: dict[str, int] = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}

#: Temporary files end like this, so that a clean-up knows its own.
PARTIAL = ".impact-partial"
_PARTIAL_NAME = re.compile(r"\.[0-9a-f]{12}" + re.escape(PARTIAL))

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows knows no quota error
_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.ENOENT,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.ELOOP,
}


@dataclass(frozen=True)
class Sound:
    """A sound file in memory. audio: (frames, channels) float32; rate: hz; strings: title and the like, if short."""

    audio: Audio
    rate: int
    strings: dict[str, str]

    @property
    def seconds(self) -> float:
        return float(self.audio.shape[0]) / self.rate


def check_format(format: str, subtype: str) -> tuple[Format, Subtype]:
    """The pair, if soundfile can write it.

    Raises:
        ImpactError: `bad_argument`.
    """
    if format not in FORMATS:
        raise ImpactError("bad_argument", f"format must be one of {', '.join(FORMATS)}, not {format!r}", "format")
    if subtype not in FORMATS[format]:
        raise ImpactError(
            "bad_argument",
            f"subtype of {format} must be one of {', '.join(FORMATS[format])}, not {subtype!r}",
            "subtype",
        )
    return cast(Format, format), cast(Subtype, subtype)


def encode_sound(
    audio: Audio,
    rate: int,
    *,
    format: Format = "wav",
    subtype: Subtype = "PCM_24",
    strings: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of a sound file.

    Args:
        audio: (frames,) or (frames, channels) float32, -1...1; rate: hz.
        strings: libsndfile's names (title, artist, comment, date, software ...) to text.
    """
    import soundfile

    check_format(format, subtype)
    channels = 1 if audio.ndim == 1 else audio.shape[1]
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, channels, subtype=subtype, format=format.upper()) as handle:
        for name, text in (strings or {}).items():
            setattr(handle, name, text)
        handle.write(audio)
    return buffer.getvalue()


def write_sound(
    path: Path,
    audio: Audio,
    rate: int,
    *,
    format: Format = "wav",
    subtype: Subtype = "PCM_24",
    strings: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a sound file: complete under its name, or not there at all.

    Raises:
        ImpactError: see :func:`write_bytes`.
    """
    data = encode_sound(audio, rate, format=format, subtype=subtype, strings=strings)
    return write_bytes(path, data, overwrite=overwrite)


def write_bytes(path: Path, data: bytes, *, overwrite: bool = False) -> Path:
    """Write a file under a temporary name in the same folder, flush it to the disk, then give it its name.

    Raises:
        ImpactError: see :func:`write_file`.
    """

    def fill(handle: BinaryIO) -> None:
        handle.write(data)

    return write_file([path], fill, overwrite=overwrite)


def write_file(names: Iterable[Path], fill: Callable[[BinaryIO], None], *, overwrite: bool = False) -> Path:
    """Write a file under a temporary name, flush it to the disk, then give it the first of these names that is free.

    Args:
        names: in one folder; fill: writes the content into the file, which is open for reading and writing.
        overwrite: take the first name, whatever it holds.

    Raises:
        ImpactError: `disk_full`; `bad_argument` where the folder cannot be written, or every name is taken and
            `overwrite` is not set. The partial file is removed in each case.
    """
    candidates = iter(names)
    path = next(candidates)
    partial = path.parent / f".{secrets.token_hex(6)}{PARTIAL}"
    try:
        try:
            with open(partial, "x+b") as handle:
                fill(handle)
                handle.flush()
                os.fsync(handle.fileno())
            while True:
                try:
                    _give_name(partial, path, overwrite)
                    break
                except FileExistsError as error:
                    taken = error
                following = next(candidates, None)
                if following is None:
                    raise taken
                path = following
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, path) from error
    _flush_folder(path.parent)
    return path


def remove_partials(folder: Path, *, older_than_s: float = 600.0) -> list[Path]:
    """Remove temporary files that a crash left in a folder: only ours, by their names, and only old ones.

    Args:
        older_than_s: seconds since they were last written to; a younger one may be somebody's work.
    """
    removed = []
    limit = time.time() - older_than_s
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                ours = _PARTIAL_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                if ours and entry.stat(follow_symlinks=False).st_mtime <= limit:
                    os.unlink(entry.path)
                    removed.append(Path(entry.path))
    return removed


def _give_name(partial: Path, path: Path, overwrite: bool) -> None:
    """Raises: FileExistsError when the name is taken and must not be."""
    if overwrite:
        os.replace(partial, path)
    elif path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    else:
        _rename_new(partial, path)


def _rename_new(partial: Path, path: Path) -> None:
    """Rename, but never over an existing file."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a file system without hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, "File exists", str(path)) from None
        os.rename(partial, path)


def _flush_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def disk_error(error: OSError, path: Path) -> ImpactError:
    """What a failed write means to the user."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return ImpactError("disk_full", f"no room to write {path}: {reason}; free some space or write elsewhere")
    if isinstance(error, FileExistsError):
        return ImpactError("bad_argument", f"{path} exists already: choose another name", "output")
    if error.errno in _REFUSED:
        return ImpactError("bad_argument", f"cannot write {path}: {reason}; choose another place", "output")
    return ImpactError("internal", f"writing {path} failed: {reason}")


def make_folder(folder: Path) -> Path:
    """The folder, made if need be, and proven writable.

    Raises:
        ImpactError: `bad_argument` (cannot be written), `disk_full`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{secrets.token_hex(6)}{PARTIAL}"
        try:
            probe.touch(exist_ok=False)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, folder) from error
    return folder


def check_folder(folder: Path) -> Path:
    """The folder, if it can be written or made as far as can be told without making it.

    Raises:
        ImpactError: `bad_argument`.
    """
    if "\0" in str(folder):
        raise ImpactError("bad_argument", "the path holds a null character", "output")
    try:
        place = folder
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise disk_error(error, folder) from error
    return folder


def check_space(folder: Path, needed: int) -> None:
    """Refuse before the work what would not fit afterwards.

    Args:
        folder: need not exist yet; needed: bytes.

    Raises:
        ImpactError: `disk_full`.
    """
    try:
        place = folder
        while not place.exists() and place != place.parent:
            place = place.parent
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise disk_error(error, folder) from error
    if free < needed:
        raise ImpactError(
            "disk_full",
            f"{folder} has {free / 1e6:.1f} MB free, {needed / 1e6:.1f} MB are needed: free some or write elsewhere",
        )


def sound_bytes(seconds: float, rate: int, subtype: str) -> int:
    """Bytes that a mono sound file takes at most, metadata included."""
    return int(seconds * rate + 1) * BYTES[subtype] + (1 << 16)


def read_sound(path: Path) -> Sound:
    """Read any file that libsndfile knows: WAV, AIFF, FLAC, OGG, MP3.

    Raises:
        ImpactError: `bad_file` when it is missing, not a sound, empty, or holds samples that are not numbers.
    """
    import soundfile

    try:
        with open(path, "rb") as handle, soundfile.SoundFile(handle) as sound:
            audio = sound.read(dtype="float32", always_2d=True)
            strings = {name: text for name, text in sound.copy_metadata().items() if text}
            rate = int(sound.samplerate)
    except OSError as error:
        raise ImpactError("bad_file", f"cannot read {path}: {error.strerror or error}") from error
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        raise ImpactError("bad_file", f"{path} is not a readable sound file") from error
    if audio.size == 0:
        raise ImpactError("bad_file", f"{path} is empty")
    if not np.isfinite(audio).all():
        raise ImpactError("bad_file", f"{path} holds samples that are not numbers")
    return Sound(audio, rate, strings)
