"""Tag agreement on lists whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_plugin.errors import ImpactError
from impact_plugin.evaluation import agreement as module
from impact_plugin.evaluation.agreement import agreement, level, other_share, twin_share

TAGS = st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True).map(tuple)


def test_shares_counted_by_hand() -> None:
    real = [(1, 2), (3, 4), (5, 6), (1, 7)]
    made = [(2, 9), (9, 8), (6, 5), (7, 1)]
    got = agreement(real, made, ["a", "b", "c", "a"])
    assert got.pairs == 4
    assert got.same == 0.75  # only the second pair has nothing in common
    assert got.overlap == (0.5 + 0.0 + 1.0 + 1.0) / 4
    assert got.best == 0.0
    assert got.twins == 1.0  # sounds 0 and 3 share tag 1
    # pairs of different labels: 10; of them none meets
    assert got.other == 0.0
    assert got.normalised == 0.75
    assert got.error == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    assert got.to_dict()["normalised"] == 0.75


def test_chance_is_the_mean_over_all_pairs_of_different_labels() -> None:
    real = [(1,), (1,), (2,)]
    made = [(1,), (2,), (1,)]
    # (0,1) no, (0,2) yes, (1,0) yes, (1,2) yes, (2,0) no, (2,1) yes
    assert other_share(real, made, ["a", "b", "c"]) == pytest.approx(4 / 6)
    # with labels a a c: (0,2) yes, (1,2) yes, (2,0) no, (2,1) yes
    assert other_share(real, made, ["a", "a", "c"]) == pytest.approx(3 / 4)


def test_a_sound_with_many_twins_counts_once() -> None:
    tags = [(1,), (1,), (2,), (3,), (3,)]
    # label a: sounds 0 and 1 meet each other but not 2: 1/2, 1/2, 0; label b: 1, 1
    assert twin_share(tags, ["a", "a", "a", "b", "b"]) == pytest.approx((0.5 + 0.5 + 0.0 + 1.0 + 1.0) / 5)


def test_levels_that_cannot_be_known_are_none() -> None:
    alone = agreement([(1,)], [(1,)])
    assert (alone.same, alone.other, alone.twins, alone.normalised) == (1.0, None, None, None)
    worse = agreement([(1,), (1,), (1,)], [(1,), (1,), (1,)], ["a", "a", "b"])
    assert worse.other == worse.twins == 1.0
    assert worse.normalised is None


@pytest.mark.parametrize(("first", "second"), [([], []), ([(1,)], []), ([(1,)], [(1,), (2,)])])
def test_lists_that_do_not_fit_are_refused(first: list[tuple[int, ...]], second: list[tuple[int, ...]]) -> None:
    with pytest.raises(ImpactError) as caught:
        agreement(first, second)
    assert caught.value.code == "bad_argument"


@given(st.lists(st.tuples(TAGS, TAGS, st.sampled_from("abc")), min_size=1, max_size=12), st.integers(1, 5))
def test_blocks_do_not_matter(rows: list[tuple[tuple[int, ...], tuple[int, ...], str]], block: int) -> None:
    first, second, labels = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    pairs = [
        bool(set(a) & set(b))
        for a, x in zip(first, labels, strict=True)
        for b, y in zip(second, labels, strict=True)
        if x != y
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        got = agreement(first, second, labels)
    assert got.other == (pytest.approx(np.mean(pairs)) if pairs else None)
    assert got.best <= got.same
    assert got.overlap <= got.same


def test_level_brings_the_peak_to_minus_one_dbfs_and_leaves_silence() -> None:
    quiet = np.asarray([0.0, -0.01, 0.005], dtype=np.float32)
    assert np.abs(level(quiet)).max() == pytest.approx(0.89)
    assert not level(np.zeros(5, np.float32)).any()
