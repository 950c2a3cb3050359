"""What the engine tells while it works, in the order it happens.

For each job: one `Started`, then `Progress` after every iteration with a `Preview` of each variant now and then, a
`Result` for each variant, and exactly one `Ended`, always last. Knows no transport: whoever listens writes files or
sends messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]
State = Literal["ok", "cancelled"]


@dataclass(frozen=True)
class PromptChange:
    """From the iteration after `iteration` on, `prompt` was followed with this weight."""

    iteration: int
    prompt: str
    weight: float


@dataclass(frozen=True)
class Started:
    """The job's first iteration begins. seconds: length of each take."""

    seed: int
    variants: int
    seconds: float


@dataclass(frozen=True)
class Progress:
    """An iteration is done. fraction: 0...1 of them; seconds_left: estimated, decoding to audio included."""

    iteration: int
    iterations: int
    fraction: float
    seconds_left: float


@dataclass(frozen=True, eq=False)
class Preview:
    """The whole sound of a variant as it stands. audio: (frames,) float32 at `rate` hz."""

    variant: int
    iteration: int
    audio: Audio
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.rate


@dataclass(frozen=True, eq=False)
class Result:
    """A finished take.

    Attributes:
        audio: (frames,) float32 at `rate` hz, levelled, exactly as long as asked; seed: the variant's own.
        native_rate: hz, of the bundle; gain_db: what levelling did.
        changes: prompts that were put in while it was decoded.
    """

    variant: int
    audio: Audio
    rate: int
    seed: int
    native_rate: int
    gain_db: float
    changes: tuple[PromptChange, ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.rate


@dataclass(frozen=True)
class Ended:
    """The job is over; nothing of it follows."""

    state: State


Event = Started | Progress | Preview | Result | Ended
