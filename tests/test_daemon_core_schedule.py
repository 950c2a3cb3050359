"""Which sounds advance: limits, priority, live before batch, fairness, and nobody starving. Ids and budgets, too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_plugin.daemon.ids import check_id, id_key, new_id
from impact_plugin.daemon.running import PreviewBudget
from impact_plugin.daemon.schedule import (
    EVEN_EVERY,
    LIVE_WORK,
    MIN_TOKENS,
    PASS_SECONDS,
    Candidate,
    Fairness,
    PassSize,
    choose,
)
from impact_plugin.errors import ImpactError

LONG, SHORT = LIVE_WORK * 10, LIVE_WORK / 10


def job(
    number: int, client: str = "a", *, priority: int = 0, variants: int = 1, tokens: int = 50, work: float = SHORT
) -> Candidate:
    return Candidate(number, client, priority, variants, tokens, work)


candidates = st.lists(
    st.builds(
        Candidate,
        number=st.integers(1, 10**6),
        client=st.sampled_from("abcd"),
        priority=st.integers(-2, 2),
        variants=st.integers(1, 64),
        tokens=st.integers(1, 600),
        work=st.sampled_from([SHORT, LONG]),
    ),
    max_size=20,
    unique_by=lambda one: one.number,
)


@given(candidates, st.integers(1, 4000), st.integers(0, 7))
def test_a_pass_keeps_its_limit_and_is_never_empty(found: list[Candidate], limit: int, turn: int) -> None:
    shares = choose(found, Fairness(), limit, turn)
    by_number = {one.number: one for one in found}
    assert len({share.number for share in shares}) == len(shares)
    assert all(1 <= share.variants <= by_number[share.number].variants for share in shares)
    rows = sum(share.variants for share in shares)
    longest = max((by_number[share.number].tokens for share in shares), default=0)
    assert bool(shares) == bool(found)
    assert rows * longest <= limit or rows == 1


@given(candidates, st.integers(1, 4000), st.integers(0, 7))
def test_higher_priority_goes_first(found: list[Candidate], limit: int, turn: int) -> None:
    shares = choose(found, Fairness(), limit, turn)
    if shares:
        by_number = {one.number: one for one in found}
        assert by_number[shares[0].number].priority == max(one.priority for one in found)
        ranks = [by_number[share.number].priority for share in shares]
        assert ranks == sorted(ranks, reverse=True)


def test_a_live_job_is_in_the_very_next_pass_whatever_the_batch_is_like() -> None:
    batch = [job(number, variants=64, tokens=500, work=LONG) for number in range(1, 20)]
    shares = choose([*batch, job(99, variants=4)], Fairness(), 1000, turn=0)
    assert (shares[0].number, shares[0].variants) == (99, 4)


def test_a_stream_of_live_jobs_starves_no_batch_job() -> None:
    found = [job(1, variants=8, tokens=100, work=LONG), *(job(number, variants=8) for number in range(2, 100))]
    given = [any(share.number == 1 for share in choose(found, Fairness(), 400, turn)) for turn in range(2 * EVEN_EVERY)]
    assert sum(given) == 2


def test_clients_get_the_same_however_many_jobs_they_have() -> None:
    fairness, given = Fairness(), {"a": 0, "b": 0, "c": 0}
    for turn in range(60):
        found = [job(number, "a", variants=16) for number in range(1, 30)]
        found += [job(100, "b", variants=64, tokens=50), job(101, "c", variants=2)]
        fairness.settle(one.client for one in found)
        clients = {one.number: one.client for one in found}
        for share in choose(found, fairness, 500, turn):
            given[clients[share.number]] += share.variants
            fairness.charge(clients[share.number], 50 * share.variants)
    assert given["c"] >= 110  # nearly all that it wants, which is little
    assert abs(given["a"] - given["b"]) <= 16


def test_whoever_comes_back_is_not_ahead_of_everybody() -> None:
    fairness = Fairness()
    fairness.charge("old", 1e9)
    fairness.charge("other", 1e9 - 50)
    fairness.settle(["old", "other", "new"])
    assert fairness.given("new") == min(fairness.given("old"), fairness.given("other")) == 0.0
    assert fairness.given("old") == 50
    fairness.settle(["new"])
    assert fairness.given("old") == 0.0  # forgotten


def test_the_first_of_a_client_goes_on_first() -> None:
    shares = choose([job(3), job(2, variants=9), job(1, variants=9)], Fairness(), 500, turn=0)
    assert [(share.number, share.variants) for share in shares] == [(1, 9), (2, 1)]


def test_a_pass_grows_and_shrinks_towards_its_time() -> None:
    size = PassSize(1000)
    for _ in range(30):
        size.took(size.tokens, size.tokens * PASS_SECONDS / 4000)
    assert 3500 <= size.tokens <= 4500
    for _ in range(30):
        size.took(size.tokens, size.tokens * PASS_SECONDS / 500)
    assert 400 <= size.tokens <= 600
    for _ in range(30):
        size.took(10, 0.0001)  # small ones say nothing
    assert 400 <= size.tokens <= 600
    for _ in range(30):
        size.took(size.tokens, 100.0)
    assert size.tokens == MIN_TOKENS


def test_what_ran_out_of_memory_is_not_tried_again() -> None:
    size = PassSize(4000)
    size.ran_out(3000)
    for _ in range(30):
        size.took(size.tokens, 0.0001)
    assert size.tokens == 1500


@given(
    st.floats(0.01, 1.0),
    st.lists(st.tuples(st.floats(0.001, 10), st.floats(0.0001, 5), st.booleans()), min_size=1, max_size=40),
)
def test_previews_never_take_more_than_their_share(share: float, steps: list[tuple[float, float, bool]]) -> None:
    budget = PreviewBudget(share)
    for done, (seconds, cost, first) in enumerate(steps, start=1):
        budget.job_seconds += seconds
        fraction = done / len(steps)
        whole = budget.job_seconds / fraction
        if budget.allows(cost, fraction, 0.0, first=first):
            budget.preview_seconds += cost
            assert budget.preview_seconds <= share * whole * (1 + 1e-9)


@pytest.mark.parametrize(
    ("given_id", "found"),
    [("a b", "a b"), (7, 7), (7.0, 7), ("7", "7"), (-3, -3), (2.5, "2.5"), ("é✓", "é✓"), ("x" * 200, "x" * 200)],
)
def test_ids(given_id: object, found: object) -> None:
    assert check_id(given_id) == found


def test_numbers_in_any_form_are_the_same_id() -> None:
    assert id_key(7) == id_key(7.0) == id_key("7") != id_key("7.5")


@pytest.mark.parametrize(
    "given_id", ["all", "x" * 201, "a\nb", "\ud800", True, None, 2**31, 1e30, float("nan"), float("inf"), b"x", [1]]
)
def test_what_is_no_id(given_id: object) -> None:
    with pytest.raises(ImpactError) as caught:
        check_id(given_id)
    assert (caught.value.code, caught.value.field) == ("bad_argument", "id")


def test_ids_of_the_daemons_own_making_differ_and_are_no_numbers() -> None:
    made = {check_id("") for _ in range(100)} | {new_id()}
    assert len(made) == 101
    assert all(isinstance(one, str) and one[0].isalpha() for one in made)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none()))
def test_any_id_is_taken_or_refused(given_id: object) -> None:
    code, found = "", None
    try:
        found = check_id(given_id)
    except ImpactError as error:
        code = error.code
    assert code == ("bad_argument" if found is None else "")
    if found is not None:
        assert check_id(found) == found
        assert str(found).encode("utf-8")
