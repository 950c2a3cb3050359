"""The thread that owns the model: passes, previews and takes of all jobs, a little of each at a time.

Knows the engine, the schedule and the order of work within a round. Does not know sockets, nor how a take is written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from impact_plugin.audio.files import encode_sound
from impact_plugin.daemon.bus import Bus
from impact_plugin.daemon.events import DaemonEvent
from impact_plugin.daemon.ledger import EndState, Entry, Ledger
from impact_plugin.daemon.ring import PreviewRing
from impact_plugin.daemon.running import PREVIEW_SHARE, Running
from impact_plugin.daemon.saving import Saver
from impact_plugin.daemon.schedule import PASS_SECONDS, Candidate, Fairness, PassSize, choose
from impact_plugin.daemon.steps import advance_safely, as_error, twice
from impact_plugin.engine.control import JobControl
from impact_plugin.errors import ImpactError
from impact_plugin.request import Request
from impact_plugin.version import VERSION

if TYPE_CHECKING:
    from impact_plugin.engine.engine import Engine
    from impact_plugin.engine.events import Preview
    from impact_plugin.engine.job import Job

logger = logging.getLogger(__name__)


class Worker:
    """Runs the jobs of a ledger.

    Args:
        load: opens the model; called in the worker's own thread.
        share: of a job's time that its previews may take.

    Attributes:
        error: why the model could not be opened, or why the thread died.
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        ledger: Ledger,
        bus: Bus,
        ring: PreviewRing,
        saver: Saver,
        *,
        share: float = PREVIEW_SHARE,
    ) -> None:
        self.error: ImpactError | None = None
        self._load = load
        self._ledger = ledger
        self._bus = bus
        self._ring = ring
        self._saver = saver
        self._share = share
        self._abort = threading.Event()
        self._running: dict[int, Running] = {}
        self._fairness = Fairness()
        self._size = PassSize()
        self._turn = 0
        self._preview_cost = 0.05  # seconds of work a second of audio, measured as we go
        self._draft_cost = 0.0  # seconds of work a token, measured as we go
        self._token_seconds = 1e-4  # of a pass, measured as we go
        self._thread = threading.Thread(target=self._run, name="impact-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def abort(self) -> None:
        """Stop after the pass that is going on; what is unfinished stays in the journal."""
        self._abort.set()
        with self._ledger.changed:
            self._ledger.changed.notify_all()

    def join(self, timeout: float) -> bool:
        """Wait for the end, which comes once the ledger is closed and nothing runs, or soon after :meth:`abort`.

        Returns:
            Whether it came in time.
        """
        until = time.monotonic() + timeout
        aborted = self._abort.is_set()
        while self._thread.is_alive() and time.monotonic() < until and self._abort.is_set() == aborted:
            self._thread.join(min(0.1, timeout))
        return not self._thread.is_alive()

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def pass_tokens(self) -> int:
        """Tokens that advance together at most."""
        return self._size.tokens

    def _run(self) -> None:
        try:
            engine = self._load()
            self._preview_cost = warm(engine)
            device = engine.device
            values = (VERSION, engine.bundle.info.name, device, engine.native_rate)
            self._bus.publish(DaemonEvent("ready", None, values))
            while not self._abort.is_set():
                if not self._round(engine):
                    with self._ledger.changed:
                        if self._ledger.closed and not self._running:
                            return
                        if not self._work_waits():
                            self._ledger.changed.wait(1.0)
        except Exception as error:
            self.error = as_error(error)

    def _work_waits(self) -> bool:
        live = self._ledger.live()
        return any(entry.state == "waiting" for entry in live) and not self._ledger.closed

    def _round(self, engine: Engine) -> bool:
        """A pass, some previews and some takes; whether there was anything to do."""
        entries = {entry.number: entry for entry in self._ledger.live() if entry.state in {"waiting", "running"}}
        self._fairness.settle(entry.client for entry in entries.values())
        self._drop_cancelled(entries)
        worked = self._pass(engine, entries)
        worked |= self._previews(engine)
        worked |= self._takes(engine)
        return worked

    def _drop_cancelled(self, entries: dict[int, Entry]) -> None:
        for number, entry in list(entries.items()):
            if entry.control.cancelled:
                if number in self._running:
                    self._leave(entry, "cancelled")
                elif entry.state == "waiting":  # cancelled while it was being accepted
                    self._ledger.finish(entry, "cancelled")
                del entries[number]

    def _pass(self, engine: Engine, entries: dict[int, Entry]) -> bool:
        """One iteration of some variants of some jobs."""
        rows: list[tuple[Job, int]] = []
        shares = choose(self._candidates(engine, entries), self._fairness, self._size.tokens, self._turn)
        for share in shares:
            running = self._running.get(share.number) or self._begin(engine, entries[share.number])
            if running is not None:
                if running.job.at_boundary:
                    running.drafting = running.job.preview_next and self._affordable(engine, running, drafted=True)
                rows += [(running.job, variant) for variant in running.behind()[: share.variants]]
        if not rows:
            return bool(shares)
        self._turn += 1
        by_job = {running.job: running for running in self._running.values()}
        began = time.perf_counter()
        outcome = advance_safely(engine, rows, lambda job: by_job[job].drafting)
        seconds = time.perf_counter() - began
        self._account(rows, by_job, seconds, outcome.drafting)
        if outcome.ran_out:
            self._size.ran_out(len(rows) * max(job.plan.tokens for job, _ in rows))
        for job, error in outcome.failed.items():
            self._fail(by_job[job], error)
        for job in dict.fromkeys(job for job, _ in rows):
            if job not in outcome.failed and job.at_boundary:
                self._boundary(engine, by_job[job])
        return True

    def _candidates(self, engine: Engine, entries: dict[int, Entry]) -> list[Candidate]:
        candidates = []
        for number, entry in entries.items():
            running = self._running.get(number)
            if running is not None:
                if not running.job.decided:
                    candidates.append(running.candidate())
            elif not self._ledger.closed:
                request = entry.request
                seconds = min(request.seconds or 2.0, engine.seconds_limit)
                tokens = max(round(seconds * engine.bundle.codec.tokens_per_second), 1)
                work = seconds * request.variants * (request.iterations or 32)
                candidates.append(Candidate(number, entry.client, request.priority, request.variants, tokens, work))
        return candidates

    def _begin(self, engine: Engine, entry: Entry) -> Running | None:
        """A waiting job's first moment; None when it cannot run."""
        if not self._ledger.begin(entry):
            return None
        try:
            plan = twice(engine, partial(engine.plan, entry.request))
            job = twice(engine, partial(engine.start, plan, entry.control))
        except ImpactError as error:
            self._ledger.fail(entry, error)
            self._leave(entry, "failed")
            return None
        entry.plan, entry.job = plan, job
        running = self._running[entry.number] = Running(entry, plan, job, self._share)
        self._ledger.tell(entry, "start", plan.seed, plan.variants, plan.seconds)
        return running

    def _account(
        self, rows: list[tuple[Job, int]], by_job: dict[Job, Running], seconds: float, drafting: float
    ) -> None:
        """Who has cost what in a pass."""
        tokens = sum(job.plan.tokens for job, _ in rows)
        drafted = sum(job.plan.tokens for job, _ in rows if by_job[job].drafting)
        for job in dict.fromkeys(job for job, _ in rows):
            running = by_job[job]
            own = job.plan.tokens * sum(owner is job for owner, _ in rows)
            running.budget.job_seconds += (seconds - drafting) * own / tokens
            if running.drafting and drafted:
                running.budget.preview_seconds += drafting * own / drafted
            self._fairness.charge(running.entry.client, own)
        if drafted:
            self._draft_cost += 0.3 * (drafting / drafted - self._draft_cost)
        self._size.took(len(rows) * max(job.plan.tokens for job, _ in rows), seconds)
        self._token_seconds += 0.2 * (seconds / tokens - self._token_seconds)

    def _boundary(self, engine: Engine, running: Running) -> None:
        """All variants of a job have an iteration behind them."""
        job, entry = running.job, running.entry
        told = job.progress(engine.decode_seconds(job.plan))
        entry.progress = (told.iteration, told.iterations, told.fraction, told.seconds_left)
        self._ledger.tell(entry, "progress", *entry.progress)
        if job.decided:
            running.due.clear()
        elif running.drafting:
            running.want_previews()

    def _affordable(self, engine: Engine, running: Running, *, drafted: bool = False) -> bool:
        """Whether another preview of a job keeps within its share."""
        cost = self._preview_cost * running.plan.seconds
        if drafted:
            cost += self._draft_cost * running.plan.tokens * running.plan.variants
        first = running.first_preview_s is None
        allowed = running.budget.allows(cost, running.fraction, engine.decode_seconds(running.plan), first=first)
        if not allowed:  # an estimate that was too high must not last for ever
            self._preview_cost *= 0.98
            self._draft_cost *= 0.98
        return allowed

    def _previews(self, engine: Engine) -> bool:
        """Some of the previews that are due, live jobs first."""
        due = [running for running in self._running.values() if running.due]
        due.sort(key=lambda one: (-one.entry.request.priority, not one.candidate().live, one.entry.number))
        until = time.perf_counter() + PASS_SECONDS
        for running in due:
            while running.due and time.perf_counter() < until and not running.entry.control.cancelled:
                variant = running.due.popleft()
                if not self._affordable(engine, running):
                    running.due.clear()
                    break
                began = time.perf_counter()
                preview = engine.preview(running.job, variant)
                if preview is not None:
                    self._tell_preview(running, preview)
                spent = time.perf_counter() - began
                running.budget.preview_seconds += spent
                self._preview_cost += 0.3 * (spent / max(running.plan.seconds, 0.1) - self._preview_cost)
                self._charge(running, spent)
        return bool(due)

    def _tell_preview(self, running: Running, preview: Preview) -> None:
        entry = running.entry
        try:
            data = encode_sound(preview.audio, preview.rate, format="wav", subtype="PCM_16")
            path = self._ring.write(entry.number, preview.variant, preview.iteration, data)
        except (ImpactError, RuntimeError, ValueError, MemoryError) as error:
            logger.warning("a preview of job %s could not be written: %s", entry.id, error)
            return
        running.previewed(preview.variant)
        values = (preview.variant, preview.iteration, str(path), preview.seconds)
        entry.previews[preview.variant] = values
        self._ledger.tell(entry, "preview", *values)

    def _takes(self, engine: Engine) -> bool:
        """Some of the takes whose tokens are all decided, one at least."""
        ready = [running for running in self._running.values() if running.job.decided]
        ready.sort(key=lambda one: (-one.entry.request.priority, not one.candidate().live, one.entry.number))
        until = time.perf_counter() + PASS_SECONDS
        for running in ready:
            while not running.complete and not running.entry.control.cancelled:
                self._take(engine, running)
                if time.perf_counter() > until:
                    break
            if running.complete and running.entry.number in self._running:
                self._leave(running.entry, "ok")
            if time.perf_counter() > until:
                break
        return bool(ready)

    def _take(self, engine: Engine, running: Running) -> None:
        """One take of a job to the saver."""
        entry, variant = running.entry, running.made
        running.made += 1
        known = entry.known.get(variant)
        if known is not None and Path(known).is_file():
            self._saver.put_known(entry, running.plan, variant, Path(known))
            return
        began = time.perf_counter()
        try:
            result = twice(engine, partial(engine.result, running.job, variant))
        except ImpactError as error:
            running.made = running.plan.variants
            self._fail(running, error)
            return
        self._saver.put(entry, running.plan, result, running.first_preview_s, running.elapsed())
        self._charge(running, time.perf_counter() - began)

    def _fail(self, running: Running, error: ImpactError) -> None:
        self._ledger.fail(running.entry, error)
        self._leave(running.entry, "failed")

    def _leave(self, entry: Entry, state: EndState) -> None:
        """The model has done with a job: it ends once all that was made of it is written."""
        self._running.pop(entry.number, None)
        self._ledger.all_made(entry)
        self._saver.end(entry, state)

    def _charge(self, running: Running, seconds: float) -> None:
        self._fairness.charge(running.entry.client, seconds / max(self._token_seconds, 1e-7))


def warm(engine: Engine) -> float:
    """A tiny job, twice, so that the first real one finds everything loaded and compiled.

    Returns:
        What a preview costs, seconds of work a second of audio.

    Raises:
        ImpactError: when the model does not work.
    """
    seconds = min(1.0, engine.seconds_limit)
    request = Request.parse({"prompt": "a knock", "seconds": seconds, "iterations": 2, "seed": 1, "previews_every": 1})
    cost = 0.0
    try:
        for _ in range(2):
            job = engine.start(engine.plan(request), JobControl())
            engine.advance([job])
            began = time.perf_counter()
            preview = engine.preview(job, 0)
            if preview is not None:
                encode_sound(preview.audio, preview.rate, format="wav", subtype="PCM_16")
            cost = (time.perf_counter() - began) / seconds
            engine.advance([job])
            engine.result(job, 0)
    except ImpactError:
        raise
    except Exception as error:
        raise as_error(error) from error
    return cost
