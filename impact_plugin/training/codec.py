"""Training of the `starter` codec: L1 on log-mels with a spread for what the latents do not say.

Knows mel frames (`mels`) and the autoencoder. The latents get noise while training, so that the decoder forgives the
generator's small errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from impact_plugin.codec.starter import MelAutoencoder, StarterCodec, StarterConfig
from impact_plugin.training.loop import Budget, Progress, Run
from impact_plugin.training.mels import MelFile, mel_file
from impact_plugin.training.store import SoundStore


@dataclass(frozen=True)
class CodecTraining:
    """Settings of a run. `latent_noise` is the standard deviation added to the latents."""

    batch: int = 32
    tokens: int = 32
    rate: float = 1e-3
    weight_decay: float = 0.01
    latent_noise: float = 0.03
    ema: float = 0.998
    seed: int = 0
    bf16: bool = False


class MelSampler:
    """Random stretches of mel frames from the training split, silence after a sound that is too short."""

    def __init__(self, mels: MelFile, frames: int, silence: float, *, split: str = "train") -> None:
        self.mels, self.frames, self.silence = mels, frames, silence
        self.rows = np.asarray(
            [i for i, sound in enumerate(mels.sounds) if sound.split == split and sound.license_ok], dtype=np.int64
        )
        lengths = np.diff(mels.offsets)[self.rows].astype(np.float64)
        self.weights = np.sqrt(lengths) / np.sqrt(lengths).sum()

    def batch(self, size: int, random: np.random.Generator) -> Tensor:
        """(size, frames, bands) float32."""
        bands = self.mels.frames.shape[1]
        out = np.full((size, self.frames, bands), self.silence, dtype=np.float32)
        for place, row in enumerate(random.choice(self.rows, size, p=self.weights)):
            begin, end = int(self.mels.offsets[row]), int(self.mels.offsets[row + 1])
            spare = end - begin - self.frames
            shift = int(random.integers(0, spare + 1)) if spare > 0 else 0
            part = self.mels.frames[begin + shift : min(begin + shift + self.frames, end)]
            out[place, : len(part)] = part
        return torch.from_numpy(out)


def codec_loss(autoencoder: MelAutoencoder, frames: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, float]]:
    """L1 of the mean, and the Laplace likelihood of the spread around it (weighted so that the mean stays an L1 fit).

    Args:
        frames: (batch, frames, bands); noise: (batch, tokens, dims), added to the latents.
    """
    latents = autoencoder.encode(frames)
    mean, log_spread = autoencoder.decode(latents + noise)
    error = (mean - frames).abs()
    spread = log_spread.exp()
    likelihood = error.detach() / spread + log_spread
    loss = error.mean() + 0.2 * (likelihood * spread.detach().clamp(min=0.05)).mean() + 1e-3 * latents.square().mean()
    return loss, {"l1_db": float(error.detach().mean()) * StarterCodec.SCALE_DB}


def train_codec(
    data: Path,
    out: Path,
    *,
    config: StarterConfig | None = None,
    settings: CodecTraining | None = None,
    budget: Budget,
    device: str = "cpu",
    report: Callable[[Progress], None] | None = None,
) -> StarterCodec:
    """Train on the data set `data` in the run folder `out`; resumes a checkpoint found there.

    Returns:
        the codec with averaged weights.
    """
    config, settings = config or StarterConfig(), settings or CodecTraining()
    torch_random = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        codec = StarterCodec(config)
    mels = mel_file(SoundStore(data), codec)
    silence = (config.floor_db - StarterCodec.CENTRE_DB) / StarterCodec.SCALE_DB
    sampler = MelSampler(mels, settings.tokens * config.frames_per_token, silence)
    patch = config.frames_per_token
    some = sampler.batch(4096, np.random.default_rng(settings.seed))[:, : settings.tokens // 2 * patch]
    codec.autoencoder.start_from_components(some.reshape(-1, patch, config.bands))
    autoencoder = codec.to(device).autoencoder
    optimiser = torch.optim.AdamW(
        autoencoder.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    run = Run(out, autoencoder, [optimiser], budget, ema=settings.ema)

    def loss_of_step(step: int) -> tuple[Tensor, dict[str, float]]:
        random = np.random.default_rng((settings.seed, step))
        frames = sampler.batch(settings.batch, random).to(device)
        shape = (settings.batch, settings.tokens, config.dims)
        noise = settings.latent_noise * torch.randn(shape, generator=torch_random)
        with torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
            return codec_loss(autoencoder, frames, noise.to(device))

    run.train(loss_of_step, items_per_step=settings.batch, report=report, report_every=50)
    with torch.no_grad():
        state = autoencoder.state_dict()
        for name, value in run.averages.values.items():
            state[name].copy_(value)
        autoencoder.eval()
        parts = [autoencoder.encode(sampler.batch(256, np.random.default_rng((1, i))).to(device)) for i in range(16)]
        autoencoder.fit_statistics(torch.cat(parts).flatten(0, 1))
    return codec
