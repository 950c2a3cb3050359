"""Which tokens are hidden, in which order they are revealed, and how many at a time.

Knows counts and orders, per sample and seeded. Does not know networks or latents.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Order = Literal["random", "halton"]
ORDERS: tuple[str, ...] = get_args(Order)

#: MAR's mask ratio: a normal around 1, truncated to [0.7, 1] (IMPACT: mask factor q = 0.7).
MASK_MEAN, MASK_STD, MASK_MIN = 1.0, 0.25, 0.7


def mix_seed(seed: int, *labels: int) -> int:
    """A seed that depends on `seed` and labels alone (SplitMix64 steps), 0...2^63-1."""
    mask = (1 << 64) - 1
    state = 0
    for label in (seed, *labels):
        state = (state + 0x9E3779B97F4A7C15 + label) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1


def generator(seed: int, *labels: int) -> torch.Generator:
    """A CPU generator for one purpose of one sample."""
    return torch.Generator().manual_seed(mix_seed(seed, *labels))


def mask_ratios(batch: int, random: torch.Generator) -> Tensor:
    """(batch,) shares of tokens to hide in training, truncated normal (by the inverse of its distribution)."""
    low = 0.5 * (1.0 + math.erf((MASK_MIN - MASK_MEAN) / (MASK_STD * math.sqrt(2.0))))
    uniform = low + (0.5 - low) * torch.rand(batch, generator=random)
    ratio: Tensor = MASK_MEAN + MASK_STD * math.sqrt(2.0) * torch.erfinv(2.0 * uniform - 1.0)
    return ratio.clamp(MASK_MIN, 1.0)


def training_mask(lengths: Tensor, tokens: int, random: torch.Generator) -> Tensor:
    """Random hidden tokens for a batch of sequences of different lengths.

    Args:
        lengths: (batch,) real tokens of each sample; tokens: padded length.

    Returns:
        (batch, tokens) bool, True = hidden; padding is never hidden, and of every sample at least one token is.
    """
    batch = lengths.shape[0]
    hidden = torch.ceil(mask_ratios(batch, random) * lengths).clamp(min=1)
    score = torch.rand(batch, tokens, generator=random)
    score = score.masked_fill(torch.arange(tokens)[None] >= lengths[:, None], 2.0)
    rank = score.argsort(dim=1).argsort(dim=1)
    return rank < hidden[:, None]


def reveal_order(tokens: int, order: Order, seed: int, *, rows: int = 1) -> Tensor:
    """The order in which one sample's tokens are revealed.

    Args:
        tokens: of the sample, time-major over `rows` frequency rows.
        order: `random`, or `halton` (low discrepancy, arXiv 2503.17076): each new token lies far from those before.
        seed: of the sample; it shifts the Halton sequence, so two seeds differ.

    Returns:
        (tokens,) int64, a permutation.
    """
    random = generator(seed, 1)
    if order == "random":
        return torch.randperm(tokens, generator=random)
    if order != "halton":
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    columns = -(-tokens // rows)
    shift = torch.rand(2, generator=random, dtype=torch.float64)
    seen = torch.zeros(tokens, dtype=torch.bool)
    result: list[int] = []
    index = 0
    while len(result) < tokens and index < 64 * tokens + 64:
        index += 1
        column = int(((_radical_inverse(index, 2) + float(shift[0])) % 1.0) * columns)
        row = int(((_radical_inverse(index, 3) + float(shift[1])) % 1.0) * rows)
        place = column * rows + row
        if place < tokens and not seen[place]:
            seen[place] = True
            result.append(place)
    result += torch.nonzero(~seen)[:, 0].tolist()
    return torch.tensor(result, dtype=torch.int64)


def _radical_inverse(index: int, base: int) -> float:
    value, scale = 0.0, 1.0 / base
    while index:
        value += (index % base) * scale
        index //= base
        scale /= base
    return value


def reveal_counts(undecided: int, iterations: int) -> list[int]:
    """How many tokens each iteration reveals, after the cosine schedule (MaskGIT, MAGE; IMPACT sec. 3).

    After iteration s of T, floor(N cos(pi/2 (s+1)/T)) stay hidden; at least one is revealed each time and the last
    iteration reveals what is left. With fewer tokens than iterations there are as many iterations as tokens.

    Returns:
        positive counts that add up to `undecided`; empty when nothing is undecided.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, not {iterations}")
    iterations = min(iterations, undecided)
    counts: list[int] = []
    left = undecided
    for step in range(iterations):
        last = step == iterations - 1
        target = 0 if last else math.floor(undecided * math.cos(math.pi / 2.0 * (step + 1) / iterations))
        stay = 0 if last else max(min(target, left - 1), iterations - 1 - step)
        counts.append(left - stay)
        left = stay
    return counts
