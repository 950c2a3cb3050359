"""A soft limiter for what is heard: it looks ahead, turns down before a peak and lets go slowly after it.

Knows blocks of samples, in order. What stays under the ceiling passes unchanged, bit for bit, a little later
(`latency` samples). Never gives a sample over the ceiling, whatever goes in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]
_Wide = npt.NDArray[np.floating[Any]]

CEILING_DB = -0.3
LOOK_SECONDS = 0.0015
RELEASE_DB_PER_SECOND = 60.0
#: Decibel of turning down; an infinite sample is as loud as this.
MOST_DB = 120.0


class Limiter:
    """Limits blocks of one stream; all channels are turned down together.

    Args:
        rate: hz; channels: of every block.
        ceiling_db: dBFS that no sample exceeds.
    """

    def __init__(self, rate: int, channels: int, *, ceiling_db: float = CEILING_DB) -> None:
        self.ceiling = float(np.nextafter(np.float32(10.0 ** (ceiling_db / 20.0)), np.float32(0.0)))
        self.latency = max(1, round(rate * LOOK_SECONDS))
        self._release = RELEASE_DB_PER_SECOND / rate
        self._delayed = np.zeros((self.latency, channels), np.float32)
        self._needs = np.zeros(2 * self.latency, np.float64)
        self._held = 0.0

    def process(self, block: Audio) -> Audio:
        """The next block, `latency` samples late.

        Args:
            block: (frames, channels) float32; what is not a number becomes silence.
        """
        limit = 10.0 ** (MOST_DB / 20.0)
        block = np.nan_to_num(block, nan=0.0, posinf=limit, neginf=-limit)
        peaks = np.abs(block).max(axis=1, initial=0.0)
        line = np.concatenate([self._delayed, block])
        out, self._delayed = line[: len(block)], line[len(block) :]
        if peaks.max(initial=0.0) <= self.ceiling and not self._needs.any():
            return np.ascontiguousarray(out)
        with np.errstate(divide="ignore"):
            need = np.maximum(20.0 * np.log10(peaks.astype(np.float64) / self.ceiling), 0.0)
        turned = self._smooth(np.minimum(need, MOST_DB))
        gains = (10.0 ** (-turned / 20.0)).astype(np.float32)
        return np.clip(out * gains[:, None], -self.ceiling, self.ceiling).astype(np.float32)

    def _smooth(self, need: _Wide) -> _Wide:
        """How far to turn down each delayed sample, decibel: at least what it needs, reached in a straight line.

        A need falls at the release's pace. The maximum over the last `latency` + 1 samples holds it until its sample
        comes out of the delay; the mean over `latency` samples of these maxima is what makes the way there a line.
        """
        steps = np.arange(1, len(need) + 1) * self._release
        look = self.latency
        needs = np.concatenate([self._needs, self._fall(need, steps)])
        self._needs = needs[len(needs) - 2 * look :]
        widest = np.lib.stride_tricks.sliding_window_view(needs, look + 1).max(axis=1)
        sums = np.concatenate([[0.0], np.cumsum(widest)])
        means = (sums[look:] - sums[:-look]) / look
        means = means[len(means) - len(need) :]
        return np.where(means < 1e-9, 0.0, means)

    def _fall(self, need: _Wide, steps: _Wide) -> _Wide:
        """The need with its release: max over the past of need minus the release since, never below 0."""
        if not len(need):
            return need
        raised = np.maximum.accumulate(np.maximum(need + steps, self._held))
        fallen = np.maximum(raised - steps, 0.0)
        self._held = float(fallen[-1])
        return fallen
