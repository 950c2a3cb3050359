"""The mixer, without any device: positions kept, no clicks, constant power, never too loud."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.audio.limiter import CEILING_DB, Limiter
from impact_plugin.audio.mixer import FADE_SECONDS, MOST_VOICES, STOP_SECONDS, Mixer

RATE = 8000
LATENCY = Limiter(RATE, 1).latency
FADE, STOP = round(FADE_SECONDS * RATE), round(STOP_SECONDS * RATE)
CEILING = 10 ** (CEILING_DB / 20)
Audio = npt.NDArray[np.float32]


def sine(hertz: float = 100.0, level: float = 0.5, phase: float = 0.0, seconds: float = 0.5) -> Audio:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE + phase)).astype(np.float32)


def noise(seed: int, seconds: float = 0.5, level: float = 0.1) -> Audio:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def faded(audio: Audio) -> Audio:
    """With silent ends, as takes have them."""
    ramp = np.linspace(0, 1, 50, dtype=np.float32)
    out = audio.copy()
    out[:50] *= ramp
    out[-50:] *= ramp[::-1]
    return out


def listen(mixer: Mixer, frames: int, block: int = 61) -> Audio:
    """The next frames of the first channel."""
    sizes = [block] * (frames // block) + [frames % block]
    return np.concatenate([mixer.render(size)[:, 0] for size in sizes])


def largest_step(audio: Audio) -> float:
    return float(np.abs(np.diff(audio)).max())


@pytest.mark.parametrize("block", [1, 61, 256, 10000])
def test_a_take_is_heard_as_it_is(block: int) -> None:
    mixer, take = Mixer(RATE, 2), faded(noise(1))
    mixer.play("a", take)
    out = listen(mixer, len(take) + LATENCY, block)
    assert np.array_equal(out[LATENCY:], take)
    assert not mixer.busy


def test_both_channels_get_a_single_one_and_two_stay_two() -> None:
    left, right = faded(sine()), faded(sine(150.0))
    mixer = Mixer(RATE, 2)
    mixer.play("a", left)
    out = mixer.render(len(left) + LATENCY)[LATENCY:]
    assert np.array_equal(out[:, 0], out[:, 1])
    mixer.play("b", np.stack([left, right], axis=1))
    out = mixer.render(len(left) + LATENCY)[LATENCY:]
    assert np.array_equal(out, np.stack([left, right], axis=1))
    single = Mixer(RATE, 1)
    single.play("b", np.stack([left, right], axis=1))
    assert np.array_equal(single.render(len(left) + LATENCY)[LATENCY:, 0], left)


@pytest.mark.parametrize("block", [40, 61, 2000])
def test_a_sharper_version_goes_on_where_the_old_one_was(block: int) -> None:
    """Two sines out of phase: to switch would step far; the cross-fade steps as the sines do, turning their phase."""
    old, new = sine(), sine(phase=2.0)
    mixer = Mixer(RATE, 1)
    mixer.play("a", old)
    before = listen(mixer, 1000, block)
    mixer.update("a", new)
    after = listen(mixer, 2000, block)
    out = np.concatenate([before, after])[LATENCY:]
    assert abs(new[1000] - old[999]) > 10 * largest_step(old)
    assert largest_step(out[100:]) < 1.15 * largest_step(old)
    assert np.array_equal(out[100:1000], old[100:1000])
    assert np.array_equal(out[1000 + FADE :], new[1000 + FADE : 3000 - LATENCY])


def test_the_same_again_changes_nothing() -> None:
    """What two versions share is neither louder nor quieter while they cross."""
    take = faded(noise(1))
    mixer = Mixer(RATE, 1)
    mixer.play("a", take)
    first = listen(mixer, 900)
    for _ in range(3):
        mixer.update("a", take.copy())
        first = np.concatenate([first, listen(mixer, 500)])
    out = np.concatenate([first, listen(mixer, 2000)])[LATENCY : LATENCY + len(take)]
    assert np.allclose(out, take, atol=1e-6)


@pytest.mark.parametrize("likeness", [0.0, 0.5, 0.9])
def test_the_power_is_constant_in_a_cross_fade(likeness: float) -> None:
    """Averaged over many pairs of noises that are this much alike: within half a decibel all along the fade."""
    powers = np.zeros(FADE)
    for seed in range(150):
        old, other = noise(2 * seed), noise(2 * seed + 1)
        new = (likeness * old + np.sqrt(1 - likeness**2) * other).astype(np.float32)
        mixer = Mixer(RATE, 1)
        mixer.play("a", old)
        listen(mixer, 1000)
        mixer.update("a", new)
        powers += listen(mixer, FADE + LATENCY)[LATENCY:] ** 2
    smooth = np.convolve(powers / 150, np.ones(40) / 40, mode="valid")
    assert np.abs(10 * np.log10(smooth / 0.01)).max() < 0.5


def test_the_newest_version_counts() -> None:
    versions = [sine(phase=number) for number in range(5)]
    mixer = Mixer(RATE, 1)
    mixer.play("a", versions[0])
    out = listen(mixer, 500)
    for version in versions[1:]:
        mixer.update("a", version)
    out = np.concatenate([out, listen(mixer, 2500)])[LATENCY:]
    assert largest_step(out[100:]) < 1.15 * largest_step(versions[0])
    assert np.array_equal(out[1200:], versions[-1][1200 : 3000 - LATENCY])


def test_a_longer_and_a_shorter_version() -> None:
    short, long = faded(sine(seconds=0.2)), faded(sine(seconds=0.5))
    mixer = Mixer(RATE, 1)
    mixer.play("a", short)
    listen(mixer, 800)
    mixer.update("a", long)
    out = listen(mixer, 4000)[LATENCY:]
    assert np.array_equal(out[FADE : 3200 - LATENCY], long[800 + FADE : 4000 - LATENCY])
    assert mixer.busy is False
    mixer.play("b", long)
    listen(mixer, 2500)
    mixer.update("b", short)
    out = listen(mixer, 1000)
    assert np.array_equal(out[LATENCY + FADE :], np.zeros(1000 - LATENCY - FADE))
    assert largest_step(out[LATENCY:]) < 1.1 * largest_step(long)
    assert mixer.busy is False


def test_an_update_of_what_has_ended_begins_again() -> None:
    mixer, take = Mixer(RATE, 1), faded(sine(seconds=0.1))
    mixer.play("a", take)
    listen(mixer, 2000)
    mixer.update("a", take)
    assert np.array_equal(listen(mixer, 900)[LATENCY : LATENCY + 800], take)


def test_stopping_fades_out() -> None:
    mixer, wave = Mixer(RATE, 1), sine()
    mixer.play("a", wave)
    mixer.play("b", sine(150.0, 0.1))
    before = listen(mixer, 1020)
    assert mixer.sounding == ("a", "b")
    mixer.stop("a")
    mixer.stop("b")
    after = listen(mixer, 400)
    out = np.concatenate([before, after])[LATENCY:]
    assert largest_step(out[100:]) < 1.3 * largest_step(wave)
    assert np.any(after[LATENCY + STOP // 2 : LATENCY + STOP - 4])
    assert not np.any(after[LATENCY + STOP :])
    assert mixer.sounding == ()
    assert mixer.busy is False


def test_stopping_everything() -> None:
    mixer = Mixer(RATE, 1)
    for number in range(5):
        mixer.play(number, sine(100.0 + 10 * number, 0.1))
    listen(mixer, 500)
    mixer.stop()
    assert not np.any(listen(mixer, 500)[LATENCY + STOP :])
    assert mixer.busy is False


def test_playing_again_begins_again_without_a_click() -> None:
    mixer, wave = Mixer(RATE, 1), faded(sine())
    mixer.play("a", wave)
    before = listen(mixer, 1020)
    mixer.play("a", wave)
    after = listen(mixer, 1000)
    out = np.concatenate([before, after])[LATENCY:]
    assert largest_step(out) < 2.2 * largest_step(wave)
    assert np.array_equal(after[LATENCY + STOP :], wave[STOP : 1000 - LATENCY])


def test_a_sound_that_begins_and_ends_with_a_step_gets_ramps() -> None:
    mixer = Mixer(RATE, 1)
    mixer.play("a", np.full(2000, 0.8, np.float32))
    out = listen(mixer, 3000)
    assert largest_step(out) < 0.8 * 0.1
    assert np.all(out[LATENCY + 100 : LATENCY + 1900] == np.float32(0.8))


def test_loud_sounds_together_stay_under_the_ceiling() -> None:
    mixer = Mixer(RATE, 2)
    for number in range(10):
        mixer.play(number, sine(100.0 + number, 0.89))
    out = mixer.render(4000)
    assert out.dtype == np.float32
    assert 0.9 * CEILING < np.abs(out).max() <= CEILING


def test_the_oldest_makes_room() -> None:
    mixer = Mixer(RATE, 1)
    for number in range(MOST_VOICES + 3):
        mixer.play(number, sine(level=0.01))
    listen(mixer, 200)
    assert mixer.sounding == tuple(range(3, MOST_VOICES + 3))


def test_odd_sounds() -> None:
    mixer = Mixer(RATE, 2)
    mixer.play("empty", np.zeros(0, np.float32))
    mixer.update("empty", np.zeros((0, 2), np.float32))
    mixer.play("one", np.array([0.7], np.float32))
    mixer.play("broken", np.array([np.nan, np.inf, -np.inf, 0.1], np.float32))
    out = mixer.render(200)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= CEILING
    assert mixer.busy is False
    assert mixer.render(0).shape == (0, 2)


def test_silence_is_counted_from_the_last_sample_heard() -> None:
    mixer = Mixer(RATE, 1)
    mixer.play("a", faded(sine(seconds=0.1)))
    heard = listen(mixer, 800 + LATENCY + 300, block=100)
    assert mixer.silent_frames >= 200
    last = int(np.flatnonzero(heard)[-1])
    assert len(heard) - last >= mixer.silent_frames


WAVES = [faded(sine(100.0 + 7 * number, 0.1, number)) for number in range(6)]
ORDERS = st.lists(
    st.tuples(st.sampled_from(["play", "update", "stop"]), st.sampled_from("ab"), st.integers(0, 5)), max_size=2
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(ORDERS, st.integers(STOP, 400)), max_size=12))
def test_no_order_of_orders_clicks(turns: Sequence[tuple[Sequence[tuple[str, str, int]], int]]) -> None:
    """At most four slow waves at once, fading ones too: their steps added up stay below what a cut would step."""
    mixer = Mixer(RATE, 1)
    blocks = [np.zeros(2, np.float32)]
    for orders, frames in turns:
        for order, key, number in orders:
            if order == "stop":
                mixer.stop(key)
            else:
                getattr(mixer, order)(key, WAVES[number])
        blocks.append(mixer.render(frames)[:, 0])
    out = np.concatenate(blocks)
    own = max(largest_step(wave) for wave in WAVES) * np.sqrt(2) + 0.1 * np.pi / 2 / STOP
    assert largest_step(out) < 4 * own < 0.07
