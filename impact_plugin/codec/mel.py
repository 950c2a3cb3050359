"""Log-mel spectrograms and the way back to linear magnitudes.

Knows the Slaney mel scale, levels in decibel and nothing of latents. The frames lie so that frame i is centred on
sample (i + 0.5) * hop: n frames stand for exactly n * hop samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def hz_to_mel(hz: Tensor) -> Tensor:
    """Slaney's scale: linear below 1 kHz, logarithmic above."""
    linear = hz * 3.0 / 200.0
    logarithmic = 15.0 + torch.log(hz.clamp(min=1.0) / 1000.0) * (27.0 / math.log(6.4))
    return torch.where(hz < 1000.0, linear, logarithmic)


def mel_to_hz(mel: Tensor) -> Tensor:
    """The inverse of :func:`hz_to_mel`."""
    return torch.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * torch.exp((mel - 15.0) * (math.log(6.4) / 27.0)))


def mel_filters(bands: int, fft: int, rate: int, low_hz: float, high_hz: float) -> Tensor:
    """Triangular filters whose weights sum to one, so that a band's value is a mean magnitude.

    Returns:
        (bands, fft // 2 + 1) float32.
    """
    limits = hz_to_mel(torch.tensor([low_hz, high_hz], dtype=torch.float64))
    edges = mel_to_hz(torch.linspace(float(limits[0]), float(limits[1]), bands + 2, dtype=torch.float64))
    bins = torch.linspace(0, rate / 2, fft // 2 + 1, dtype=torch.float64)
    width = rate / fft
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2]).clamp(min=width)[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1]).clamp(min=width)[:, None]
    filters = torch.minimum(rising, falling).clamp(min=0)
    return (filters / filters.sum(dim=1, keepdim=True).clamp(min=1e-9)).float()


class LogMel(nn.Module):
    """Log-mel front end in decibel and its approximate inverse to magnitudes.

    0 dB is a full-scale sine; everything under `floor_db` is the floor.

    Args:
        rate: hz; fft: window length in samples; hop: samples a frame; bands: mel bands.
        floor_db: the lowest level.
    """

    window: Tensor
    filters: Tensor
    spread: Tensor

    def __init__(
        self,
        rate: int = 44100,
        fft: int = 2048,
        hop: int = 512,
        bands: int = 160,
        low_hz: float = 20.0,
        floor_db: float = -92.0,
    ) -> None:
        super().__init__()
        self.rate, self.fft, self.hop, self.bands, self.floor_db = rate, fft, hop, bands, floor_db
        filters = mel_filters(bands, fft, rate, low_hz, rate / 2)
        self.register_buffer("window", torch.hann_window(fft), persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("spread", filters / filters.sum(dim=0, keepdim=True).clamp(min=1e-6), persistent=False)

    def magnitudes(self, audio: Tensor) -> Tensor:
        """(batch, samples), samples a multiple of `hop` -> (batch, frames, fft // 2 + 1); 1 = full-scale sine."""
        edge = (self.fft - self.hop) // 2
        padded = nn.functional.pad(audio, (edge, self.fft - self.hop - edge))
        spectrum = torch.stft(padded, self.fft, self.hop, window=self.window, center=False, return_complex=True)
        magnitudes: Tensor = spectrum.abs().transpose(1, 2) * (4.0 / self.fft)
        return magnitudes

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, samples), samples a multiple of `hop` -> (batch, frames, bands), decibel."""
        mel = self.magnitudes(audio) @ self.filters.T
        return 20.0 * torch.log10(mel.clamp(min=10 ** (self.floor_db / 20)))

    def to_magnitudes(self, decibel: Tensor, steps: int = 12) -> Tensor:
        """Linear magnitudes whose mel bands come near the given ones (multiplicative non-negative least squares).

        Args:
            decibel: (batch, frames, bands).

        Returns:
            (batch, frames, fft // 2 + 1); what lies at the floor becomes silence.
        """
        mel: Tensor = 10.0 ** (decibel / 20.0) - 10.0 ** (self.floor_db / 20.0)
        mel = mel.clamp(min=0.0)
        estimate: Tensor = mel @ self.spread
        for _ in range(steps):
            ratio = mel / (estimate @ self.filters.T).clamp(min=1e-9)
            estimate = estimate * (ratio @ self.spread)
        return estimate
