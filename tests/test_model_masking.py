"""Mask ratios, reveal schedules and orders: the paper's numbers, and that samples never depend on company."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from impact_plugin.model.masking import (
    generator,
    mask_ratios,
    mix_seed,
    reveal_counts,
    reveal_order,
    training_mask,
)

# Tokens revealed an iteration for N = 256, worked out by hand from floor(N cos(pi/2 (s+1)/T)).
PAPER = {
    4: [20, 55, 84, 97],
    8: [5, 15, 24, 31, 39, 45, 48, 49],
    16: [2, 3, 7, 8, 11, 13, 15, 16, 19, 20, 22, 23, 23, 25, 24, 25],
}


@pytest.mark.parametrize("iterations", PAPER)
def test_the_cosine_schedule_is_the_papers(iterations: int) -> None:
    assert reveal_counts(256, iterations) == PAPER[iterations]


@given(st.integers(0, 600), st.integers(1, 200))
def test_every_schedule_reveals_everything_at_least_one_a_time(tokens: int, iterations: int) -> None:
    counts = reveal_counts(tokens, iterations)
    assert sum(counts) == tokens
    assert all(count >= 1 for count in counts)
    assert len(counts) == min(tokens, iterations)


@given(
    st.integers(1, 300), st.sampled_from(["random", "halton"]), st.integers(0, 2**24 - 1), st.sampled_from([1, 2, 4])
)
def test_orders_are_permutations(tokens: int, order: str, seed: int, rows: int) -> None:
    found = reveal_order(tokens, order, seed, rows=rows)  # type: ignore[arg-type]
    assert sorted(found.tolist()) == list(range(tokens))
    assert torch.equal(found, reveal_order(tokens, order, seed, rows=rows))  # type: ignore[arg-type]


def test_halton_spreads_the_first_tokens_and_random_does_not() -> None:
    def widest_gap(order: str) -> float:
        gaps = []
        for seed in range(40):
            first = sorted(reveal_order(128, order, seed)[:16].tolist())  # type: ignore[arg-type]
            gaps.append(max(b - a for a, b in pairwise(first)))
        return sum(gaps) / len(gaps)

    assert widest_gap("halton") < 0.7 * widest_gap("random")


def test_seeds_change_the_order() -> None:
    for order in ("random", "halton"):
        assert len({tuple(reveal_order(64, order, seed).tolist()) for seed in range(20)}) > 10  # type: ignore[arg-type]


def test_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="random, halton"):
        reveal_order(8, "spiral", 0)  # type: ignore[arg-type]


def test_mask_ratios_are_a_truncated_normal() -> None:
    ratios = mask_ratios(40000, generator(1))
    assert float(ratios.min()) >= 0.7
    assert float(ratios.max()) <= 1.0
    # A normal (1, 0.25) cut to [0.7, 1] has the mean 1 - 0.25 * (phi(0) - phi(1.2)) / (Phi(1.2) - 0.5).
    assert float(ratios.mean()) == pytest.approx(0.8666, abs=0.003)


def test_training_masks_never_touch_padding() -> None:
    lengths = torch.tensor([1, 5, 17, 40])
    hidden = training_mask(lengths, 40, generator(3))
    assert hidden.shape == (4, 40)
    for row, length in enumerate(lengths.tolist()):
        assert not hidden[row, length:].any()
        assert 0.7 * length <= int(hidden[row].sum()) <= length


def test_mixed_seeds_differ_by_seed_and_purpose() -> None:
    seeds = {mix_seed(seed, purpose, step) for seed in range(50) for purpose in range(4) for step in range(10)}
    assert len(seeds) == 50 * 4 * 10
    assert all(0 <= seed < 2**63 for seed in seeds)
