"""Codec kind `starter`: log-mel patches, a small convolutional autoencoder, noise refill, phase reconstruction.

A token stands for four mel frames (46 ms at 44.1 kHz). The decoder gives each mel value a mean and a spread; what the
latents do not say is refilled with noise of that spread, so that the generator need not learn it. Phases come from
`phase.griffin_lim`. Knows nothing of how latents are made from words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from impact_plugin.codec.base import Quality
from impact_plugin.codec.mel import LogMel
from impact_plugin.codec.phase import griffin_lim, seeded_normal

PHASE_SEED_OFFSET = 0x5EED


@dataclass(frozen=True)
class StarterConfig:
    """Shape of the codec. `noise` scales the refill (0 = none), `phase_rounds` are Griffin-Lim rounds."""

    rate: int = 44100
    fft: int = 2048
    hop: int = 512
    bands: int = 160
    low_hz: float = 20.0
    floor_db: float = -92.0
    frames_per_token: int = 4
    dims: int = 48
    frame_width: int = 192
    token_width: int = 256
    frame_blocks: int = 2
    token_blocks: int = 2
    noise: float = 0.8
    phase_rounds: int = 32
    preview_phase_rounds: int = 6


class ConvBlock(nn.Module):
    """ConvNeXt block over time: depthwise convolution, norm, two-layer MLP, residual. (batch, time, width)."""

    def __init__(self, width: int, kernel: int = 7, expansion: int = 3) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, width * expansion)
        self.reduce = nn.Linear(width * expansion, width)
        nn.init.zeros_(self.reduce.weight)
        nn.init.zeros_(self.reduce.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.reduce(nn.functional.gelu(self.expand(self.norm(y))))
        return out


class MelAutoencoder(nn.Module):
    """Normalised log-mel frames to latent tokens and back to a mean and a spread.

    Frames: (batch, tokens * frames_per_token, bands); latents: (batch, tokens, dims), each dim of unit variance by
    the statistics `centre` and `spread`, which :meth:`fit_statistics` takes from data once training has ended.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, config: StarterConfig) -> None:
        super().__init__()
        self.config = config
        frames, wide = config.frame_width, config.token_width
        patch = config.frames_per_token
        self.encoder_in = nn.Linear(config.bands, frames)
        self.encoder_frames = nn.Sequential(*(ConvBlock(frames) for _ in range(config.frame_blocks)))
        self.encoder_patch = nn.Linear(frames * patch, wide)
        self.encoder_tokens = nn.Sequential(*(ConvBlock(wide, kernel=3) for _ in range(config.token_blocks - 1)))
        self.encoder_out = nn.Linear(wide, config.dims)
        self.encoder_linear = nn.Linear(config.bands * patch, config.dims)
        self.register_buffer("centre", torch.zeros(config.dims))
        self.register_buffer("spread", torch.ones(config.dims))
        self.decoder_in = nn.Linear(config.dims, wide)
        self.decoder_tokens = nn.Sequential(*(ConvBlock(wide, kernel=5) for _ in range(config.token_blocks)))
        self.decoder_patch = nn.Linear(wide, frames * patch)
        self.decoder_frames = nn.Sequential(*(ConvBlock(frames) for _ in range(config.frame_blocks + 1)))
        self.decoder_norm = nn.LayerNorm(frames)
        self.decoder_out = nn.Linear(frames, config.bands * 2)
        self.decoder_linear = nn.Linear(config.dims, config.bands * patch)
        for layer in (self.encoder_out, self.decoder_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def encode(self, frames: Tensor) -> Tensor:
        """(batch, tokens * frames_per_token, bands) -> (batch, tokens, dims), unit variance."""
        batch, length, bands = frames.shape
        patch = self.config.frames_per_token
        x = self.encoder_frames(self.encoder_in(frames))
        x = self.encoder_patch(x.reshape(batch, length // patch, -1))
        x = self.encoder_out(self.encoder_tokens(x))
        x = x + self.encoder_linear(frames.reshape(batch, length // patch, patch * bands))
        latents: Tensor = (x - self.centre) / self.spread
        return latents

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, tokens, dims) -> mean and log spread, each (batch, tokens * frames_per_token, bands)."""
        batch, tokens, _ = latents.shape
        latents = latents * self.spread + self.centre
        x = self.decoder_tokens(self.decoder_in(latents))
        x = self.decoder_patch(x).reshape(batch, tokens * self.config.frames_per_token, -1)
        x = self.decoder_out(self.decoder_norm(self.decoder_frames(x)))
        mean, log_spread = x.chunk(2, dim=-1)
        linear = self.decoder_linear(latents).reshape(mean.shape)
        return mean + linear, (log_spread - 2.0).clamp(-6.0, 1.5)

    @torch.no_grad()
    def fit_statistics(self, latents: Tensor) -> None:
        """Make these latents, and so all like them, of zero mean and unit variance; (n, dims) as encoded now."""
        self.centre.add_(latents.mean(dim=0) * self.spread)
        self.spread.mul_(latents.std(dim=0).clamp(min=1e-4))

    @torch.no_grad()
    def start_from_components(self, frames: Tensor) -> None:
        """Begin as a principal component analysis of patches, which the convolutions then improve on.

        Args:
            frames: (n, frames_per_token, bands) normalised patches.
        """
        patches = frames.reshape(frames.shape[0], -1).double()
        mean = patches.mean(dim=0)
        covariance = (patches - mean).T @ (patches - mean) / patches.shape[0]
        values, vectors = torch.linalg.eigh(covariance)
        kept = vectors[:, -self.config.dims :].flip(1)
        scale = values[-self.config.dims :].flip(0).clamp(min=1e-8).sqrt()
        self.encoder_linear.weight.copy_((kept / scale).T)
        self.encoder_linear.bias.copy_(-(mean @ kept) / scale)
        self.decoder_linear.weight.copy_(kept * scale)
        self.decoder_linear.bias.copy_(mean)


class StarterCodec:
    """The codec of the shipped bundle; see the module's docstring and `codec.base.Codec`."""

    kind = "starter"
    CENTRE_DB = -60.0
    SCALE_DB = 25.0

    def __init__(self, config: StarterConfig) -> None:
        self.config = config
        self.rate = config.rate
        self.dims = config.dims
        self.samples_per_token = config.hop * config.frames_per_token
        self.mel = LogMel(config.rate, config.fft, config.hop, config.bands, config.low_hz, config.floor_db)
        self.autoencoder = MelAutoencoder(config).eval()
        self.device = torch.device("cpu")

    @property
    def tokens_per_second(self) -> float:
        return self.rate / self.samples_per_token

    def to(self, device: torch.device | str) -> StarterCodec:
        self.device = torch.device(device)
        self.mel.to(device)
        self.autoencoder.to(device)
        return self

    def to_frames(self, audio: Tensor) -> Tensor:
        """(batch, samples) -> normalised log-mel (batch, frames, bands), frames a multiple of `frames_per_token`."""
        short = -audio.shape[1] % self.samples_per_token
        padded = nn.functional.pad(audio.to(self.device), (0, short))
        out: Tensor = (self.mel(padded) - self.CENTRE_DB) / self.SCALE_DB
        return out

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        return self.autoencoder.encode(self.to_frames(audio))

    @torch.no_grad()
    def decode_mel(self, latents: Tensor, *, seeds: Sequence[int]) -> Tensor:
        """Log-mel in decibel with the refill, (batch, tokens * frames_per_token, bands)."""
        mean, log_spread = self.autoencoder.decode(latents.to(self.device, torch.float32))
        if self.config.noise > 0:
            shape = (mean.shape[1], mean.shape[2])
            mean = mean + self.config.noise * log_spread.exp() * seeded_normal(seeds, shape, self.device)
        decibel = mean * self.SCALE_DB + self.CENTRE_DB
        return decibel.clamp(self.config.floor_db, 6.0)

    @torch.no_grad()
    def decode(self, latents: Tensor, *, seeds: Sequence[int], quality: Quality = "final") -> Tensor:
        decibel = self.decode_mel(latents, seeds=seeds)
        final = quality == "final"
        magnitudes = self.mel.to_magnitudes(decibel, steps=12 if final else 3)
        rounds = self.config.phase_rounds if final else self.config.preview_phase_rounds
        phase_seeds = [int(seed) + PHASE_SEED_OFFSET for seed in seeds]
        return griffin_lim(magnitudes, self.mel.window, self.config.hop, seeds=phase_seeds, iterations=rounds)

    @torch.no_grad()
    def decode_part(
        self, latents: Tensor, start: int, stop: int, *, seeds: Sequence[int], quality: Quality = "final"
    ) -> Tensor:
        around = math.ceil(self.context_tokens)
        first, last = max(start - around, 0), min(stop + around, latents.shape[1])
        audio = self.decode(latents[:, first:last], seeds=seeds, quality=quality)
        offset = (start - first) * self.samples_per_token
        return audio[:, offset : offset + (stop - start) * self.samples_per_token]

    @property
    def context_tokens(self) -> float:
        """Tokens to either side that decoding one token looks at: the decoder's kernels and the window."""
        frames = 3 * (self.config.frame_blocks + 1) + self.config.fft / self.config.hop
        return 2 * self.config.token_blocks + frames / self.config.frames_per_token

    @torch.no_grad()
    def dim_weights(self) -> Tensor:
        """Each dim by the deviation it makes in the log-mel spectrum (first order: its linear part)."""
        deviation: Tensor = self.autoencoder.decoder_linear.weight.norm(dim=0) * self.autoencoder.spread
        return deviation / deviation.mean()

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return asdict(self.config), dict(self.autoencoder.state_dict())

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> StarterCodec:
        """A codec from a bundle's config and tensors.

        Raises:
            ValueError: when a config key or a tensor does not fit.
        """
        try:
            codec = cls(StarterConfig(**config))
            codec.autoencoder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"codec 'starter': {str(error).splitlines()[0]}") from error
        return codec
