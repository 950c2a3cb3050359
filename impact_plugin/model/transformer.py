"""The transformer block of both encoders: pre-norm attention and MLP, as in MAE and ViT.

Knows tensors and a key mask. Does not know positions, kinds of tokens or masking.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NORM_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention with biases on query, key and value."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, width * 3)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """(batch, length, width); keys: (batch, 1, 1, length) bool, True = may be looked at."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        out = nn.functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=keys, dropout_p=dropout)
        projected: Tensor = self.projection(out.transpose(1, 2).reshape(batch, length, width))
        return projected


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attention = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.expand = nn.Linear(width, hidden)
        self.reduce = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), keys))
        out: Tensor = x + self.dropout(self.reduce(nn.functional.gelu(self.expand(self.norm2(x)))))
        return out


class Encoder(nn.Module):
    """A stack of blocks and a last norm."""

    def __init__(self, width: int, heads: int, layers: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """(batch, length, width); present: (batch, length) bool, False = padding."""
        keys = None if bool(present.all()) else present[:, None, None, :]
        for block in self.blocks:
            x = block(x, keys)
        out: Tensor = self.norm(x)
        return out


def initialise(module: nn.Module) -> None:
    """Xavier-uniform linear layers, zero biases, as MAE does; call with `module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def sinusoids(length: int, width: int) -> Tensor:
    """(length, width) sine and cosine positions: where learned positions start from."""
    places = torch.arange(length, dtype=torch.float32)[:, None]
    rates = torch.exp(-torch.arange(0, width, 2, dtype=torch.float32) * (torch.log(torch.tensor(10000.0)) / width))
    table = torch.zeros(length, width)
    table[:, 0::2] = torch.sin(places * rates)
    table[:, 1::2] = torch.cos(places * rates)[:, : width // 2]
    return table
