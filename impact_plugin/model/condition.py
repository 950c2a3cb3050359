"""Prefix condition tokens of several kinds: text, a pooled vector, lengths, neighbouring sounds.

Knows features, their presence and how they become one prefix. Does not know what the features mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from impact_plugin.model.config import ConditionKind, ModelConfig
from impact_plugin.model.transformer import sinusoids


@dataclass(frozen=True)
class Condition:
    """What a batch is conditioned on.

    Attributes:
        features: by kind, (batch, length, dims) float32.
        present: by kind, (batch, length) bool, True = a real token. A kind may be absent altogether.
        dropped: (batch,) bool, True = the learned null condition instead (guidance, drop-out); None = nowhere.
    """

    features: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    dropped: Tensor | None = field(default=None)

    @property
    def batch(self) -> int:
        return next(iter(self.features.values())).shape[0]

    def null(self) -> Condition:
        """The same batch under the learned null condition."""
        first = next(iter(self.features.values()))
        return Condition(self.features, self.present, torch.ones(self.batch, dtype=torch.bool, device=first.device))

    def rows(self, index: Tensor | Sequence[int] | slice) -> Condition:
        """Some samples of the batch."""
        dropped = None if self.dropped is None else self.dropped[index]
        return Condition(
            {kind: value[index] for kind, value in self.features.items()},
            {kind: value[index] for kind, value in self.present.items()},
            dropped,
        )

    def to(self, device: torch.device | str) -> Condition:
        dropped = None if self.dropped is None else self.dropped.to(device)
        return Condition(
            {kind: value.to(device) for kind, value in self.features.items()},
            {kind: value.to(device) for kind, value in self.present.items()},
            dropped,
        )

    @staticmethod
    def join(conditions: Sequence[Condition]) -> Condition:
        """One batch of several, shorter ones padded."""
        kinds = list(dict.fromkeys(kind for condition in conditions for kind in condition.features))
        features, present = {}, {}
        for kind in kinds:
            example = next(c.features[kind] for c in conditions if kind in c.features)
            longest = max(c.features[kind].shape[1] for c in conditions if kind in c.features)
            parts, marks = [], []
            for condition in conditions:
                value = condition.features.get(kind)
                mark = condition.present.get(kind)
                if value is None or mark is None:
                    value = example.new_zeros(condition.batch, longest, example.shape[2])
                    mark = torch.zeros(condition.batch, longest, dtype=torch.bool, device=example.device)
                short = longest - value.shape[1]
                parts.append(nn.functional.pad(value, (0, 0, 0, short)))
                marks.append(nn.functional.pad(mark, (0, short)))
            features[kind], present[kind] = torch.cat(parts), torch.cat(marks)
        if all(condition.dropped is None for condition in conditions):
            return Condition(features, present)
        device = next(iter(features.values())).device
        dropped = [
            torch.zeros(c.batch, dtype=torch.bool, device=device) if c.dropped is None else c.dropped
            for c in conditions
        ]
        return Condition(features, present, torch.cat(dropped))


class KindEmbedding(nn.Module):
    """Projection of one kind's features to the model's width, with its type embedding and its own positions."""

    def __init__(self, kind: ConditionKind, width: int) -> None:
        super().__init__()
        self.length = kind.length
        self.projection = nn.Linear(kind.dims, width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.type_embedding = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = nn.Parameter(sinusoids(kind.length, width) * 0.02)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, length, dims) -> (batch, length, width).

        Raises:
            ValueError: when there are more tokens than positions.
        """
        length = features.shape[1]
        if length > self.length:
            raise ValueError(f"{length} condition tokens, but there are positions for {self.length}")
        out: Tensor = self.norm(self.projection(features)) + self.type_embedding + self.positions[:length]
        return out


class Prefix(nn.Module):
    """All kinds side by side in time, or one learned null token in their place (IMPACT sec. 3: no cross-attention)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        embeddings = {name: KindEmbedding(kind, config.width) for name, kind in config.conditions.items()}
        self.kinds = nn.ModuleDict(embeddings)
        self.null = nn.Parameter(torch.randn(config.width) * 0.02)

    def forward(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Prefix tokens (batch, length, width) and which are real (batch, length).

        A sample without any real token gets the null token, and so does a dropped one.

        Raises:
            ValueError: on a kind that this model was not built with.
        """
        unknown = [kind for kind in condition.features if kind not in self.kinds]
        if unknown:
            raise ValueError(f"this model knows no condition {unknown[0]!r}; it has {', '.join(self.kinds)}")
        tokens, present = [], []
        for name, embed in self.kinds.items():
            if name in condition.features:
                tokens.append(embed(condition.features[name]))
                present.append(condition.present[name])
        prefix, real = torch.cat(tokens, dim=1), torch.cat(present, dim=1)
        null = ~real.any(dim=1)
        if condition.dropped is not None:
            null = null | condition.dropped
        first = torch.zeros_like(real)
        first[:, 0] = True
        prefix = torch.where((null[:, None] & first)[..., None], self.null.to(prefix.dtype), prefix)
        return prefix, torch.where(null[:, None], first, real)
