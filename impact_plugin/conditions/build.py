"""Prompts, lengths and seeds to the `Condition` that a generator follows.

Knows the names of the generator's kinds of condition: `text` (token features), `pooled` (the sentence vector),
`length`, `near` (neighbouring sounds). A kind that the generator lacks is left out. Training and the engine both
build conditions here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from impact_plugin.conditions.bank import Bank
from impact_plugin.conditions.length import length_features
from impact_plugin.model.condition import Condition
from impact_plugin.model.config import ModelConfig
from impact_plugin.model.masking import generator
from impact_plugin.text.base import TextEncoder, TextFeatures

TEXT, POOLED, LENGTH, NEAR = "text", "pooled", "length", "near"
POOL = 6  # nearest sounds among which a seed draws its neighbours
MARGIN = 0.08  # a sound this much less alike than the nearest is no neighbour
_NEIGHBOURS = 4  # purpose of a seed's random numbers, see `model.masking.generator`
STRETCH = 2.5  # a sound fills a longer frame up to this multiple of its typical length


class ConditionBuilder:
    """Builds conditions for one generator.

    Args:
        config: of the generator; text: its encoder; bank: captioned sounds, if the bundle has them.
    """

    def __init__(self, config: ModelConfig, text: TextEncoder, bank: Bank | None) -> None:
        self.config, self.text, self.bank = config, text, bank

    @property
    def slots(self) -> int:
        """How many neighbours the generator takes."""
        if self.bank is None or NEAR not in self.config.conditions:
            return 0
        return self.config.conditions[NEAR].length // self.bank.tokens

    def typical_seconds(self, prompt: str) -> float | None:
        """Length that fits the prompt, seconds; None without a bank."""
        if self.bank is None:
            return None
        return self.bank.typical_seconds(self.bank.similarities(self.text.encode([prompt]).pooled)[0])

    def build(self, prompts: Sequence[str], seconds: Sequence[float], seeds: Sequence[int]) -> Condition:
        """Condition of a batch.

        Args:
            prompts, seconds (length of the frame), seeds: one a sample. The seed draws the neighbours.
        """
        features = self.text.encode(list(prompts))
        sims = self.bank.similarities(features.pooled) if self.bank is not None else None
        sound_seconds = list(seconds)
        near: list[tuple[Tensor, Tensor]] = []
        if self.bank is not None and sims is not None:
            for row, seed in enumerate(seeds):
                sound_seconds[row] = self._sound_seconds(sims[row], seconds[row])
                if self.slots:
                    near.append(self.bank.features(draw_neighbours(sims[row], self.slots, seed), self.slots))
        return assemble(self.config, features, sound_seconds, seconds, near)

    def sketch(self, prompt: str, seconds: float, seed: int, tokens: int) -> Tensor | None:
        """What the sound might roughly be: the first neighbour that the seed draws, as long as the sound should last.

        Args:
            seconds: of the frame; tokens: of the frame.

        Returns:
            (tokens, dims); None without a bank.
        """
        if self.bank is None:
            return None
        similarities = self.bank.similarities(self.text.encode([prompt]).pooled)[0]
        share = self._sound_seconds(similarities, seconds) / seconds
        lasting = min(max(round(tokens * share), 1), tokens)
        sound = self.bank.sketch(draw_neighbours(similarities, max(self.slots, 1), seed)[0], lasting)
        return torch.cat([sound, sound[-1:].expand(tokens - lasting, -1)])

    def _sound_seconds(self, similarities: Tensor, seconds: float) -> float:
        """How much of a frame the sound itself should last."""
        if self.bank is None:
            return seconds
        return min(seconds, max(self.bank.typical_seconds(similarities), 0.3) * STRETCH)


def draw_neighbours(similarities: Tensor, count: int, seed: int) -> list[int]:
    """The nearest sound and, drawn by the seed, others nearly as near.

    Args:
        similarities: (sounds,) of one prompt.
    """
    best = similarities.topk(min(POOL, similarities.shape[0]))
    pool = best.indices[best.values > best.values[0] - MARGIN]
    drawn = torch.randperm(len(pool), generator=generator(seed, _NEIGHBOURS))[:count].tolist()
    return [int(pool[place]) for place in sorted(drawn)]


def assemble(
    config: ModelConfig,
    features: TextFeatures,
    sound_seconds: Sequence[float],
    frame_seconds: Sequence[float],
    near: Sequence[tuple[Tensor, Tensor]],
) -> Condition:
    """Features of every kind that the generator has.

    Args:
        near: for each sample, prefix tokens and which are present (`Bank.features`); empty = no neighbours.
    """
    batch = len(features)
    values: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    one = torch.ones(batch, 1, dtype=torch.bool)
    for name, kind in config.conditions.items():
        if name == TEXT:
            values[name], present[name] = features.tokens[:, : kind.length], features.mask[:, : kind.length]
        elif name == POOLED:
            values[name], present[name] = features.pooled[:, None], one
        elif name == LENGTH:
            values[name] = length_features(torch.tensor(sound_seconds), torch.tensor(frame_seconds))
            present[name] = one
        elif name == NEAR and near:
            values[name] = torch.stack([tokens for tokens, _ in near])
            present[name] = torch.stack([marks for _, marks in near])
    return Condition(values, present)
