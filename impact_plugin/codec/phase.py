"""Phases for magnitudes: fast Griffin-Lim (Perraudin, Balazs, Sondergaard 2013), seeded for each sample.

Knows STFT frames as `mel.LogMel` lays them and nothing of mel bands or latents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def seeded_uniform(seeds: Sequence[int], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Uniform numbers in 0...1, (len(seeds), *shape): row i depends on seed i alone."""
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(int(seed))
        rows.append(torch.rand(shape, generator=generator))
    return torch.stack(rows).to(device)


def seeded_normal(seeds: Sequence[int], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Normal numbers, (len(seeds), *shape): row i depends on seed i alone."""
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(int(seed))
        rows.append(torch.randn(shape, generator=generator))
    return torch.stack(rows).to(device)


def _to_audio(spectrum: Tensor, window: Tensor, hop: int, edge: int, samples: int, norm: Tensor) -> Tensor:
    fft = window.shape[0]
    frames = torch.fft.irfft(spectrum, n=fft, dim=-1) * window
    total = (frames.shape[1] - 1) * hop + fft
    audio = torch.nn.functional.fold(frames.transpose(1, 2), (1, total), (1, fft), stride=(1, hop))[:, 0, 0]
    return (audio / norm)[:, edge : edge + samples]


def griffin_lim(
    magnitudes: Tensor, window: Tensor, hop: int, *, seeds: Sequence[int], iterations: int = 32, momentum: float = 0.99
) -> Tensor:
    """Audio whose STFT magnitudes come near the given ones.

    Args:
        magnitudes: (batch, frames, fft // 2 + 1); 1 = full-scale sine.
        window: (fft,) Hann.
        hop: samples a frame.
        seeds: one a sample: the random phases that the search starts from.
        iterations: rounds of projection; 0 keeps the random phases.
        momentum: of the fast variant; 0 is plain Griffin-Lim.

    Returns:
        (batch, frames * hop) float32.
    """
    batch, frames, bins = magnitudes.shape
    fft = window.shape[0]
    if len(seeds) != batch:
        raise ValueError(f"{batch} sounds need {batch} seeds, not {len(seeds)}")
    samples = frames * hop
    edge = (fft - hop) // 2
    target = magnitudes * (fft / 4.0)
    total = (frames - 1) * hop + fft
    squares = (window**2).expand(1, frames, fft).transpose(1, 2)
    norm = torch.nn.functional.fold(squares, (1, total), (1, fft), stride=(1, hop))[:, 0, 0].clamp(min=1e-4)
    angles = seeded_uniform(seeds, (frames, bins), magnitudes.device) * (2 * math.pi)
    spectrum = torch.polar(target, angles)
    previous = torch.zeros_like(spectrum)
    for _ in range(iterations):
        audio = _to_audio(spectrum, window, hop, edge, samples, norm)
        padded = torch.nn.functional.pad(audio, (edge, fft - hop - edge))
        rebuilt = torch.fft.rfft(padded.unfold(1, fft, hop) * window, dim=-1)
        estimate = rebuilt + momentum / (1 + momentum) * (rebuilt - previous)
        previous = rebuilt
        spectrum = target * estimate / estimate.abs().clamp(min=1e-8)
    return _to_audio(spectrum, window, hop, edge, samples, norm)
