"""One pass of the engine that survives what can go wrong in it: no memory, or one job that breaks.

Knows how to make a batch smaller and whom to blame. Does not know queues or clients.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from impact_plugin.engine.engine import Engine
    from impact_plugin.engine.job import Job

logger = logging.getLogger(__name__)

Rows = Sequence[tuple["Job", int]]
Made = TypeVar("Made")


@dataclass
class Outcome:
    """What came of a pass.

    Attributes:
        drafting: seconds spent on drafts; ran_out: whether memory did; failed: jobs that cannot go on.
    """

    drafting: float = 0.0
    ran_out: bool = False
    failed: dict[Job, ImpactError] = field(default_factory=dict)


def advance_safely(engine: Engine, rows: Rows, drafts: Callable[[Job], bool]) -> Outcome:
    """One iteration for these variants. Without memory: free it, halve the batch, try once more; what then still does
    not fit has failed. If anything else goes wrong, the jobs go on one by one and the broken one is found.
    """
    outcome = Outcome()
    try:
        outcome.drafting = engine.advance_rows(rows, drafts)
        return outcome
    except ImpactError as error:
        outcome.ran_out = error.code == "out_of_memory"
    except Exception:
        logger.exception("a pass failed")
    if outcome.ran_out:
        logger.warning("out of memory with %d sounds in a pass: trying again with half as many", len(rows))
        engine.free_memory()
        middle = (len(rows) + 1) // 2
        parts = [rows[:middle], rows[middle:]]
    else:
        parts = [[row for row in rows if row[0] is job] for job in dict.fromkeys(job for job, _ in rows)]
    for part in parts:
        part = [(job, row) for job, row in part if job not in outcome.failed]
        if not part:
            continue
        try:
            outcome.drafting += engine.advance_rows(part, drafts)
        except Exception as error:
            outcome.failed[_largest(part)] = as_error(error)
            engine.free_memory()
    return outcome


def twice(engine: Engine, make: Callable[[], Made]) -> Made:
    """Make something; once more with freed memory when there was none.

    Raises:
        ImpactError: whatever went wrong.
    """
    try:
        return make()
    except ImpactError as error:
        if error.code != "out_of_memory":
            raise
    except Exception as error:
        raise as_error(error) from error
    engine.free_memory()
    try:
        return make()
    except Exception as error:
        raise as_error(error) from error


def as_error(error: Exception) -> ImpactError:
    """Any exception as the client may see it."""
    if isinstance(error, ImpactError):
        return error
    logger.error("the engine failed", exc_info=error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ImpactError("internal", f"the engine failed on this job: {text[:300]}")


def _largest(rows: Rows) -> Job:
    """The job that needs most memory of these."""
    jobs = dict.fromkeys(job for job, _ in rows)
    return max(jobs, key=lambda job: job.plan.tokens * sum(owner is job for owner, _ in rows))
