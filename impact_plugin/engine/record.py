"""The record of a finished take, and the name its file gets.

Knows plans, results and what a take's record holds. Does not write files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from impact_plugin.takes.names import take_stem
from impact_plugin.takes.record import Change, TakeRecord, now
from impact_plugin.takes.ucs import guess_catid

if TYPE_CHECKING:
    from impact_plugin.engine.events import Result
    from impact_plugin.engine.plan import Plan


def take_record(job_id: str, plan: Plan, result: Result, first_preview_s: float | None, elapsed_s: float) -> TakeRecord:
    """The record of a finished take.

    Args:
        job_id: of the request; first_preview_s, elapsed_s: seconds since the job began.
    """
    return TakeRecord(
        id=job_id,
        variant=result.variant,
        prompt=plan.prompt,
        seed=result.seed,
        seconds=result.seconds,
        rate=result.rate,
        iterations=plan.iterations,
        guidance=plan.guidance,
        model=plan.model,
        elapsed_s=round(elapsed_s, 3),
        first_preview_s=first_preview_s,
        request=plan.request_of(result.variant),
        native_rate=result.native_rate,
        gain_db=round(result.gain_db, 2),
        made=now(),
        fingerprint=plan.fingerprint,
        label=plan.request.label,
        ucs=catid_of(plan),
        preset=plan.request.preset,
        loop=(0, len(result.audio) - 1) if plan.request.loop else None,
        changes=tuple(Change(iteration=c.iteration, prompt=c.prompt, weight=c.weight) for c in result.changes),
    )


def catid_of(plan: Plan) -> str:
    """The CatID that was asked for, else one that fits the prompt."""
    return plan.request.ucs or guess_catid(plan.prompt)


def stem_of(plan: Plan, variant: int) -> str:
    """The file name of a take, without its ending, after the Universal Category System."""
    return take_stem(plan.prompt, catid=catid_of(plan), model=plan.model, seed=plan.seeds[variant], variant=variant)
