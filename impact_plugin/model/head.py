"""The diffusion head: a small MLP that denoises one latent token, given the encoder's vector for it.

MAR's AdaLN MLP (IMPACT sec. 3): residual blocks whose norms are shifted, scaled and gated by time and condition.
Knows one token at a time; sequences, masks and noise schedules lie elsewhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 256


def time_features(times: Tensor) -> Tensor:
    """(n,) diffusion times 0...T_max-1 -> (n, 256) sinusoids."""
    half = FREQUENCIES // 2
    rates = torch.exp(-math.log(10000.0) * torch.arange(half, device=times.device, dtype=torch.float32) / half)
    angles = times.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class HeadBlock(nn.Module):
    """Norm, shift and scale, two-layer MLP, gate, residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Linear(width, width * 3)

    def forward(self, x: Tensor, active: Tensor) -> Tensor:
        """x, active (SiLU of time plus condition): (n, width)."""
        shift, scale, gate = self.modulation(active).chunk(3, dim=-1)
        out: Tensor = x + gate * self.mlp(torch.addcmul(shift, self.norm(x), scale + 1))
        return out


class DiffusionHead(nn.Module):
    """Noise (or velocity) and variance of a token.

    Args:
        dims: of a token; width, blocks: of the MLP; condition: width of the encoder's vectors.
    """

    def __init__(self, dims: int, width: int, blocks: int, condition: int) -> None:
        super().__init__()
        self.dims = dims
        self.embed_time = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_condition = nn.Linear(condition, width)
        self.embed_token = nn.Linear(dims, width)
        self.blocks = nn.ModuleList(HeadBlock(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(width, width * 2)
        self.out = nn.Linear(width, dims * 2)

    def zero(self) -> None:
        """Start as the identity: gates, last modulation and output at zero (DiT's adaLN-Zero)."""
        gates = [block.modulation for block in self.blocks if isinstance(block, HeadBlock)]
        for layer in [*gates, self.modulation, self.out]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for part in self.embed_time:
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.02)

    def forward(self, tokens: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        """Args: tokens (n, dims) noisy, times (n,), condition (n, condition). Returns: (n, 2 * dims)."""
        return self.denoise(tokens, self.embed_time(time_features(times)), self.embed_condition(condition))

    def denoise(self, tokens: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """The same with time (n or 1, width) and condition (n, width) already embedded: a sampler embeds each once."""
        x = self.embed_token(tokens)
        active = nn.functional.silu(time + condition)
        for block in self.blocks:
            x = block(x, active)
        shift, scale = self.modulation(active).chunk(2, dim=-1)
        out: Tensor = self.out(torch.addcmul(shift, self.norm(x), scale + 1))
        return out
