"""The handle on a running job: change its words, or cancel it, from any thread.

Wishes take effect at the next iteration boundary. Knows nothing of models.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from impact_plugin.errors import ImpactError
from impact_plugin.request import Request


@dataclass(frozen=True)
class PromptWish:
    """A new prompt; weight 1 replaces the old one, less blends both."""

    prompt: str
    weight: float


class JobControl:
    """Wishes for one job. Every method may be called from any thread, also after the job has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes: list[PromptWish] = []
        self._cancelled = threading.Event()

    def set_prompt(self, prompt: str, weight: float = 1.0) -> None:
        """Tokens that are not decided yet follow the new words.

        Args:
            weight: 0...1, share of the new words; 1 replaces the old ones.

        Raises:
            ImpactError: `bad_argument`, as for any prompt.
        """
        checked = Request.parse({"prompt": prompt}).prompt or ""
        if not 0.0 <= weight <= 1.0:
            raise ImpactError("bad_argument", f"weight must be a number from 0 to 1, not {weight:g}", "weight")
        with self._lock:
            self._wishes.append(PromptWish(checked, float(weight)))

    def cancel(self) -> None:
        """Stop this job, and no other, at the next iteration boundary."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def take_wishes(self) -> list[PromptWish]:
        """The prompts set since the last call, in order (the engine calls this)."""
        with self._lock:
            wishes, self._wishes = self._wishes, []
        return wishes
