"""How many `fail` replies a sender of nonsense gets: a burst, then a few a second. The rest is counted, not sent."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

BURST: Final = 50.0
PER_SECOND: Final = 20.0
SENDERS: Final = 1024


class Limiter:
    """A token bucket for each sender, and one for all together.

    Args:
        burst: replies at once; per_second: after that. All senders together get ten times as many.

    Attributes:
        held_back: replies that were not sent.
    """

    def __init__(self, burst: float = BURST, per_second: float = PER_SECOND) -> None:
        self.held_back = 0
        self._burst = burst
        self._rate = per_second
        self._all = (10 * burst, 0.0)
        self._senders: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, sender: str, now: float) -> bool:
        """Whether this sender may get one more. now: seconds, never running backwards."""
        left, last = self._senders.pop(sender, (self._burst, now))
        left = min(self._burst, left + (now - last) * self._rate)
        everybody, before = self._all
        everybody = min(10 * self._burst, everybody + (now - before) * 10 * self._rate)
        allowed = left >= 1.0 and everybody >= 1.0
        self._senders[sender] = (left - 1.0 if allowed else left, now)
        self._all = (everybody - 1.0 if allowed else everybody, now)
        if len(self._senders) > SENDERS:
            self._senders.popitem(last=False)
        self.held_back += not allowed
        return allowed
