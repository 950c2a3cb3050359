"""Levels, fades and sample rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.audio.level import Finish, fade, finish_take, loudness, peak_db
from impact_plugin.audio.picture import spectrogram_png
from impact_plugin.audio.resample import fit, resample
from impact_plugin.errors import ImpactError

RATE = 44100


def sine(level_db: float, seconds: float = 0.5, hertz: float = 440.0) -> np.ndarray:
    return (10 ** (level_db / 20) * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(
        np.float32
    )


@pytest.mark.parametrize(("before", "after"), [(20.0, -1.0), (0.0, -1.0), (-0.5, -1.0), (-50.0, -12.0), (-6.0, -6.0)])
def test_peak_rule(before: float, after: float) -> None:
    audio, gain = finish_take(sine(before), RATE)
    assert peak_db(audio) == pytest.approx(after, abs=0.02)
    assert gain == pytest.approx(after - before, abs=0.02)


@settings(deadline=None)
@given(st.floats(min_value=-85, max_value=60))
def test_every_audible_take_lies_in_the_promised_range(level: float) -> None:
    audio, _ = finish_take(sine(level, 0.05), RATE)
    assert -20.0 <= peak_db(audio) <= -0.1


def test_silence_stays_silence() -> None:
    audio, gain = finish_take(np.zeros(1000, np.float32), RATE)
    assert gain == 0.0
    assert not audio.any()


def test_wishes_of_the_user() -> None:
    assert peak_db(finish_take(sine(-6), RATE, Finish(peak_db=-3.0))[0]) == pytest.approx(-3.0, abs=0.02)
    assert peak_db(finish_take(sine(-6), RATE, Finish(gain_db=-10.0))[0]) == pytest.approx(-16.0, abs=0.02)
    assert peak_db(finish_take(sine(-6), RATE, Finish(gain_db=24.0))[0]) <= -0.1 + 1e-4
    for seconds in (0.1, 2.0):
        loud = finish_take(sine(-6, seconds), RATE, Finish(lufs=-23.0))[0]
        assert loudness(loud, RATE) == pytest.approx(-23.0, abs=0.3)


def test_samples_that_are_no_numbers() -> None:
    with pytest.raises(ImpactError) as caught:
        finish_take(np.array([0.0, np.nan], np.float32), RATE)
    assert caught.value.code == "internal"


def test_fades_start_and_end_near_nothing_and_leave_the_middle() -> None:
    flat = np.ones(4410, np.float32)
    out = fade(flat, RATE, 0.002, 0.005)
    assert out[0] < 0.01
    assert out[-1] < 0.01
    assert np.array_equal(out[89:-221], flat[89:-221])
    assert np.isfinite(fade(np.ones(3, np.float32), RATE, 1.0, 1.0)).all()
    assert np.array_equal(flat, np.ones(4410, np.float32))  # the input is left alone


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
def test_resampling_keeps_pitch_and_length(rate: int) -> None:
    out = resample(sine(-6), RATE, rate)
    assert len(out) == round(0.5 * rate)
    peak = np.fft.rfftfreq(len(out), 1 / rate)[np.abs(np.fft.rfft(out)).argmax()]
    assert peak == pytest.approx(440, abs=3)
    assert len(resample(sine(-6), RATE, rate, frames=12345)) == 12345


def test_fit() -> None:
    assert fit(np.ones(3, np.float32), 5).tolist() == [1, 1, 1, 0, 0]
    assert fit(np.ones((3, 2), np.float32), 2).shape == (2, 2)
    assert len(resample(np.zeros(0, np.float32), 44100, 48000, frames=10)) == 10


def test_picture() -> None:
    png = spectrogram_png([("a sine", sine(-6), RATE), ("silence " * 30, np.zeros(300, np.float32), RATE)], columns=2)
    assert png.startswith(b"\x89PNG")
    assert len(png) > 5000
