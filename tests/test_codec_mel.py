"""The mel front end and the phase search, against facts that do not come from their own code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from impact_plugin.codec.mel import LogMel, hz_to_mel, mel_filters, mel_to_hz
from impact_plugin.codec.phase import griffin_lim, seeded_normal
from impact_plugin.codec.starter import StarterCodec, StarterConfig

RATE, HOP = 44100, 512


@pytest.fixture(scope="module")
def front() -> LogMel:
    return LogMel()


def sine(hz: float, seconds: float = 0.5, level: float = 1.0) -> torch.Tensor:
    samples = int(seconds * RATE) // HOP * HOP
    return level * torch.sin(2 * torch.pi * hz * torch.arange(samples) / RATE)[None]


def test_the_mel_scale_is_slaneys() -> None:
    # Points of the scale of Slaney's Auditory Toolbox: 1000 hz = 15, 6400 hz = 42 (27 steps of ln 6.4).
    found = hz_to_mel(torch.tensor([0.0, 200.0, 1000.0, 6400.0], dtype=torch.float64))
    assert found.tolist() == pytest.approx([0.0, 3.0, 15.0, 42.0])
    hz = torch.linspace(1, 22050, 200, dtype=torch.float64)
    assert torch.allclose(mel_to_hz(hz_to_mel(hz)), hz)


def test_filters_cover_the_range_and_weigh_one() -> None:
    filters = mel_filters(160, 2048, RATE, 20.0, RATE / 2)
    assert filters.shape == (160, 1025)
    assert torch.allclose(filters.sum(dim=1), torch.ones(160), atol=1e-5)
    covered = filters.sum(dim=0)[2:1020]
    assert float(covered.min()) > 0


@pytest.mark.parametrize("level", [1.0, 0.1, 0.01])
def test_a_sine_reads_its_level_and_place(front: LogMel, level: float) -> None:
    decibel = front(sine(3000.0, level=level))[0, 10]
    place = float(mel_to_hz(torch.tensor(float(hz_to_mel(torch.tensor(22050.0))) * (int(decibel.argmax()) + 1) / 161)))
    assert place == pytest.approx(3000.0, rel=0.05)
    # The band is wider than the line: its mean lies a little under the sine's own level.
    assert -14.0 < float(decibel.max()) - 20 * np.log10(level) < 0.5


def test_silence_is_the_floor_and_back_again_silence(front: LogMel) -> None:
    decibel = front(torch.zeros(1, 10 * HOP))
    assert torch.equal(decibel, torch.full_like(decibel, front.floor_db))
    assert float(front.to_magnitudes(decibel).abs().max()) < 1e-6


def test_frames_are_centred_on_their_hop(front: LogMel) -> None:
    click = torch.zeros(1, 40 * HOP)
    click[0, 20 * HOP + HOP // 2] = 1.0
    loud = front(click)[0].mean(dim=-1)
    assert int(loud.argmax()) == 20


def test_magnitudes_come_back_from_mel_bands(front: LogMel) -> None:
    audio = 0.2 * seeded_normal([1], (30 * HOP,), torch.device("cpu"))
    decibel = front(audio)
    again = 20 * torch.log10((front.to_magnitudes(decibel) @ front.filters.T).clamp(min=1e-9))
    assert float((again - decibel).abs().mean()) < 0.3


def test_the_phase_search_comes_near_and_does_better_than_chance(front: LogMel) -> None:
    audio = sine(440.0, level=0.5) + sine(1330.0, level=0.3)
    magnitudes = front.magnitudes(audio)

    def distance(rounds: int) -> float:
        found = griffin_lim(magnitudes, front.window, HOP, seeds=[1], iterations=rounds)
        assert found.shape == audio.shape
        return float((front.magnitudes(found) - magnitudes).norm() / magnitudes.norm())

    assert distance(32) < 0.12
    assert distance(32) < 0.5 * distance(0)


def test_seeds_fix_the_phases_whatever_else_is_in_the_batch(front: LogMel) -> None:
    magnitudes = front.magnitudes(sine(700.0)).repeat(3, 1, 1)
    three = griffin_lim(magnitudes, front.window, HOP, seeds=[1, 2, 3], iterations=8)
    one = griffin_lim(magnitudes[:1], front.window, HOP, seeds=[2], iterations=8)
    difference = 20 * float(torch.log10((three[1] - one[0]).abs().max().clamp(min=1e-9)))
    assert difference < -60.0
    assert not torch.allclose(three[0], three[1], atol=0.01)


def test_one_seed_a_sound_is_asked_for(front: LogMel) -> None:
    with pytest.raises(ValueError, match="2 sounds need 2 seeds"):
        griffin_lim(torch.ones(2, 4, 1025), front.window, HOP, seeds=[1])


def test_parts_make_the_same_codec_again() -> None:
    codec = StarterCodec(StarterConfig(dims=8, frame_width=16, token_width=16))
    patches = torch.randn(200, 4, 160)
    codec.autoencoder.start_from_components(patches)
    again = StarterCodec.from_parts(*codec.to_parts())
    audio = 0.3 * torch.randn(1, 20000)
    assert torch.equal(codec.encode(audio), again.encode(audio))
    assert again.tokens_per_second == pytest.approx(44100 / 2048)
    config, tensors = codec.to_parts()
    with pytest.raises(ValueError, match="codec 'starter'"):
        StarterCodec.from_parts({**config, "dims": 9}, tensors)
    with pytest.raises(ValueError, match="codec 'starter'"):
        StarterCodec.from_parts({**config, "smell": 9}, tensors)


def test_components_rebuild_what_they_were_made_from() -> None:
    codec = StarterCodec(StarterConfig(dims=8, frame_width=16, token_width=16))
    basis = torch.randn(8, 640)
    patches = (torch.randn(400, 8) @ basis).reshape(400, 4, 160)
    codec.autoencoder.start_from_components(patches)
    frames = patches[:50].reshape(1, 200, 160)
    latents = codec.autoencoder.encode(frames)
    mean, _ = codec.autoencoder.decode(latents)
    assert float((mean - frames).abs().mean().detach()) < 0.02 * float(frames.abs().mean())
    assert latents.std(dim=1).mean().item() == pytest.approx(1.0, abs=0.2)
