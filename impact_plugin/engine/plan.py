"""A request with every open question answered: seed, length, settings.

Knows requests and a bundle's limits and defaults. Does not run anything.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from impact_plugin.audio.level import Finish
from impact_plugin.errors import ImpactError
from impact_plugin.request import SEEDS, Request

if TYPE_CHECKING:
    from impact_plugin.bundle.schema import BundleInfo
    from impact_plugin.model.decode import DecodeSettings

#: Previews a job sends unless `previews_every` says otherwise, and the head steps of their draft.
PREVIEWS = 6
DRAFT_STEPS = 4

#: Keys of a request that only edits have.
EDIT_KEYS = ("source", "other", "amount", "from_seconds", "to_seconds", "at", "position")

#: Length where neither the request nor the bundle says anything, and the shortest that a bundle may choose, seconds.
FALLBACK_SECONDS = 2.0
SHORTEST_SECONDS = 0.3


@dataclass(frozen=True)
class Plan:
    """A job that can be run.

    Attributes:
        request: what was asked; prompt: its words; negative: what guidance pushes away from, if anything.
        seed: of variant 0; seeds: of every variant.
        seconds: length of a take; tokens: of its latents; rate: hz, of the files; frames: samples of a file.
        settings: of the decoder; previews_every: iterations from preview to preview, None = no previews.
        finish: level and fades. model, fingerprint: of the bundle.
    """

    request: Request
    prompt: str
    negative: str | None
    seed: int
    seeds: tuple[int, ...]
    seconds: float
    tokens: int
    rate: int
    frames: int
    settings: DecodeSettings
    previews_every: int | None
    finish: Finish
    model: str
    fingerprint: str = ""

    @property
    def variants(self) -> int:
        return len(self.seeds)

    @property
    def iterations(self) -> int:
        """Iterations that will be run: never more than there are tokens."""
        return min(self.settings.iterations, self.tokens)

    @property
    def guidance(self) -> float:
        return self.settings.guidance

    def request_of(self, variant: int) -> dict[str, Any]:
        """Keys of a request that makes this variant again, alone: nothing is left to defaults or chance."""
        keys = self.request.to_dict()
        for key in ("variants", "preset", "priority", "preview", "previews_every", "play"):
            keys.pop(key, None)
        settings = self.settings
        return {
            **keys,
            "prompt": self.prompt,
            "seconds": self.seconds,
            "seed": self.seeds[variant],
            "rate": self.rate,
            "iterations": settings.iterations,
            "guidance": settings.guidance,
            "order": settings.order,
            "sampler": settings.sampler,
            "head_steps": settings.head_steps,
            "temperature": settings.temperature,
            "coherence": settings.coherence,
            "inspiration": settings.inspiration,
        }


def variant_seed(seed: int, variant: int) -> int:
    """The seed of a variant: the request's own for variant 0, then one more each, wrapping at 2^24.

    So any variant can be made again alone, and sounds the same: only its own seed goes into it.
    """
    return (seed + variant) % SEEDS


def draw_seed() -> int:
    """A seed for a request that gives none."""
    return random.SystemRandom().randrange(SEEDS)


def refuse_unbuilt(request: Request) -> None:
    """Refuse what requests can say but this version cannot do.

    Raises:
        ImpactError: `unsupported`.
    """
    if request.verb != "generate":
        raise ImpactError("unsupported", f"editing ({request.verb}) is not in this version yet", "verb")
    if request.loop:
        raise ImpactError("unsupported", "seamless loops are not in this version yet: leave out loop", "loop")
    if request.bars is not None:
        raise ImpactError("unsupported", "lengths in bars are not in this version yet: give seconds", "bars")
    for key in EDIT_KEYS:
        if getattr(request, key) is not None:
            raise ImpactError("unsupported", f"{key} belongs to editing, which is not in this version yet", key)


def check_request(request: Request, info: BundleInfo) -> str:
    """Refuse what this bundle cannot do, without opening it.

    Returns:
        The prompt.

    Raises:
        ImpactError: `unsupported`, `bad_argument` (no prompt, longer than the bundle can).
    """
    refuse_unbuilt(request)
    if not request.prompt:
        raise ImpactError("bad_argument", "the prompt is missing: say what is to be heard", "prompt")
    limit = float(info.seconds_limit)
    if request.seconds is not None and request.seconds > limit:
        text = f"seconds is at most {limit:g} with the model {info.name}, not {request.seconds:g}"
        raise ImpactError("bad_argument", text, "seconds")
    return request.prompt


def decode_settings(request: Request, defaults: dict[str, Any]) -> DecodeSettings:
    """The decoder's settings: the request's, else the bundle's, else the paper's.

    Raises:
        ImpactError: `bad_file` when a default of the bundle has the wrong type.
    """
    from impact_plugin.model.decode import DecodeSettings

    names = {field.name for field in fields(DecodeSettings)}
    values = {name: value for name, value in defaults.items() if name in names}
    values.setdefault("draft_steps", DRAFT_STEPS)
    try:
        checked = Request.parse({"prompt": "x", **{k: v for k, v in values.items() if k in Request.model_fields}})
    except ImpactError as error:
        raise ImpactError("bad_file", f"a default of the bundle does not fit: {error.text}", error.field) from None
    values.update({k: v for k, v in checked.to_dict().items() if k in names})
    own = {name: getattr(request, name) for name in names if name in Request.model_fields}
    values.update({name: value for name, value in own.items() if value is not None})
    if request.head_steps is not None:
        last = values.get("head_steps_last")
        values["head_steps_last"] = None if last is None else min(int(last), request.head_steps)
    return DecodeSettings(**values)


def choose_seconds(typical: float | None, default: object, limit: float) -> float:
    """A length when nobody gave one, seconds, to a hundredth.

    Args:
        typical: of sounds like the prompt, where the bundle knows some; default: of the bundle; limit: of the bundle.
    """
    if typical is None:
        typical = float(default) if isinstance(default, int | float) else FALLBACK_SECONDS
    return round(min(max(typical, SHORTEST_SECONDS), limit), 2)


def tokens_of(seconds: float, tokens_per_second: float) -> int:
    """Tokens that cover a length."""
    return max(1, math.ceil(seconds * tokens_per_second - 1e-6))


def previews_every(request: Request, iterations: int) -> int | None:
    """Iterations from one preview to the next; None when none are wanted."""
    if not request.preview:
        return None
    return request.previews_every or max(1, iterations // PREVIEWS)
