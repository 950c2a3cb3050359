"""The engine: requests to plans, plans to sounds, one iteration at a time.

Knows a bundle's parts and how jobs share a batch: jobs of any length, schedule and prompt advance together and may
join or leave between iterations; what a job becomes does not depend on its company. Does not know files, queues,
transports or the command line.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from impact_plugin.audio.level import Finish, finish_take
from impact_plugin.audio.resample import resample
from impact_plugin.conditions.bank import Bank
from impact_plugin.conditions.build import ConditionBuilder
from impact_plugin.engine.control import JobControl
from impact_plugin.engine.events import Ended, Event, Preview, Result, Started
from impact_plugin.engine.job import Job
from impact_plugin.engine.plan import (
    Plan,
    check_request,
    choose_seconds,
    decode_settings,
    draw_seed,
    previews_every,
    tokens_of,
    variant_seed,
)
from impact_plugin.errors import ImpactError
from impact_plugin.model.condition import Condition
from impact_plugin.model.decode import Track, advance, start_track
from impact_plugin.model.masking import mix_seed
from impact_plugin.request import Request

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle
    from impact_plugin.codec.base import Quality

logger = logging.getLogger(__name__)


def _draft_due(job: Job) -> bool:
    return job.preview_next


class Engine:
    """Makes sounds with one bundle. Not for several threads at once: whoever owns it drives it.

    Args:
        bundle: opened, on the device where it is to run.
        threads: of PyTorch on the CPU; without it as many as this process may use cores.

    Raises:
        ImpactError: `bad_file` when the bundle's bank of sounds is broken.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        self.bundle = bundle
        self._device = next(bundle.model.parameters()).device
        try:
            bank = Bank.from_tensors(bundle.extras)
        except ValueError as error:
            raise ImpactError("bad_file", f"model {bundle.info.name}: {error}", "model") from error
        self._builder = ConditionBuilder(bundle.model.config, bundle.text, bank)
        self._decode_share = 0.05  # seconds of work a second of audio, measured as we go
        if self._device.type == "cpu":
            torch.set_num_threads(threads or usable_cores())

    @property
    def native_rate(self) -> int:
        """hz"""
        return self.bundle.codec.rate

    @property
    def seconds_limit(self) -> float:
        """The longest sound that this bundle makes."""
        return float(self.bundle.info.seconds_limit)

    def plan(self, request: Request) -> Plan:
        """Answer what a request leaves open.

        Raises:
            ImpactError: `bad_argument` (longer than the bundle can), `unsupported`, `bad_file` (bundle's defaults).
        """
        prompt = check_request(request, self.bundle.info)
        seconds = request.seconds
        if seconds is None:
            typical = self._builder.typical_seconds(prompt)
            seconds = choose_seconds(typical, self.bundle.info.defaults.get("seconds"), self.seconds_limit)
        settings = decode_settings(request, dict(self.bundle.info.defaults))
        seed = draw_seed() if request.seed is None else request.seed
        rate = request.rate or self.native_rate
        tokens = tokens_of(seconds, self.bundle.codec.tokens_per_second)
        every = previews_every(request, min(settings.iterations, tokens))
        if every is None:
            settings = replace(settings, draft_steps=0)
        return Plan(
            request=request,
            prompt=prompt,
            negative=request.negative or None,
            seed=seed,
            seeds=tuple(variant_seed(seed, variant) for variant in range(request.variants)),
            seconds=seconds,
            tokens=tokens,
            rate=rate,
            frames=max(round(seconds * rate), 1),
            settings=settings,
            previews_every=every,
            finish=Finish(request.gain_db, request.peak_db, request.lufs, request.fade_in, request.fade_out),
            model=self.bundle.info.name,
            fingerprint=self.bundle.info.fingerprint,
        )

    def run(self, plan: Plan, control: JobControl | None = None) -> Iterator[Event]:
        """Make the takes of one plan. Dropping the iterator cancels.

        Yields:
            Events in the order that :mod:`impact_plugin.engine.events` states.

        Raises:
            ImpactError: `out_of_memory`, `internal`.
        """
        for _, event in self.run_together([plan], [control or JobControl()]):
            yield event

    def run_together(
        self, plans: Sequence[Plan], controls: Sequence[JobControl] | None = None
    ) -> Iterator[tuple[int, Event]]:
        """Make the takes of several plans in one batch.

        Yields:
            (number of the plan, event); the events of each plan in the same order as :meth:`run`.

        Raises:
            ImpactError: as :meth:`run`, for all of them.
        """
        with memory_errors():
            own = list(controls) if controls is not None else [JobControl() for _ in plans]
            jobs: dict[int, Job] = {}
            for number, (plan, control) in enumerate(zip(plans, own, strict=True)):
                jobs[number] = self.start(plan, control)
                yield number, Started(plan.seed, plan.variants, plan.seconds)
            while jobs:
                for number in [number for number, job in jobs.items() if job.control.cancelled]:
                    del jobs[number]
                    yield number, Ended("cancelled")
                self.advance(list(jobs.values()))
                for number, job in list(jobs.items()):
                    yield number, job.progress(self.decode_seconds(job.plan))
                    if job.preview_due:
                        for preview in self.previews(job):
                            yield number, preview
                    if job.decided:
                        missing = job.plan.variants
                        for result in self.results(job):
                            missing -= 1
                            yield number, result
                        del jobs[number]
                        yield number, Ended("cancelled" if missing else "ok")

    def start(self, plan: Plan, control: JobControl) -> Job:
        """A job before its first iteration.

        Raises:
            ImpactError: `out_of_memory`.
        """
        model, tokens, settings = self.bundle.model, plan.tokens, plan.settings
        with memory_errors():
            tracks = [
                start_track(model, tokens=tokens, seed=seed, settings=settings, device=self._device)
                for seed in plan.seeds
            ]
            negative = self.condition(plan, plan.negative) if plan.negative else None
            job = Job(plan, control, tracks, self.condition(plan, plan.prompt), negative)
            self._sketch(job)
            return job

    def advance(self, jobs: Sequence[Job]) -> None:
        """One iteration for all these jobs, in one batch. Cancelled jobs should have been taken out before."""
        self.advance_rows([(job, row) for job in jobs for row in range(job.plan.variants)])

    def advance_rows(self, rows: Sequence[tuple[Job, int]], drafts: Callable[[Job], bool] = _draft_due) -> float:
        """One iteration for some variants of some jobs, in one batch.

        Args:
            rows: (job, variant); the rows of a job stand together. A job's variants may advance in several calls, its
                words change only where all of them stand at the same iteration.
            drafts: whether a job's undecided tokens are to be estimated as well, for a preview.

        Returns:
            Seconds that the drafts took.

        Raises:
            ImpactError: `out_of_memory`; then none of these rows has advanced.
        """
        jobs = list(dict.fromkeys(job for job, _ in rows))
        if not jobs:
            return 0.0
        with memory_errors():
            for job in jobs:
                if job.at_boundary:
                    words = job.words
                    job.heed(partial(self.condition, job.plan))
                    if job.words != words:
                        self._sketch(job)
            wanted = {job: [variant for owner, variant in rows if owner is job] for job in jobs}
            return advance(
                self.bundle.model,
                [job.tracks[variant] for job in jobs for variant in wanted[job]],
                Condition.join([job.condition.rows(wanted[job]) for job in jobs]),
                Condition.join([job.null().rows(wanted[job]) for job in jobs]),
                draft=[drafts(job) for job in jobs for _ in wanted[job]],
            )

    def previews(self, job: Job) -> Iterator[Preview]:
        """Each variant as it stands. A preview that fails is left out, the job goes on."""
        for variant in range(job.plan.variants):
            if job.control.cancelled:
                return
            preview = self.preview(job, variant)
            if preview is not None:
                yield preview

    def preview(self, job: Job, variant: int) -> Preview | None:
        """One variant as it stands, undecided tokens as a draft; None when it cannot be made."""
        try:
            audio = self._audio(job.tracks[variant], job.plan, "preview")
            audio = np.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0)
            audio, _ = finish_take(audio, job.plan.rate, job.plan.finish)
        except (RuntimeError, MemoryError, ValueError, ImpactError):
            logger.warning("a preview of variant %d could not be made", variant, exc_info=True)
            return None
        return Preview(variant, job.iteration, audio, job.plan.rate)

    def results(self, job: Job) -> Iterator[Result]:
        """The takes of a job whose tokens are all decided; ends early when the job is cancelled."""
        for variant in range(job.plan.variants):
            if job.control.cancelled:
                return
            yield self.result(job, variant)

    def result(self, job: Job, variant: int) -> Result:
        """One take of a job whose tokens are all decided.

        Raises:
            ImpactError: `out_of_memory`; it may be tried again.
        """
        plan = job.plan
        began = time.monotonic()
        with memory_errors():
            audio, gain = finish_take(self._audio(job.tracks[variant], plan, "final"), plan.rate, plan.finish)
        share = (time.monotonic() - began) / max(plan.seconds, 0.1)
        self._decode_share += 0.3 * (share - self._decode_share)
        return Result(variant, audio, plan.rate, plan.seeds[variant], self.native_rate, gain, tuple(job.changes))

    def free_memory(self) -> None:
        """Give back what the device keeps for later."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        elif self._device.type == "mps":
            torch.mps.empty_cache()

    @property
    def device(self) -> str:
        """Where it runs, such as `cpu` or `cuda:0`."""
        return str(self._device)

    def condition(self, plan: Plan, prompt: str) -> Condition:
        """What all variants of a plan follow with these words, (variants)."""
        built = self._builder.build([prompt] * plan.variants, [plan.seconds] * plan.variants, plan.seeds)
        return built.to(self._device)

    def _sketch(self, job: Job) -> None:
        """Let what is undecided begin from a neighbour of the job's words, where its settings say so."""
        plan = job.plan
        if plan.settings.inspiration > 0.0:
            for track in job.tracks:
                track.lean_on(self.bundle.model, self._builder.sketch(job.words, plan.seconds, track.seed, plan.tokens))

    def decode_seconds(self, plan: Plan) -> float:
        """An estimate of the work that turning a plan's latents into audio takes, seconds."""
        return self._decode_share * plan.seconds * plan.variants

    def _audio(self, track: Track, plan: Plan, quality: Quality) -> npt.NDArray[np.float32]:
        """One variant's audio at the plan's rate, exactly as long as asked, not levelled."""
        seed = mix_seed(track.seed, zlib.crc32(plan.prompt.encode()))  # one seed, two prompts: other phases too
        decoded = self.bundle.codec.decode(track.draft[None], seeds=[seed], quality=quality)
        samples = decoded[0].float().cpu().numpy()
        return resample(samples, self.native_rate, plan.rate, frames=plan.frames)


def usable_cores() -> int:
    """Cores that this process may use; `IMPACT_THREADS` says how many it should."""
    wanted = os.environ.get("IMPACT_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Whatever way a device says that its memory is full, say it the contract's way."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _too_big() from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "out of memory" in str(error).lower():
            raise _too_big() from error
        raise


def _too_big() -> ImpactError:
    return ImpactError("out_of_memory", "out of memory: ask for fewer variants at once, or for shorter sounds")
