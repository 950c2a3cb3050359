"""A job while it runs: what its previews may cost, and what of it is still to be made.

Knows one job's clocks and counters. Does not know the other jobs, nor what is done with sounds.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from impact_plugin.daemon.ledger import Entry
from impact_plugin.daemon.schedule import Candidate

if TYPE_CHECKING:
    from impact_plugin.engine.job import Job
    from impact_plugin.engine.plan import Plan

#: Previews take at most this share of the time that the job itself is expected to take.
PREVIEW_SHARE: Final = 0.25
#: What may be spent ahead of the job's progress, as a fraction of the job; for the first preview, all of it.
_AHEAD: Final = 0.1


class PreviewBudget:
    """Seconds that a job's previews (drafts, decoding and writing) have taken, against those of the job itself."""

    def __init__(self, share: float = PREVIEW_SHARE) -> None:
        self._share = share
        self.job_seconds = 0.0
        self.preview_seconds = 0.0

    def allows(self, cost: float, fraction: float, decode_seconds: float, *, first: bool = False) -> bool:
        """Whether a preview may be made now.

        Args:
            cost: seconds it is expected to take; fraction: 0...1 of the job's iterations done, with `job_seconds`.
            decode_seconds: that making the takes' audio is expected to take. first: none has been made yet.
        """
        if fraction <= 0.0:
            return True
        whole = self.job_seconds / fraction + decode_seconds
        ahead = 1.0 if first else min(1.0, fraction + _AHEAD)
        return self.preview_seconds + cost <= self._share * whole * ahead


class Running:
    """A job that has begun.

    Attributes:
        entry, plan, job: what it is. budget: of its previews. began: `time.monotonic`.
        first_preview_s: seconds from the beginning to the first preview.
        due: variants whose preview is to be made. drafting: whether its coming iteration drafts what is undecided.
        made: variants whose take has been made and handed on.
    """

    def __init__(self, entry: Entry, plan: Plan, job: Job, share: float) -> None:
        self.entry = entry
        self.plan = plan
        self.job = job
        self.budget = PreviewBudget(share)
        self.began = time.monotonic()
        self.first_preview_s: float | None = None
        self.due: deque[int] = deque()
        self.drafting = False
        self.made = 0
        self.told = 0
        self._next_preview = 0

    @property
    def fraction(self) -> float:
        return self.job.iteration / max(self.job.iterations, 1)

    @property
    def complete(self) -> bool:
        """Whether every take has been made."""
        return self.made >= self.plan.variants

    def behind(self) -> list[int]:
        """Variants that have the coming iteration before them."""
        now = self.job.iteration
        return [variant for variant, track in enumerate(self.job.tracks) if track.iteration == now and not track.done]

    def candidate(self) -> Candidate:
        """As the schedule sees it."""
        plan = self.plan
        work = plan.seconds * plan.variants * plan.iterations
        entry = self.entry
        return Candidate(entry.number, entry.client, entry.request.priority, len(self.behind()), plan.tokens, work)

    def want_previews(self) -> None:
        """Every variant's preview is due, those that waited longest first."""
        variants = self.plan.variants
        self.due = deque((self._next_preview + step) % variants for step in range(variants))

    def previewed(self, variant: int) -> None:
        self._next_preview = (variant + 1) % self.plan.variants
        if self.first_preview_s is None:
            self.first_preview_s = round(time.monotonic() - self.began, 3)

    def elapsed(self) -> float:
        return time.monotonic() - self.began
