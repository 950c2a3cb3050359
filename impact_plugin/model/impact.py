"""IMPACT's network: masked autoencoder over latent tokens with a diffusion head (arXiv 2506.00736, sec. 3).

Enc1 sees the condition's prefix and the visible tokens only; mask embeddings are put back where tokens are hidden;
Enc2 sees everything; the head denoises each hidden token given Enc2's vector for it. Knows latents and prefixes, not
audio, text, files or how decoding goes on from one iteration to the next (`decode`).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from impact_plugin.model.condition import Condition, Prefix
from impact_plugin.model.config import ModelConfig
from impact_plugin.model.diffusion import Diffusion
from impact_plugin.model.head import DiffusionHead
from impact_plugin.model.transformer import Encoder, initialise, sinusoids


class ImpactModel(nn.Module):
    """The whole network.

    Attributes:
        config: its sizes; diffusion: the head's process.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed_token = nn.Linear(config.dims, width)
        self.norm_token = nn.LayerNorm(width, eps=1e-6)
        self.prefix = Prefix(config)
        self.encoder1 = Encoder(width, config.heads, config.encoder_layers, config.mlp_ratio, config.dropout)
        self.bridge = nn.Linear(width, width)
        self.encoder2 = Encoder(width, config.heads, config.decoder_layers, config.mlp_ratio, config.dropout)
        self.head = DiffusionHead(config.dims, config.head_width, config.head_blocks, width)
        table = sinusoids(config.tokens, width) * 0.1
        self.positions1 = nn.Parameter(table.clone())
        self.positions2 = nn.Parameter(table.clone())
        self.positions_head = nn.Parameter(torch.zeros(config.tokens, width))
        self.positions2_prefix = nn.Parameter(torch.zeros(config.prefix, width))
        self.mask = nn.Parameter(torch.randn(width) * 0.02)
        self.diffusion = Diffusion(config.diffusion_steps, config.prediction)
        self.apply(initialise)
        self.head.zero()

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def encode(self, latents: Tensor, hidden: Tensor, present: Tensor, condition: Condition) -> Tensor:
        """The head's condition h for every position.

        Args:
            latents: (batch, tokens, dims) float32; what lies under `hidden` is not looked at.
            hidden: (batch, tokens) bool, True = masked.
            present: (batch, tokens) bool, False = padding.
            condition: of the same batch.

        Returns:
            (batch, tokens, width)

        Raises:
            ValueError: when the sequence is longer than the model's positions.
        """
        batch, tokens, _ = latents.shape
        if tokens > self.config.tokens:
            raise ValueError(f"{tokens} tokens, but the model has positions for {self.config.tokens}")
        prefix, prefix_present = self.prefix(condition)
        length = prefix.shape[1]
        visible = present & ~hidden
        longest = int(visible.sum(dim=1).max())
        index = torch.argsort(visible.int(), dim=1, descending=True, stable=True)[:, :longest]
        kept = torch.gather(visible, 1, index)
        spread = index[..., None].expand(-1, -1, self.config.width)
        embedded = self.norm_token(self.embed_token(latents)) + self.positions1[:tokens]
        x = torch.cat([prefix, torch.gather(embedded, 1, spread)], dim=1)
        x = self.bridge(self.encoder1(x, torch.cat([prefix_present, kept], dim=1)))
        full = self.mask.to(x.dtype).expand(batch, tokens + 1, -1)
        places = torch.where(kept, index, tokens)[..., None].expand(-1, -1, self.config.width)
        full = full.scatter(1, places, x[:, length:])[:, :tokens]
        x = torch.cat([x[:, :length] + self.prefix_positions(condition), full + self.positions2[:tokens]], dim=1)
        x = self.encoder2(x, torch.cat([prefix_present, present], dim=1))
        out: Tensor = x[:, length:] + self.positions_head[:tokens]
        return out

    def prefix_positions(self, condition: Condition) -> Tensor:
        """Enc2's positions of the prefix, each kind at its own place whatever else is present; (length, width)."""
        parts, offset = [], 0
        for name, kind in self.config.conditions.items():
            if name in condition.features:
                parts.append(self.positions2_prefix[offset : offset + condition.features[name].shape[1]])
            offset += kind.length
        return torch.cat(parts)

    def loss(
        self,
        latents: Tensor,
        hidden: Tensor,
        present: Tensor,
        condition: Condition,
        random: torch.Generator,
        *,
        repeats: int = 4,
        weights: Tensor | None = None,
    ) -> Tensor:
        """The training objective: the head's loss on hidden tokens only, `repeats` noise samples a token.

        Args:
            weights: (dims,) of the squared error, see `Diffusion.loss`.

        Returns:
            scalar
        """
        vectors = self.encode(latents, hidden, present, condition)
        chosen = hidden & present
        vectors = vectors[chosen].repeat(repeats, 1)
        targets = latents[chosen].repeat(repeats, 1)
        return self.diffusion.loss(self.head, targets, vectors, random, weights).mean()

    @staticmethod
    def drop_conditions(condition: Condition, share: float, random: torch.Generator) -> Condition:
        """The condition with a random share of its samples under the learned null (for guidance; paper: 0.1)."""
        dropped = torch.rand(condition.batch, generator=random) < share
        dropped = dropped.to(next(iter(condition.features.values())).device)
        if condition.dropped is not None:
            dropped = dropped | condition.dropped
        return replace(condition, dropped=dropped)
