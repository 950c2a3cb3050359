"""The head's diffusion process: noise schedule, training loss, and the samplers that run it backwards.

Knows single tokens: (n, dims) with a condition each. Cosine betas and learned-range variance with its variational
term are those of Improved DDPM (arXiv 2102.09672), as MAR and so IMPACT use them. Guidance is applied in here, on the
prediction, with one scale a token (IMPACT sec. 3.3). Noise always comes from the caller, so seeds are its business.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from impact_plugin.model.config import Prediction
from impact_plugin.model.head import DiffusionHead, time_features

Sampler = Literal["ddpm", "ddim", "dpm++"]
SAMPLERS: tuple[str, ...] = get_args(Sampler)

#: Gives standard normal noise of the shape of the tokens for one step: `noise(step)`.
NoiseSource = Callable[[int], Tensor]


def cosine_alphas(steps: int) -> Tensor:
    """(steps,) float64 cumulative products of alpha, betas clipped at 0.999."""

    def level(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2.0) ** 2

    betas = [min(1.0 - level((i + 1) / steps) / level(i / steps), 0.999) for i in range(steps)]
    return torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float64), dim=0)


def respaced(steps: int, kept: int, begin: float = 1.0) -> list[int]:
    """`kept` of the times from 0 to `begin` (a share of all), evenly spread, both ends among them, rising."""
    last = round((steps - 1) * begin)
    if kept > last:
        return list(range(last + 1))
    if kept == 1:
        return [last]
    stride = last / (kept - 1)
    return sorted({round(i * stride) for i in range(kept)})


def annealed_steps(first: int, last: int, fraction: float) -> int:
    """DiSA (arXiv 2505.20297): fewer head steps as more tokens are known, linear in the share decoded so far."""
    return max(round(first + (last - first) * min(max(fraction, 0.0), 1.0)), 1)


@dataclass(frozen=True)
class _Table:
    """Constants of one respaced process, each (kept,) float32 but `times`."""

    times: Tensor
    root_alpha: Tensor
    root_noise: Tensor
    mean_start: Tensor
    mean_token: Tensor
    log_low: Tensor
    log_high: Tensor

    def to(self, device: torch.device) -> _Table:
        return _Table(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class Diffusion:
    """The process over one latent token.

    Args:
        steps: T_max (paper: 1000); prediction: what the head's first half means.
    """

    def __init__(self, steps: int = 1000, prediction: Prediction = "epsilon") -> None:
        self.steps = steps
        self.prediction = prediction
        self.alphas = cosine_alphas(steps)
        self._tables: dict[tuple[int, float, str], _Table] = {}

    def table(self, kept: int, device: torch.device, begin: float = 1.0) -> _Table:
        """Constants of the process (or its first share) respaced to `kept` steps, computed once a device."""
        key = (kept, begin, str(device))
        if key not in self._tables:
            times = respaced(self.steps, kept, begin)
            alpha = self.alphas[times]
            before = torch.cat([torch.ones(1, dtype=torch.float64), alpha[:-1]])
            beta = 1.0 - alpha / before
            posterior = beta * (1.0 - before) / (1.0 - alpha)
            posterior[0] = posterior[1] if len(times) > 1 else beta[0]
            constants = [
                alpha.sqrt(),
                (1.0 - alpha).sqrt(),
                beta * before.sqrt() / (1.0 - alpha),
                (1.0 - before) * (1.0 - beta).sqrt() / (1.0 - alpha),
                posterior.clamp(min=1e-20).log(),
                beta.clamp(min=1e-20).log(),
            ]
            built = _Table(torch.tensor(times), *(constant.float() for constant in constants))
            self._tables[key] = built.to(device)
        return self._tables[key]

    # ---- training ------------------------------------------------------------------------------------------------

    def loss(
        self,
        head: DiffusionHead,
        tokens: Tensor,
        condition: Tensor,
        random: torch.Generator,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Mean squared error of the prediction plus the variational term of the variance, a value a token.

        Args:
            tokens: (n, dims) clean latents; condition: (n, width) the encoder's vectors; random: on the CPU.
            weights: (dims,) of the squared error, mean 1: dims that are heard more count for more; None = all alike.

        Returns:
            (n,)
        """
        count = tokens.shape[0]
        device = tokens.device
        times = torch.randint(0, self.steps, (count,), generator=random).to(device)
        noise = torch.randn(tokens.shape, generator=random).to(device)
        table = self.table(self.steps, device)
        root_alpha, root_noise = table.root_alpha[times, None], table.root_noise[times, None]
        noisy = root_alpha * tokens + root_noise * noise
        output = head(noisy, times, condition).float()
        predicted, fraction = output.chunk(2, dim=-1)
        target = noise if self.prediction == "epsilon" else root_alpha * noise - root_noise * tokens
        squares: Tensor = (predicted - target).square()
        error = (squares if weights is None else squares * weights).mean(dim=-1)
        start, _ = self._start_and_noise(predicted.detach(), noisy, root_alpha, root_noise)
        variational = self._variational(table, times, tokens, start, noisy, fraction)
        return error + variational

    def _variational(
        self, table: _Table, times: Tensor, tokens: Tensor, start: Tensor, noisy: Tensor, fraction: Tensor
    ) -> Tensor:
        """KL between the true and the modelled step in bits, (n,); only the variance has a gradient."""
        mean_start, mean_token = table.mean_start[times, None], table.mean_token[times, None]
        true_log = table.log_low[times, None]
        log = self._log_variance(table, times, fraction)
        true_mean = mean_start * tokens + mean_token * noisy
        mean = mean_start * start + mean_token * noisy
        kl = 0.5 * (log - true_log - 1.0 + torch.exp(true_log - log) + (true_mean - mean).square() * torch.exp(-log))
        likelihood = 0.5 * (math.log(2.0 * math.pi) + log + (tokens - mean).square() * torch.exp(-log))
        bits = torch.where(times[:, None] == 0, likelihood, kl).mean(dim=-1) / math.log(2.0)
        return bits.clamp(max=20.0)

    @staticmethod
    def _log_variance(table: _Table, index: Tensor, fraction: Tensor) -> Tensor:
        share = (fraction + 1.0) / 2.0
        return share * table.log_high[index, None] + (1.0 - share) * table.log_low[index, None]

    def _start_and_noise(
        self, predicted: Tensor, noisy: Tensor, root_alpha: Tensor, root_noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.prediction == "epsilon":
            return (noisy - root_noise * predicted) / root_alpha, predicted
        return root_alpha * noisy - root_noise * predicted, root_noise * noisy + root_alpha * predicted

    def from_sketch(self, sketch: Tensor, noise: Tensor, begin: float) -> Tensor:
        """Tokens as noisy as the process is at the share `begin`, around a sketch of what they might be.

        What a blurred sketch lacks in variance is made up with noise, so that the head sees what it was trained on.

        Args:
            sketch: (tokens, dims) clean latents, however rough; noise: (tokens, dims) standard normal.
        """
        alpha = float(self.alphas[round((self.steps - 1) * begin)])
        lacking = (1.0 - sketch.square().mean(dim=0)).clamp(0.0, 1.0)
        started: Tensor = alpha**0.5 * sketch + (1.0 - alpha + alpha * lacking).sqrt() * noise
        return started

    # ---- sampling ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        head: DiffusionHead,
        condition: Tensor,
        start: Tensor,
        noise: NoiseSource,
        *,
        sampler: Sampler = "ddpm",
        steps: int = 100,
        null: Tensor | None = None,
        guidance: Tensor | None = None,
        temperature: float = 1.0,
        limit: float | None = None,
        begin: float = 1.0,
    ) -> Tensor:
        """Clean tokens from noise.

        Args:
            condition: (n, width) the encoder's vectors; null: the same under the null condition, for guidance.
            start: (n, dims) standard normal noise; noise: more of it, asked for by the stochastic sampler only.
            sampler: `ddpm` (ancestral, learned variance; the paper's), `ddim` (deterministic) or `dpm++`
                (DPM-Solver++ 2M, deterministic, fewest steps).
            guidance: (n,) scales; 1 = none.
            temperature: scales each step's noise (`ddpm`) or the first (`ddim`, `dpm++`).
            limit: clamp of the estimate of the clean token, in standard deviations.
            begin: share of the process that is run; under 1, `start` comes from :meth:`from_sketch`.

        Returns:
            (n, dims)
        """
        if sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, not {sampler!r}")
        table = self.table(steps, start.device, begin)
        guided = null is not None and guidance is not None and bool((guidance != 1.0).any())
        embedded = head.embed_condition(torch.cat([condition, null]) if guided and null is not None else condition)
        times = head.embed_time(time_features(table.times).to(embedded.dtype))
        x = start if sampler == "ddpm" or begin < 1.0 else start * temperature
        before: Tensor | None = None
        for index in range(len(table.times) - 1, -1, -1):
            output = head.denoise(torch.cat([x, x]) if guided else x, times[index : index + 1], embedded).float()
            predicted, fraction = output.chunk(2, dim=-1)
            if guided and guidance is not None:
                with_words, without = predicted.chunk(2)
                predicted = without + guidance[:, None] * (with_words - without)
                fraction = fraction.chunk(2)[0]
            clean, epsilon = self._start_and_noise(predicted, x, table.root_alpha[index], table.root_noise[index])
            if limit is not None:
                clean = clean.clamp(-limit, limit)
                epsilon = (x - table.root_alpha[index] * clean) / table.root_noise[index]
            if index == 0:
                return clean
            if sampler == "ddpm":
                where = torch.full((x.shape[0],), index, dtype=torch.long, device=x.device)
                spread = torch.exp(0.5 * self._log_variance(table, where, fraction.clamp(-1.0, 1.0)))
                mean = table.mean_start[index] * clean + table.mean_token[index] * x
                x = mean + spread * noise(index) * temperature
            elif sampler == "ddim":
                x = table.root_alpha[index - 1] * clean + table.root_noise[index - 1] * epsilon
            else:
                x, before = self._multistep(table, index, x, clean, before), clean
        return x

    @staticmethod
    def _multistep(table: _Table, index: int, x: Tensor, clean: Tensor, before: Tensor | None) -> Tensor:
        """One step of DPM-Solver++ 2M (arXiv 2211.01095) on the estimate of the clean token."""
        ratio = torch.log(table.root_alpha / table.root_noise)
        stride = ratio[index - 1] - ratio[index]
        estimate = clean
        if before is not None and index > 1:  # the last stride is the widest: first order is the safer one there
            r = (ratio[index] - ratio[index + 1]) / stride
            estimate = clean + (clean - before) / (2.0 * r)
        shrink = table.root_noise[index - 1] / table.root_noise[index]
        return shrink * x - table.root_alpha[index - 1] * torch.expm1(-stride) * estimate
