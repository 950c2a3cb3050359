"""What a take knows about itself: everything needed to show it, find it, and make it again.

Knows the JSON that is printed (the contract's row) and the JSON that is embedded in the file. Does not know files.
"""

from __future__ import annotations

import datetime
import json
import secrets
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from impact_plugin.errors import ImpactError
from impact_plugin.takes.names import take_stem
from impact_plugin.takes.ucs import FALLBACK
from impact_plugin.version import VERSION

#: Number of this record's format; a reader takes what it knows and ignores the rest.
FORMAT = 1

ROW = (
    "id",
    "variant",
    "path",
    "prompt",
    "seed",
    "seconds",
    "rate",
    "iterations",
    "guidance",
    "model",
    "elapsed_s",
    "first_preview_s",
)

#: What lists of takes say beyond the contract's row.
MORE = ("take", "rating", "label", "ucs", "parent", "made")


class Change(BaseModel):
    """A prompt that was put in while the sound took shape: followed from the iteration after `iteration` on."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    iteration: int
    prompt: str
    weight: float = 1.0


class TakeRecord(BaseModel):
    """One take.

    Attributes:
        id: of the request; variant: number in the request, from 0; seed: the take's own seed.
        path: where it was written ("" inside the file itself: files move).
        seconds, rate: of the file; native_rate: hz, of the bundle.
        request: keys from which `Request.parse` gives a request for exactly this take, alone.
        gain_db: what levelling did. made: time of making, ISO 8601, UTC.
        take: 16 hexadecimal digits that no other take has, whatever its file is called ("" until it is saved).
        parent: `take` of the take it was made from.
        fingerprint: of the bundle; bundles that sound the same have the same.
        label: the client's own name for it; ucs: CatID; preset: whose values it was made with.
        rating: 0 (none) to 5. loop: first and last sample that a loop plays. time_reference: samples since midnight.
        changes: prompts that were put in while it was made.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    impact: int = FORMAT
    id: str
    variant: int
    path: str = ""
    prompt: str
    seed: int
    seconds: float
    rate: int
    iterations: int
    guidance: float
    model: str
    elapsed_s: float
    first_preview_s: float | None = None
    request: dict[str, Any] = Field(default_factory=dict)
    native_rate: int = 0
    gain_db: float = 0.0
    made: str = ""
    version: str = VERSION
    take: str = ""
    parent: str | None = None
    fingerprint: str = ""
    label: str | None = None
    ucs: str = FALLBACK
    preset: str | None = None
    rating: Annotated[int, Ge(0), Le(5)] = 0
    loop: tuple[int, int] | None = None
    time_reference: Annotated[int, Ge(0), Le(2**64 - 1)] = 0
    changes: tuple[Change, ...] = ()

    @field_validator("loop")
    @classmethod
    def _loop(cls, loop: tuple[int, int] | None) -> tuple[int, int] | None:
        if loop is not None and not 0 <= loop[0] <= loop[1] < 2**32:
            raise ValueError("a loop goes from a sample to a later one")
        return loop

    @property
    def stem(self) -> str:
        """Its file name after the Universal Category System, without the ending."""
        return take_stem(self.prompt, catid=self.ucs, model=self.model, seed=self.seed, variant=self.variant)

    @property
    def tempo(self) -> str:
        """Beats a minute, "" for a take that has none."""
        bpm = self.request.get("bpm")
        return f"{bpm:g}" if isinstance(bpm, int | float) else ""

    def row(self) -> dict[str, Any]:
        """The JSON row of the contract."""
        return {name: getattr(self, name) for name in ROW}

    def long_row(self) -> dict[str, Any]:
        """The contract's row and what lists of takes say beyond it."""
        return self.row() | {name: getattr(self, name) for name in MORE}

    def to_json(self) -> str:
        """The embedded form: one line without the path."""
        data = self.model_dump(mode="json", exclude={"path"}, exclude_none=True)
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> TakeRecord:
        """The record in an embedded JSON.

        Raises:
            ImpactError: `bad_file` when it is none.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            raise ImpactError("bad_file", "the record of the take inside is broken") from None


def new_take() -> str:
    """A `take` that no other take has."""
    return secrets.token_hex(8)


def now() -> str:
    """`made` of a take that is finished now."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
