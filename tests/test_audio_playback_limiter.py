"""The limiter: never over its ceiling, what is under it unchanged, the same whatever the blocks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.audio.limiter import CEILING_DB, Limiter

RATE = 8000
CEILING = 10 ** (CEILING_DB / 20)
Audio = npt.NDArray[np.float32]


def run(audio: Audio, blocks: list[int]) -> Audio:
    """All of the audio through one limiter, with the latency taken out."""
    limiter = Limiter(RATE, audio.shape[1])
    line = np.concatenate([audio, np.zeros((limiter.latency, audio.shape[1]), np.float32)])
    out, start, number = [], 0, 0
    while start < len(line):
        size = blocks[number % len(blocks)]
        out.append(limiter.process(line[start : start + size]))
        start, number = start + size, number + 1
    return np.concatenate(out)[limiter.latency :]


def sine(level: float, seconds: float = 0.5, hertz: float = 200.0) -> Audio:
    wave = level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)
    return wave.astype(np.float32)[:, None]


def test_what_is_under_the_ceiling_passes_bit_for_bit() -> None:
    audio = sine(0.96)
    assert np.array_equal(run(audio, [64, 1, 301]), audio)


@pytest.mark.parametrize("level", [0.97, 1.5, 4.0, 100.0])
def test_a_loud_sine_is_turned_down_softly(level: float) -> None:
    audio = sine(level, 1.0)
    out = run(audio, [100])
    assert np.abs(out).max() <= CEILING
    settled = out[RATE // 2 :, 0]
    assert settled.max() > 0.9 * CEILING
    spectrum = np.abs(np.fft.rfft(settled * np.hanning(len(settled))))
    tone = spectrum[95:106].sum()
    assert spectrum.sum() - tone < 0.1 * tone  # clipping this sine would put more than that into overtones


def test_it_lets_go_again() -> None:
    quiet = sine(0.5, 1.0)
    audio = np.concatenate([sine(2.0, 0.2), quiet])
    out = run(audio, [128])
    assert np.abs(out).max() <= CEILING
    assert np.array_equal(out[-RATE // 2 :], audio[-RATE // 2 :])


def test_it_turns_down_before_the_peak_without_a_step() -> None:
    """A peak over a slow wave: the gain takes the whole look-ahead, so no step is larger than it must be."""
    audio = np.full((400, 1), 0.5, np.float32)
    audio[200] = 2.0
    out = run(audio, [400])
    gains = (out / audio)[:, 0]
    look = Limiter(RATE, 1).latency
    assert gains[200] == pytest.approx(CEILING / 2, rel=1e-3)
    assert np.all(gains[: 200 - look] == 1.0)
    assert np.abs(np.diff(20 * np.log10(gains))).max() < 1.1 * 20 * np.log10(2 / CEILING) / look


def test_channels_are_turned_down_together() -> None:
    audio = np.concatenate([sine(2.0), sine(0.4)], axis=1)
    out = run(audio, [77])
    loud, quiet = out[1:-1, 0] / audio[1:-1, 0], out[1:-1, 1] / audio[1:-1, 1]
    fine = np.abs(audio[1:-1, 1]) > 0.01
    assert np.allclose(loud[fine], quiet[fine], rtol=1e-3)


WILD = st.lists(
    st.floats(-8, 8, width=32) | st.sampled_from([np.inf, -np.inf, np.nan, 1e30, 0.0]), min_size=1, max_size=300
)


@settings(deadline=None, max_examples=100)
@given(WILD, st.lists(st.integers(1, 70), min_size=1, max_size=4))
def test_never_over_the_ceiling_whatever_the_blocks(values: list[float], blocks: list[int]) -> None:
    audio = np.repeat(np.array(values, np.float32), 3)[:, None]
    out = run(audio, blocks)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= CEILING
    assert np.allclose(out, run(audio, [len(audio) + 100]), atol=1e-5)


def test_an_empty_block() -> None:
    limiter = Limiter(RATE, 2)
    limiter.process(np.full((50, 2), 3.0, np.float32))
    assert limiter.process(np.zeros((0, 2), np.float32)).shape == (0, 2)
