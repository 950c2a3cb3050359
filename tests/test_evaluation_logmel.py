"""The log-mel distance: levels, frequencies and lengths that are known."""

from __future__ import annotations

import numpy as np
import pytest

from impact_plugin.evaluation.logmel import BANDS, RANGE_DB, RATE, distance_db, levels_distance_db, log_mel


def noise(seconds: float = 0.5, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def half(audio: np.ndarray) -> np.ndarray:
    return (0.5 * audio).astype(np.float32)


def tone(hertz: float, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def test_shape_and_silence() -> None:
    assert log_mel(noise(1.0)).shape == (1 + RATE // 512, BANDS)
    assert np.allclose(log_mel(np.zeros(1000, np.float32)), -200.0, atol=1e-3)
    assert log_mel(np.zeros(0, np.float32)).shape == (1, BANDS)


def test_half_the_level_is_six_decibel() -> None:
    assert distance_db(noise(), half(noise())) == pytest.approx(6.02, abs=0.05)
    assert levels_distance_db(log_mel(noise()), log_mel(half(noise())), match_level=True) == pytest.approx(0, abs=0.01)
    assert distance_db(noise(), noise()) == 0.0


@pytest.mark.parametrize(("hertz", "level"), [(400.0, 0.0), (5000.0, -9.5), (15000.0, -19.0)])
def test_a_tone_lies_in_the_band_of_its_frequency(hertz: float, level: float) -> None:
    middle = log_mel(tone(hertz))[20]
    # Slaney's scale: 200/3 hz a mel up to 1 kHz, then 27 mels for a factor of 6.4; 161 steps from 20 hz to 22.05 kHz
    mel = hertz * 3 / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)
    top = 15 + 27 * np.log(22.05) / np.log(6.4)
    expected = (mel - 0.3) / (top - 0.3) * 161 - 1
    assert abs(int(middle.argmax()) - expected) <= 1
    # a full-scale sine is 0 dB in one bin, its Hann lobe sums to 2, and a band averages over its 1, 6 or 18 bins
    assert abs(middle.max() - level) < 2.5


def test_what_lies_80_decibel_down_does_not_count() -> None:
    loud = tone(1000.0, 1.0)
    loud[RATE // 2 :] = 0.0
    hiss = loud.copy()
    hiss[RATE // 2 :] += 1e-6 * noise()
    assert distance_db(loud, hiss) < 0.05


def test_a_missing_end_is_silence() -> None:
    whole = tone(1000.0, 1.0)
    cut = distance_db(whole, whole[: RATE // 2])
    assert 0.0 < cut < RANGE_DB
    assert cut == pytest.approx(distance_db(whole, np.concatenate([whole[: RATE // 2], np.zeros(RATE // 2)])), abs=1e-4)


def test_other_rates_are_resampled() -> None:
    import soxr

    sound = tone(700.0, 1.0)
    low = soxr.resample(sound, RATE, 22050, quality="HQ").astype(np.float32)
    assert levels_distance_db(log_mel(sound)[4:-4], log_mel(low, 22050)[4:-4]) < 0.5
