"""Batches for the generator: sounds of similar length together, a caption each, neighbours by its words.

Knows a `FeatureSet`. Everything random comes from the seed and the step, so a resumed run sees what the first would
have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from impact_plugin.conditions.bank import Bank
from impact_plugin.conditions.build import NEAR, TEXT, assemble
from impact_plugin.model.condition import Condition
from impact_plugin.model.config import ModelConfig
from impact_plugin.model.masking import generator
from impact_plugin.text.base import TextFeatures
from impact_plugin.training.features import FeatureSet, nearest_sounds

LOOKAHEAD = 24  # batches drawn at once and sorted by length


@dataclass(frozen=True)
class BatchSettings:
    """What a batch holds.

    Attributes:
        positions: tokens of a batch, prefixes and padding counted in; most: sounds of a batch at the most.
        stretch: share of sounds that lie in a longer frame, silence after them.
        near_share: share of sounds that see neighbours; kin_share: of those, the share that may see their own family.
    """

    positions: int = 5000
    most: int = 96
    stretch: float = 0.5
    near_share: float = 0.85
    kin_share: float = 0.35


@dataclass
class Batch:
    """latents: (batch, tokens, dims); lengths: (batch,) tokens of each frame; condition: of the batch."""

    latents: Tensor
    lengths: Tensor
    condition: Condition

    @property
    def present(self) -> Tensor:
        return torch.arange(self.latents.shape[1])[None] < self.lengths[:, None]


class BatchMaker:
    """Draws batches of one split; neighbours always come from the training split's bank."""

    def __init__(
        self,
        features: FeatureSet,
        bank: Bank,
        config: ModelConfig,
        tokens_per_second: float,
        *,
        split: str = "train",
        settings: BatchSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.features, self.bank, self.config, self.seed = features, bank, config, seed
        self.tokens_per_second = tokens_per_second
        self.settings = settings or BatchSettings()
        self.rows = features.rows(split)
        self.nearest, self.kin = nearest_sounds(features, features.rows("train"))
        self.slots = config.conditions[NEAR].length // bank.tokens if NEAR in config.conditions else 0
        self._group: tuple[int, list[list[tuple[int, int, int]]]] = (-1, [])

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        group, place = divmod(step, LOOKAHEAD)
        if self._group[0] != group:
            self._group = (group, self._draw(group))
        plans = self._group[1]
        return self._fill(plans[place % len(plans)], generator(self.seed, 11, step))

    def _draw(self, group: int) -> list[list[tuple[int, int, int]]]:
        """Batches of (row, first token, frame tokens), shuffled; one group is `LOOKAHEAD` batches or more."""
        random = generator(self.seed, 10, group)
        wanted: list[tuple[int, int, int]] = []
        batches: list[list[tuple[int, int, int]]] = []
        while len(batches) < LOOKAHEAD:
            for row in self.rows[torch.randint(len(self.rows), (512,), generator=random)].tolist():
                wanted.append((row, *self._frame(row, random)))
            batches = self._pack(sorted(wanted, key=lambda plan: plan[2]))
        order = torch.randperm(len(batches), generator=random).tolist()
        return [batches[place] for place in order]

    def _frame(self, row: int, random: torch.Generator) -> tuple[int, int]:
        length, longest = int(self.features.lengths[row]), self.config.tokens
        uniform = torch.rand(3, generator=random).tolist()
        if length > longest // 2 and uniform[0] < 0.5:  # a stretch out of a long sound
            frame = int(longest * (0.2 + 0.6 * uniform[1]))
            return int(uniform[2] * max(length - frame, 0)), min(frame, length)
        if length > longest:
            return int(uniform[2] * (length - longest)), longest
        frame = length
        if uniform[0] > 1.0 - self.settings.stretch:
            frame = length + int(uniform[1] * uniform[2] * (length + 24))
        return 0, max(min(frame, longest), 1)

    def _pack(self, plans: list[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
        prefix = 14 + (0 if not self.slots else self.slots * self.bank.tokens)
        batches: list[list[tuple[int, int, int]]] = [[]]
        for plan in plans:
            size = len(batches[-1]) + 1
            if size > self.settings.most or size * (plan[2] + prefix) > self.settings.positions:
                batches.append([])
            batches[-1].append(plan)
        return batches

    def _fill(self, plans: list[tuple[int, int, int]], random: torch.Generator) -> Batch:
        features, settings = self.features, self.settings
        longest = max(plan[2] for plan in plans)
        latents = features.silence.repeat(len(plans), longest, 1)
        captions, near, sound_seconds = [], [], []
        for place, (row, first, frame) in enumerate(plans):
            begin = int(features.offsets[row]) + first
            part = features.latents[begin : min(begin + frame, int(features.offsets[row + 1]))]
            latents[place, : len(part)] = part
            length = min(int(features.lengths[row]) - first, frame)
            sound_seconds.append(min(length / self.tokens_per_second, frame / self.tokens_per_second))
            low, high = int(features.captions.first[row]), int(features.captions.first[row + 1])
            caption = int(torch.randint(low, high, (1,), generator=random))
            captions.append(caption)
            near.append(self.bank.features(self._neighbours(caption, random), max(self.slots, 1)))
        frames = torch.tensor([plan[2] for plan in plans])
        condition = assemble(
            self.config,
            self._text(captions),
            sound_seconds,
            (frames / self.tokens_per_second).tolist(),
            near if self.slots else [],
        )
        shown = torch.rand(len(plans), generator=random) < settings.near_share
        if NEAR in condition.present:
            present = {**condition.present, NEAR: condition.present[NEAR] & shown[:, None]}
            condition = Condition(condition.features, present)
        return Batch(latents, frames, condition)

    def _neighbours(self, caption: int, random: torch.Generator) -> list[int]:
        if not self.slots:
            return []
        uniform = torch.rand(2, generator=random).tolist()
        near, kin = self.nearest[caption], self.kin[caption]
        allowed = near if uniform[0] < self.settings.kin_share else near[~kin]
        pool = allowed[: 4 + int(4 * uniform[1])]
        drawn = torch.randperm(len(pool), generator=random)[: self.slots].tolist()
        return [int(pool[place]) for place in sorted(drawn)]

    def _text(self, captions: list[int]) -> TextFeatures:
        words = self.features.captions
        limit = self.config.conditions[TEXT].length if TEXT in self.config.conditions else 1
        begins = [int(words.offsets[caption]) for caption in captions]
        spans = [(b, min(int(words.offsets[c + 1]), b + limit)) for b, c in zip(begins, captions, strict=True)]
        longest = max(end - begin for begin, end in spans)
        tokens = torch.zeros(len(captions), longest, words.tokens.shape[1])
        mask = torch.zeros(len(captions), longest, dtype=torch.bool)
        for place, (begin, end) in enumerate(spans):
            tokens[place, : end - begin] = words.tokens[begin:end].float()
            mask[place, : end - begin] = True
        return TextFeatures(tokens, mask, words.pooled[captions])
