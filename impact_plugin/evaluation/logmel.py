"""The log-mel spectrogram that sounds are measured with: own code, apart from any codec's front end.

Definition: audio at 44.1 kHz, Hann windows of 2048 samples each 512, zeros beyond both ends, magnitudes; 160
triangles on Slaney's mel scale (linear below 1 kHz, logarithmic above) from 20 hz to 22.05 kHz, each with weights
that sum to one; 20 log10; everything more than 80 dB under the loudest value of the *reference* sound is that floor,
in both sounds that are compared. A distance is the mean of |difference| in decibel over frames and bands.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from impact_plugin.audio.resample import fit, resample

Audio = npt.NDArray[np.float32]
Levels = npt.NDArray[np.float32]

RATE, FFT, HOP, BANDS = 44100, 2048, 512, 160
LOW_HZ, HIGH_HZ = 20.0, 22050.0
RANGE_DB = 80.0
SILENCE_DB = -200.0


def log_mel(audio: Audio, rate: int = RATE) -> Levels:
    """Levels without a floor but that of silence, -200 dB.

    Args:
        audio: (frames,) float32; rate: hz, resampled to 44.1 kHz.

    Returns:
        (1 + samples // 512, 160) float32, decibel.
    """
    wave = resample(audio, rate, RATE)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(wave, (FFT // 2, FFT // 2)), FFT)[::HOP]
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)
    levels = np.empty((len(windows), BANDS), dtype=np.float32)
    for start in range(0, len(windows), 2048):
        part = windows[start : start + 2048]
        magnitudes = np.abs(np.fft.rfft(part * window, axis=1)).astype(np.float32) * np.float32(4.0 / FFT)
        levels[start : start + 2048] = 20.0 * np.log10(np.maximum(magnitudes @ _filters(), 10.0 ** (SILENCE_DB / 20.0)))
    return levels


def distance_db(reference: Audio, other: Audio, rate: int = RATE) -> float:
    """Mean |difference| of log-mels, decibel; levels count. The shorter one is silent at its end.

    Args:
        reference: (frames,), sets the floor; other: (frames,); rate: of both, hz.
    """
    frames = max(len(reference), len(other))
    return levels_distance_db(log_mel(fit(reference, frames), rate), log_mel(fit(other, frames), rate))


def levels_distance_db(reference: Levels, other: Levels, *, match_level: bool = False) -> float:
    """The same for two log-mels.

    Args:
        reference: (frames, 160); other: (frames, 160).
        match_level: compare both with their loudest value at 0 dB, so that loudness does not count.
    """
    top = float(reference.max(initial=SILENCE_DB))
    shift = top - float(other.max(initial=SILENCE_DB)) if match_level else 0.0
    floor = max(top - RANGE_DB, SILENCE_DB)
    frames = max(len(reference), len(other))
    first = np.full((frames, BANDS), floor, dtype=np.float32)
    second = first.copy()
    first[: len(reference)] = np.maximum(reference, floor)
    second[: len(other)] = np.maximum(other + np.float32(shift), floor)
    return float(np.abs(first - second).mean())


@functools.cache
def _filters() -> npt.NDArray[np.float32]:
    """(1025, 160), each column sums to one."""
    low, high = _mel(LOW_HZ), _mel(HIGH_HZ)
    edges = np.asarray([_hertz(mel) for mel in np.linspace(low, high, BANDS + 2)])
    bins = np.arange(FFT // 2 + 1) * (RATE / FFT)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - left) / (centre - left)
    falling = (right - bins[:, None]) / (right - centre)
    filters = np.clip(np.minimum(rising, falling), 0.0, None)
    return np.asarray(filters / filters.sum(axis=0), dtype=np.float32)


_BREAK_HZ, _LINEAR = 1000.0, 200.0 / 3.0  # Slaney: 15 mels up to 1 kHz, then 27 for each factor of 6.4
_STEP = np.log(6.4) / 27.0


def _mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR
    return float(_BREAK_HZ / _LINEAR + np.log(hertz / _BREAK_HZ) / _STEP)


def _hertz(mel: float) -> float:
    if mel < _BREAK_HZ / _LINEAR:
        return mel * _LINEAR
    return float(_BREAK_HZ * np.exp((mel - _BREAK_HZ / _LINEAR) * _STEP))
