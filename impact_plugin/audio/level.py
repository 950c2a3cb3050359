"""How loud a take comes out, and its first and last milliseconds.

The rule, which is all that is ever done to the level unless the user asks for more: a peak over -1 dBFS is brought
down to -1, a peak under -12 dBFS is brought up to -12, anything between stays as it is. Knows nothing of files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from impact_plugin.errors import ImpactError

Audio = npt.NDArray[np.float32]

CEILING_DB = -1.0
QUIET_DB = -12.0
SILENT_DB = -90.0
FADE_IN_SECONDS = 0.002
FADE_OUT_SECONDS = 0.005


@dataclass(frozen=True)
class Finish:
    """What a user may ask of the last step; None = the rule above. Fades in seconds, levels in decibel."""

    gain_db: float | None = None
    peak_db: float | None = None
    lufs: float | None = None
    fade_in: float | None = None
    fade_out: float | None = None


def peak_db(audio: Audio) -> float:
    """Peak in dBFS; silence is -inf."""
    peak = float(np.abs(audio).max(initial=0.0))
    return 20.0 * math.log10(peak) if peak > 0.0 else -math.inf


def fade(audio: Audio, rate: int, fade_in: float, fade_out: float) -> Audio:
    """Raised-cosine fades, seconds; fades longer than the sound are cut to half of it."""
    out = np.array(audio, dtype=np.float32)
    for seconds, end in ((fade_in, False), (fade_out, True)):
        frames = min(round(seconds * rate), len(out) // 2)
        if frames:
            ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(frames) + 0.5) / frames)).astype(np.float32)
            if end:
                out[-frames:] *= ramp[::-1]
            else:
                out[:frames] *= ramp
    return out


def finish_take(audio: Audio, rate: int, finish: Finish | None = None) -> tuple[Audio, float]:
    """A take as it is written: faded, and with its peak where the rule or the user wants it.

    Args:
        audio: (frames,) float32; rate: hz.

    Returns:
        The audio and the gain that was applied, decibel.

    Raises:
        ImpactError: `internal` when a sample is not a number.
    """
    finish = finish or Finish()
    if not np.isfinite(audio).all():
        raise ImpactError("internal", "the sound holds samples that are not numbers: this is a fault of the bundle")
    audio = fade(
        audio,
        rate,
        FADE_IN_SECONDS if finish.fade_in is None else finish.fade_in,
        FADE_OUT_SECONDS if finish.fade_out is None else finish.fade_out,
    )
    peak = peak_db(audio)
    if peak < SILENT_DB:
        return audio, 0.0
    if finish.lufs is not None:
        gain = min(finish.lufs - loudness(audio, rate), CEILING_DB - peak)
    elif finish.peak_db is not None:
        gain = finish.peak_db - peak
    else:
        gain = min(max(peak, QUIET_DB), CEILING_DB) - peak
    gain = min(gain + (finish.gain_db or 0.0), -0.1 - peak)
    return (audio * np.float32(10.0 ** (gain / 20.0))).astype(np.float32), gain


def soft_ceiling(audio: Audio) -> Audio:
    """A preview: only brought down where it would clip; what is not a number becomes silence."""
    audio = np.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    peak = peak_db(audio)
    return (
        audio if peak <= CEILING_DB else (audio * np.float32(10.0 ** ((CEILING_DB - peak) / 20.0))).astype(np.float32)
    )


def loudness(audio: Audio, rate: int) -> float:
    """Integrated loudness (ITU-R BS.1770), LUFS; a sound shorter than 0.4 s is one block of its own length."""
    import pyloudnorm

    block = min(0.4, 0.99 * len(audio) / rate)
    value = float(pyloudnorm.Meter(rate, block_size=block).integrated_loudness(audio.astype(np.float64)))
    return value if math.isfinite(value) else -70.0
