"""Length as a condition: how long the sound itself lasts, and how long the space it lies in.

Knows seconds. Two numbers, since a training sound is often shorter than its frame and silence follows it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DIMS = 32
_RATES = DIMS // 4


def length_features(sound_seconds: Tensor, frame_seconds: Tensor) -> Tensor:
    """Sinusoids of the logarithm of both lengths.

    Args:
        sound_seconds, frame_seconds: (batch,).

    Returns:
        (batch, 1, 32) float32.
    """
    rates = math.pi * 2.0 ** (torch.arange(_RATES, dtype=torch.float32) / 2.0 - 2.0)
    parts = []
    for seconds in (sound_seconds, frame_seconds):
        angles = torch.log2(seconds.float().clamp(min=0.01))[:, None] * rates
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=-1)[:, None]
