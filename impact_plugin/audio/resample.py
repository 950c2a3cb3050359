"""Sample rates: soxr, with the number of samples fixed by the caller.

Knows one-dimensional or (frames, channels) float32 audio and nothing else.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]


def resample(audio: Audio, rate: int, to_rate: int, *, frames: int | None = None) -> Audio:
    """Audio at another rate.

    Args:
        audio: (frames,) or (frames, channels) float32; rate, to_rate: hz.
        frames: exact length of the result: cut, or padded with silence. Without it round(frames * to_rate / rate).

    Returns:
        float32, as many dimensions as `audio`.
    """
    if frames is None:
        frames = round(audio.shape[0] * to_rate / rate)
    if rate != to_rate and audio.shape[0]:
        import soxr

        audio = soxr.resample(audio, rate, to_rate, quality="HQ")
    return fit(audio, frames)


def fit(audio: Audio, frames: int) -> Audio:
    """Exactly `frames` frames: cut, or padded with silence at the end."""
    if audio.shape[0] < frames:
        padding = [(0, frames - audio.shape[0])] + [(0, 0)] * (audio.ndim - 1)
        audio = np.pad(audio, padding)
    return np.ascontiguousarray(audio[:frames], dtype=np.float32)
