"""From any decoded recording to a clean training sound: mono, trimmed, resampled, peak-normalised.

Knows the faults seen in the free sounds (cancelling stereo, DC, silence before and after). Does not know where
sounds come from (`sources`, `folder`) nor what a model does with them.
"""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from scipy.signal import butter, sosfilt

from impact_plugin.errors import ImpactError

RATE = 44100
PEAK = 0.89  # -1 dBFS
TRIM_DB = -60.0  # below the peak: silence
LEAD_SECONDS = 0.005
TAIL_SECONDS = 0.03
HIGHPASS_HZ = 20.0
MIN_SECONDS = 0.02

Audio = npt.NDArray[np.float32]


def read_sound(source: bytes | str | BinaryIO) -> tuple[Audio, int]:
    """Decode a sound file with libsndfile.

    Returns:
        audio: (frames, channels) float32; rate: hz.

    Raises:
        ImpactError: `bad_file` when it is not a readable sound or holds NaN.
    """
    handle = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        audio, rate = soundfile.read(handle, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise ImpactError("bad_file", f"not a readable sound: {error}") from error
    if audio.size == 0:
        raise ImpactError("bad_file", "the sound file is empty")
    if not np.isfinite(audio).all():
        raise ImpactError("bad_file", "the sound file holds samples that are not numbers")
    return audio, int(rate)


def to_mono(audio: Audio) -> Audio:
    """Mean of the channels, or the left one where the channels cancel each other.

    Args:
        audio: (frames, channels).

    Returns:
        (frames,)
    """
    if audio.shape[1] == 1:
        return audio[:, 0]
    mix: Audio = audio.mean(axis=1)
    loudest = max(float(np.sqrt(np.mean(channel**2))) for channel in audio.T)
    if float(np.sqrt(np.mean(mix**2))) < 0.3 * loudest:
        return audio[:, 0]
    return mix


def prepare_sound(audio: Audio, rate: int) -> Audio | None:
    """A training sound at :data:`RATE`, or None when nothing audible is left.

    Args:
        audio: (frames, channels) float32; rate: hz.

    Returns:
        (frames,) float32, peak at -1 dBFS, without DC, silence trimmed 60 dB under the peak.
    """
    mono = to_mono(audio)
    mono = mono - mono.mean()
    if rate != RATE:
        mono = soxr.resample(mono, rate, RATE, quality="HQ")
    filtered = sosfilt(butter(2, HIGHPASS_HZ, "highpass", fs=RATE, output="sos"), mono)
    mono = np.asarray(filtered, dtype=np.float32)
    peak = float(np.abs(mono).max(initial=0.0))
    if peak < 1e-5:
        return None
    loud = np.flatnonzero(np.abs(mono) > peak * 10 ** (TRIM_DB / 20))
    start = max(int(loud[0]) - int(LEAD_SECONDS * RATE), 0)
    end = min(int(loud[-1]) + int(TAIL_SECONDS * RATE), len(mono))
    mono = mono[start:end]
    if len(mono) < MIN_SECONDS * RATE:
        return None
    return np.asarray(mono * (PEAK / peak), dtype=np.float32)
