"""Which sounds advance in the next pass: priority, then live before batch, then fair among clients.

A *pass* is one iteration of some variants of some jobs, in one batch of at most so many tokens. Jobs join, leave and
step aside between passes. Pure decisions on numbers: knows no model, no thread, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

#: A job up to this much work (seconds of sound x iterations, all variants) is live: somebody is waiting for it.
LIVE_WORK: Final = 640.0
#: Every so many passes go to whoever is next, live or batch, so that a stream of live jobs starves nobody.
EVEN_EVERY: Final = 4

#: Tokens of a pass: bounds, and the time that a pass should take, seconds.
MIN_TOKENS: Final = 256
MAX_TOKENS: Final = 32768
PASS_SECONDS: Final = 0.3


@dataclass(frozen=True)
class Candidate:
    """A job that could advance.

    Attributes:
        number: of acceptance. priority: higher goes first.
        variants: how many of its variants have this iteration before them; tokens: of each.
        work: seconds of sound x iterations, all variants: of the whole job.
    """

    number: int
    client: str
    priority: int
    variants: int
    tokens: int
    work: float

    @property
    def live(self) -> bool:
        return self.work <= LIVE_WORK


@dataclass(frozen=True)
class Share:
    """How many variants of a job advance in a pass."""

    number: int
    variants: int


class Fairness:
    """What each client has been given lately, in tokens advanced or what took as long."""

    def __init__(self) -> None:
        self._given: dict[str, float] = {}

    def given(self, client: str) -> float:
        return self._given.get(client, 0.0)

    def charge(self, client: str, tokens: float) -> None:
        self._given[client] = self.given(client) + tokens

    def settle(self, active: Iterable[str]) -> None:
        """Drop clients without jobs; a newcomer starts level with the one that was given least, not ahead of all."""
        names = set(active)
        known = [self._given[name] for name in names if name in self._given]
        least = min(known, default=0.0)
        self._given = {name: self._given.get(name, least) - least for name in names}


def choose(candidates: Sequence[Candidate], fairness: Fairness, limit: int, turn: int) -> list[Share]:
    """What advances in the next pass.

    Args:
        limit: tokens, padding included; one variant always fits.
        turn: counts passes.

    Returns:
        The jobs in the order they were chosen.
    """
    even = turn % EVEN_EVERY == EVEN_EVERY - 1
    classes: dict[tuple[int, bool], list[Candidate]] = {}
    for candidate in candidates:
        classes.setdefault((-candidate.priority, not even and not candidate.live), []).append(candidate)
    shares: list[Share] = []
    virtual = {candidate.client: fairness.given(candidate.client) for candidate in candidates}
    rows = longest = 0
    for _, group in sorted(classes.items()):
        waiting: dict[str, list[Candidate]] = {}
        for candidate in sorted(group, key=lambda one: one.number):
            waiting.setdefault(candidate.client, []).append(candidate)
        while waiting:
            client = min(waiting, key=lambda name: (virtual[name], waiting[name][0].number))
            candidate = waiting[client].pop(0)
            if not waiting[client]:
                del waiting[client]
            width = max(longest, candidate.tokens)
            fits = max(limit // width - rows, 0) if rows else max(limit // width, 1)
            taken = min(fits, candidate.variants)
            if taken:
                rows, longest = rows + taken, width
                virtual[client] += taken * candidate.tokens
                shares.append(Share(candidate.number, taken))
    return shares


class PassSize:
    """How many tokens a pass may hold: so many that it takes about :data:`PASS_SECONDS`, fewer when memory runs out."""

    def __init__(self, tokens: int = 1024) -> None:
        self.tokens = tokens
        self._most = MAX_TOKENS

    def took(self, tokens: int, seconds: float) -> None:
        """Learn from a pass; small ones say nothing about large ones."""
        if seconds > PASS_SECONDS or 2 * tokens > self.tokens:
            wanted = tokens * min(max(PASS_SECONDS / max(seconds, 1e-4), 0.5), 1.5)
            smoothed = round(0.5 * self.tokens + 0.5 * wanted)
            self.tokens = min(max(smoothed, MIN_TOKENS), self._most)

    def ran_out(self, tokens: int) -> None:
        """So many tokens did not fit into memory."""
        self._most = max(tokens // 2, 1)
        self.tokens = min(self.tokens, self._most)
