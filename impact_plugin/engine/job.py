"""One request on its way through the decoder: its samples, its words, its clock.

Knows what a job needs from iteration to iteration and tells it as events. Does not know what other jobs share its
batch: the engine puts jobs together.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from impact_plugin.engine.blend import blend
from impact_plugin.engine.control import JobControl
from impact_plugin.engine.events import Progress, PromptChange
from impact_plugin.engine.plan import Plan
from impact_plugin.model.condition import Condition
from impact_plugin.model.decode import Track


class Job:
    """A running job.

    Attributes:
        plan: what is made; control: the handle for whoever asked for it.
        tracks: one a variant. changes: prompts put in since the start; words: the
            prompt that weighs most now.
        condition: what the variants follow now, (variants); negative: the negative prompt's condition, if any.
    """

    def __init__(
        self, plan: Plan, control: JobControl, tracks: list[Track], condition: Condition, negative: Condition | None
    ) -> None:
        self.plan = plan
        self.control = control
        self.tracks = tracks
        self.changes: list[PromptChange] = []
        self.words = plan.prompt
        self.condition = condition
        self.negative = negative
        self._started = time.monotonic()

    @property
    def iteration(self) -> int:
        """Iterations that all its tracks have behind them."""
        return min(track.iteration for track in self.tracks)

    @property
    def at_boundary(self) -> bool:
        """Whether all its tracks stand at the same iteration: only then may its words change."""
        return all(track.iteration == self.tracks[0].iteration for track in self.tracks)

    @property
    def iterations(self) -> int:
        return len(self.tracks[0].counts)

    @property
    def decided(self) -> bool:
        """Whether every token is decided: only the audio is left to be made."""
        return all(track.done for track in self.tracks)

    @property
    def preview_due(self) -> bool:
        """Whether a preview belongs after the iteration that was just done (never after the last)."""
        every = self.plan.previews_every
        return every is not None and 0 < self.iteration < self.iterations and self.iteration % every == 0

    @property
    def preview_next(self) -> bool:
        """Whether a preview belongs after the coming iteration, so that it must draft what is undecided."""
        every, coming = self.plan.previews_every, self.iteration + 1
        return every is not None and coming < self.iterations and coming % every == 0

    def null(self) -> Condition:
        """What guidance pushes all variants away from: the negative prompt, else the learned null."""
        return self.condition.null() if self.negative is None else self.negative

    def heed(self, encode: Callable[[str], Condition]) -> None:
        """Follow the prompts that were set since the last iteration."""
        for wish in self.control.take_wishes():
            self.condition = blend(self.condition, encode(wish.prompt), wish.weight)
            if wish.weight >= 0.5:
                self.words = wish.prompt
            self.changes.append(PromptChange(self.iteration, wish.prompt, wish.weight))

    def progress(self, decode_seconds: float) -> Progress:
        """Where the job stands.

        Args:
            decode_seconds: what turning its latents into audio is expected to take.
        """
        spent = time.monotonic() - self._started
        left = self.iterations - self.iteration
        expected = spent / max(self.iteration, 1) * left + decode_seconds
        return Progress(self.iteration, self.iterations, self.iteration / max(self.iterations, 1), expected)
