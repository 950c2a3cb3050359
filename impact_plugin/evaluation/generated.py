"""A generator judged on captioned real sounds: one take for each caption, heard by the independent tagger.

Knows takes, tags and log-mel distances. Does not know how takes are made: `generate` is a function of prompt, seconds
and seed, so that a bundle, a retrieval baseline or another program are judged alike.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from impact_plugin.audio.level import SILENT_DB, loudness, peak_db
from impact_plugin.evaluation.agreement import Agreement, Judge, Tags, agreement, tags_of, twin_share
from impact_plugin.evaluation.logmel import Levels, levels_distance_db, log_mel
from impact_plugin.evaluation.testset import Case, TestSet

Audio = npt.NDArray[np.float32]
Generate = Callable[[str, float, int], tuple[Audio, int]]  # prompt, seconds, seed -> (frames,) float32, hz
Progress = Callable[[int, int, str], None]  # takes done, takes, prompt

SEEDS = 1 << 24
PEAK_RANGE_DB = (-20.0, -0.1)
LENGTH_TOLERANCE_S = 0.02
SPREAD_SECONDS = 4.0
SPREAD_PAIRS = 400


@dataclass(frozen=True)
class TakeRow:
    """One take and the real sound it is measured by.

    Attributes:
        seconds: asked for; length_s: got. peak_db, loudness_lufs: of the take; -inf is written as None.
        faults: of `not finite`, `silent`, `too loud`, `too quiet`, `wrong length`, `same samples as <id>`.
        tags: of the take; real_tags: of the real sound; hit: they have one in common.
    """

    id: str
    prompt: str
    label: str
    kind: str
    seed: int
    seconds: float
    length_s: float
    peak_db: float | None
    loudness_lufs: float | None
    faults: tuple[str, ...]
    tags: tuple[str, ...]
    real_tags: tuple[str, ...]
    hit: bool


@dataclass(frozen=True)
class Spread:
    """How far sounds of different labels lie apart: level-matched log-mel distance, decibel, mean over `pairs`.

    Attributes:
        generated: between takes; real: between the real sounds of the same pairs; nearest: the least between takes.
    """

    pairs: int
    generated: float
    real: float
    nearest: float


@dataclass
class GeneratedReport:
    """The result for one generator. `examples`: log-mels (real, take) of the first rows, for the picture."""

    settings: dict[str, Any]
    agreement: Agreement
    kinds: dict[str, tuple[int, float]]
    faults: dict[str, int]
    spread: Spread | None
    rows: list[TakeRow]
    examples: list[tuple[str, Levels, Levels]] = field(default_factory=list, repr=False)

    def to_dict(self, *, rows: bool = True) -> dict[str, Any]:
        """Plain values for JSON: `same_caption` and `other_caption` are the two figures to set side by side."""
        out: dict[str, Any] = {
            "settings": self.settings,
            "takes": len(self.rows),
            "same_caption": self.agreement.same,
            "other_caption": self.agreement.other,
            "agreement": self.agreement.to_dict(),
            "kinds": {kind: {"takes": n, "same_caption": share} for kind, (n, share) in self.kinds.items()},
            "faults": self.faults,
            "spread": asdict(self.spread) if self.spread else None,
        }
        return {**out, "rows": [asdict(row) for row in self.rows]} if rows else out

    def lines(self) -> list[str]:
        """What a reader wants to know, a line each."""
        judged = self.agreement
        out = [f"{len(self.rows)} takes, tags in common with the real sound of the same caption: {_share(judged.same)}"]
        out.append(f"  with real sounds of another caption (chance): {_share(judged.other)}")
        out.append(f"  real sounds of one caption among themselves (twins): {_share(judged.twins)}")
        out.append(f"  normalised, 0 = chance, 1 = twins: {_share(judged.normalised)}")
        faults = ", ".join(f"{name} {count}" for name, count in self.faults.items()) or "none"
        out.append(f"faults: {faults}")
        if self.spread:
            out.append(
                f"distance between takes of different captions: {self.spread.generated:.1f} dB "
                f"(real sounds {self.spread.real:.1f} dB, nearest two takes {self.spread.nearest:.1f} dB)"
            )
        return out


def evaluate_generated(
    test: TestSet,
    generate: Generate,
    tagger: Judge,
    *,
    seconds: tuple[float, float] = (0.1, 10.0),
    seed: int = 0,
    keep: Path | None = None,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> GeneratedReport:
    """Generate every caption of a test set once and judge the takes.

    Args:
        generate: makes one take.
        seconds: shortest and longest take of the bundle; the real sound's own length is asked for within these, and
            the real sound is heard up to the longest.
        seed: each take's seed follows from this and the sound's id, not from the order.
        keep: folder for the takes as `<id>.wav`, to listen to.
        settings: what to note in the report (bundle, iterations, ...).

    Raises:
        ImpactError: whatever `generate` or the data set raises.
    """
    rows: list[TakeRow] = []
    real_tags: list[Tags] = []
    take_tags: list[Tags] = []
    mels: list[tuple[Levels, Levels]] = []
    known: dict[bytes, str] = {}
    if keep:
        from impact_plugin.audio.files import make_folder

        make_folder(keep)
    for case in test.cases:
        real, real_rate = test.audio(case, seconds[1])
        asked = min(max(len(real) / real_rate, seconds[0]), seconds[1])
        take_seed = seed_of(case.sound.id, seed)
        take, rate = generate(case.prompt, asked, take_seed)
        faults = faults_of(take, rate, asked)
        digest = hashlib.sha256(np.ascontiguousarray(take).tobytes()).digest()
        if known.setdefault(digest, case.sound.id) != case.sound.id:
            faults.append(f"same samples as {known[digest]}")
        take = np.nan_to_num(take, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
        real_tags.append(tags_of(tagger, real, real_rate))
        take_tags.append(tags_of(tagger, take, rate))
        mels.append((_short_mel(real, real_rate), _short_mel(take, rate)))
        rows.append(_row(case, take, rate, asked, take_seed, faults, tagger, take_tags[-1], real_tags[-1]))
        if keep:
            from impact_plugin.audio.files import write_sound

            write_sound(keep / f"{case.sound.id}.wav", take, rate, subtype="PCM_16", overwrite=True)
        if progress:
            progress(len(rows), len(test), case.prompt)
    labels = [case.label for case in test.cases]
    known_tags = {case.sound.id: tags for case, tags in zip(test.cases, real_tags, strict=True)}
    twins = _twin_level(test, tagger, known_tags, seconds[1])
    return GeneratedReport(
        settings={**(settings or {}), "seed": seed, "seconds": list(seconds)},
        agreement=replace(agreement(real_tags, take_tags, labels), twins=twins),
        kinds=_by_kind(rows),
        faults=_count(rows),
        spread=spread_of(mels, labels, seed),
        rows=rows,
        examples=[(row.prompt, *pair) for row, pair in zip(rows, mels, strict=True)],
    )


def _twin_level(test: TestSet, tagger: Judge, known: dict[str, Tags], limit: float) -> float | None:
    """The share among real twins of the whole split: a sample of it has too few."""
    twins = test.twins()
    tags = [known.get(case.sound.id) or tags_of(tagger, *test.audio(case, limit)) for case in twins]
    return twin_share(tags, [case.label for case in twins])


def seed_of(sound_id: str, seed: int) -> int:
    """The seed of a sound's take, 0...2^24-1."""
    return zlib.crc32(f"{seed}:{sound_id}".encode()) % SEEDS


def faults_of(take: Audio, rate: int, seconds: float) -> list[str]:
    """What is wrong with a take, whatever it sounds like: see `TakeRow.faults`.

    Args:
        take: (frames,); rate: hz; seconds: asked for.
    """
    if not np.isfinite(take).all():
        return ["not finite"]
    peak = peak_db(take)
    faults = []
    if peak < SILENT_DB + 30.0:  # under -60 dBFS nobody hears it
        faults.append("silent")
    elif peak < PEAK_RANGE_DB[0]:
        faults.append("too quiet")
    if peak > PEAK_RANGE_DB[1]:
        faults.append("too loud")
    if abs(len(take) / rate - seconds) > LENGTH_TOLERANCE_S:
        faults.append("wrong length")
    return faults


def spread_of(mels: list[tuple[Levels, Levels]], labels: list[str], seed: int = 0) -> Spread | None:
    """Distances within random pairs of different labels; None when there is no such pair.

    Args:
        mels: (real, take) log-mels; labels: one for each.
    """
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(mels), (4 * SPREAD_PAIRS, 2))
    pairs = sorted({(int(min(i, j)), int(max(i, j))) for i, j in drawn if labels[i] != labels[j]})
    if not pairs:
        return None
    pairs = [pairs[index] for index in random.permutation(len(pairs))[:SPREAD_PAIRS]]
    real = [levels_distance_db(mels[i][0], mels[j][0], match_level=True) for i, j in pairs]
    takes = [levels_distance_db(mels[i][1], mels[j][1], match_level=True) for i, j in pairs]
    return Spread(len(pairs), fmean(takes), fmean(real), min(takes))


def write_report(report: GeneratedReport, folder: Path) -> tuple[Path, Path]:
    """`evaluation.json` and `evaluation.png` in a folder, which is made if need be.

    Raises:
        ImpactError: when they cannot be written.
    """
    from impact_plugin.audio.files import make_folder, write_bytes
    from impact_plugin.evaluation.picture import report_png

    make_folder(folder)
    text = json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n"
    data = write_bytes(folder / "evaluation.json", text.encode(), overwrite=True)
    return data, write_bytes(folder / "evaluation.png", report_png(report), overwrite=True)


def _row(
    case: Case,
    take: Audio,
    rate: int,
    seconds: float,
    seed: int,
    faults: list[str],
    tagger: Judge,
    tags: Tags,
    real_tags: Tags,
) -> TakeRow:
    peak = peak_db(take)
    return TakeRow(
        id=case.sound.id,
        prompt=case.prompt,
        label=case.label,
        kind=case.sound.kind,
        seed=seed,
        seconds=seconds,
        length_s=len(take) / rate,
        peak_db=peak if math.isfinite(peak) else None,
        loudness_lufs=loudness(take, rate) if math.isfinite(peak) else None,
        faults=tuple(faults),
        tags=tagger.names(tags),
        real_tags=tagger.names(real_tags),
        hit=bool(set(tags) & set(real_tags)),
    )


def _short_mel(audio: Audio, rate: int) -> Levels:
    return log_mel(audio[: int(SPREAD_SECONDS * rate)], rate).astype(np.float16).astype(np.float32)


def _by_kind(rows: list[TakeRow]) -> dict[str, tuple[int, float]]:
    kinds: dict[str, list[bool]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row.hit)
    return {kind: (len(hits), fmean(hits)) for kind, hits in sorted(kinds.items(), key=lambda item: -len(item[1]))}


def _count(rows: list[TakeRow]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        for fault in row.faults:
            name = "same samples" if fault.startswith("same samples") else fault
            counts[name] = counts.get(name, 0) + 1
    return counts


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
