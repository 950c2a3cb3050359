"""Codec round trip: sounds after one encode and one decode, against themselves.

Knows the codec protocol, log-mel distance and tag agreement; writes folders of sound files for outside judges. Does
not know the generator. Long sounds go through in overlapping pieces, so that memory stays bounded.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from impact_plugin.audio.find import sound_files
from impact_plugin.audio.resample import fit, resample
from impact_plugin.errors import ImpactError
from impact_plugin.evaluation.agreement import Agreement, Judge, Tags, agreement, tags_of
from impact_plugin.evaluation.logmel import distance_db

if TYPE_CHECKING:
    from impact_plugin.codec.base import Codec

Audio = npt.NDArray[np.float32]
Progress = Callable[[int, int, str], None]  # sounds done, sounds, name

PIECE_SECONDS = 20.0
OVERLAP_SECONDS = 0.5


class HasCodec(Protocol):
    """A model bundle, as far as it matters here."""

    codec: Codec


@dataclass(frozen=True)
class RealSound:
    """A sound to measure with. audio: (frames,) float32; rate: hz; label: what it is a sound of."""

    name: str
    audio: Audio
    rate: int
    label: str


@dataclass(frozen=True)
class RoundtripRow:
    """One sound: log-mel L1 in decibel, and its tags before and after (names, best first)."""

    name: str
    seconds: float
    l1_db: float
    tags: tuple[str, ...] = ()
    tags_after: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoundtripReport:
    """What a round trip costs.

    Attributes:
        sounds: how many; l1_db: mean of the sounds' log-mel L1 (see `logmel`), decibel.
        l1_db_90: the distance that nine of ten sounds stay under, decibel.
        agreement: tag agreement; None without a tagger. Its `overlap` is the figure to compare codecs by.
        rows: one for each sound.
    """

    sounds: int
    l1_db: float
    l1_db_90: float
    agreement: Agreement | None
    rows: list[RoundtripRow] = field(default_factory=list)

    def to_dict(self, *, rows: bool = True) -> dict[str, Any]:
        """Plain values for JSON."""
        out: dict[str, Any] = {"sounds": self.sounds, "l1_db": self.l1_db, "l1_db_90": self.l1_db_90}
        out["agreement"] = self.agreement.to_dict() if self.agreement else None
        return {**out, "rows": [asdict(row) for row in self.rows]} if rows else out


def roundtrip(
    codec: Codec | HasCodec,
    sounds: Iterable[RealSound],
    *,
    tagger: Judge | None = None,
    seed: int = 0,
    total: int = 0,
    progress: Progress | None = None,
) -> RoundtripReport:
    """Measure a codec, or a bundle's codec, on real sounds.

    Args:
        sounds: read one at a time.
        tagger: for tag agreement; without it only distances are measured.
        seed: of the decoder's noise and phases.
        total: number of sounds if it is known, for the progress.

    Raises:
        ImpactError: `bad_argument` when there are no sounds.
    """
    codec = _codec(codec)
    rows: list[RoundtripRow] = []
    before: list[Tags] = []
    after: list[Tags] = []
    labels: list[str] = []
    for sound in sounds:
        again = roundtrip_audio(codec, sound.audio, sound.rate, seed=seed)
        names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        if tagger:
            before.append(tags_of(tagger, sound.audio, sound.rate))
            after.append(tags_of(tagger, again, sound.rate))
            labels.append(sound.label)
            names = tagger.names(before[-1]), tagger.names(after[-1])
        l1 = distance_db(sound.audio, again, sound.rate)
        rows.append(RoundtripRow(sound.name, len(sound.audio) / sound.rate, l1, *names))
        if progress:
            progress(len(rows), total, sound.name)
    if not rows:
        raise ImpactError("bad_argument", "there are no sounds to send through the codec")
    distances = [row.l1_db for row in rows]
    return RoundtripReport(
        sounds=len(rows),
        l1_db=fmean(distances),
        l1_db_90=float(np.quantile(distances, 0.9)),
        agreement=agreement(before, after, labels) if tagger else None,
        rows=rows,
    )


def roundtrip_audio(codec: Codec | HasCodec, audio: Audio, rate: int, *, seed: int = 0) -> Audio:
    """A sound after one encode and one decode, at its own rate and length.

    Args:
        audio: (frames,) or (frames, channels) float32, each channel goes through alone; rate: hz.

    Returns:
        float32, shaped like `audio`.
    """
    codec = _codec(codec)
    if audio.ndim == 2:
        return np.stack([roundtrip_audio(codec, channel, rate, seed=seed) for channel in audio.T], axis=1)
    wave = resample(audio, rate, codec.rate)
    piece, overlap = int(PIECE_SECONDS * codec.rate), int(OVERLAP_SECONDS * codec.rate)
    if len(wave) <= piece + overlap:
        return resample(_once(codec, wave, seed), codec.rate, rate, frames=len(audio))
    out = np.zeros(len(wave), dtype=np.float32)
    fade = np.sin(np.linspace(0.0, np.pi / 2, overlap, dtype=np.float32))  # of equal power: the pieces' phases differ
    for start in range(0, len(wave) - overlap, piece):
        part = _once(codec, wave[start : start + piece + overlap], seed)
        if start:
            part[:overlap] *= fade
            out[start : start + overlap] *= fade[::-1]
        out[start : start + len(part)] += part
    return resample(out, codec.rate, rate, frames=len(audio))


def roundtrip_folder(
    codec: Codec | HasCodec,
    source: Path,
    out: Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[str]:
    """`impact evaluate roundtrip DIR -o OUT`: every sound of `source` after one encode and one decode.

    Files keep their name (and subfolder), format, subtype, rate, channels and length.

    Returns:
        one line for each file that was left out, with the reason.

    Raises:
        ImpactError: `bad_file` when the folder holds no sound, `bad_argument` when `out` is the same folder or
            cannot be written, `disk_full`.
    """
    codec = _codec(codec)
    if not source.is_dir():
        raise ImpactError("bad_file", f"{source} is no folder", "dir")
    if out.resolve() == source.resolve():
        raise ImpactError("bad_argument", f"{out} is the folder of the sounds: choose another one", "output")
    files = sound_files(source, skip=out)
    problems: list[str] = []
    for done, path in enumerate(files, start=1):
        name = path.relative_to(source).as_posix()
        try:
            _roundtrip_file(codec, path, out / name, seed)
        except ImpactError as error:
            if error.code != "bad_file":
                raise
            problems.append(f"{name}: {error}")
        if progress:
            progress(done, len(files), name)
    if len(problems) == len(files):
        raise ImpactError("bad_file", problems[0] if problems else f"{source} holds no sound files", "dir")
    return problems


def write_report(report: RoundtripReport, path: Path) -> Path:
    """The report as JSON.

    Raises:
        ImpactError: when it cannot be written.
    """
    from impact_plugin.audio.files import write_bytes

    return write_bytes(path, (json.dumps(report.to_dict(), indent=1) + "\n").encode(), overwrite=True)


def _codec(codec: Codec | HasCodec) -> Codec:
    return cast("Codec", getattr(codec, "codec", codec))


def _once(codec: Codec, wave: Audio, seed: int) -> Audio:
    import torch

    latents = codec.encode(torch.from_numpy(np.ascontiguousarray(wave))[None])
    return fit(codec.decode(latents, seeds=[seed])[0].cpu().numpy(), len(wave))


def _roundtrip_file(codec: Codec, path: Path, target: Path, seed: int) -> None:
    import soundfile

    from impact_plugin.audio.files import make_folder, read_sound, write_bytes

    sound = read_sound(path)
    again = roundtrip_audio(codec, sound.audio, sound.rate, seed=seed)
    info = soundfile.info(str(path))
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, again, info.samplerate, subtype=info.subtype, endian=info.endian, format=info.format)
    except (soundfile.LibsndfileError, ValueError, RuntimeError) as error:
        raise ImpactError("bad_file", f"cannot write {info.format} of {info.subtype} ({error})") from error
    make_folder(target.parent)
    write_bytes(target, buffer.getvalue(), overwrite=True)
