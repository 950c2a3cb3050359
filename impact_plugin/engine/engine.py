"""The engine: requests to plans, plans to sounds, one iteration at a time.

Knows a bundle's parts and how jobs share a batch: jobs of any length, schedule and prompt advance together and may
join or leave between iterations; what a job becomes does not depend on its company. Does not know files, queues,
transports or the command line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
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
    choose_seconds,
    decode_settings,
    draw_seed,
    previews_every,
    refuse_unbuilt,
    tokens_of,
    variant_seed,
)
from impact_plugin.errors import ImpactError
from impact_plugin.model.condition import Condition
from impact_plugin.model.decode import Track, advance, start_track
from impact_plugin.request import Request

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle
    from impact_plugin.codec.base import Quality

logger = logging.getLogger(__name__)


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
        refuse_unbuilt(request)
        if not request.prompt:
            raise ImpactError("bad_argument", "the prompt is missing: say what is to be heard", "prompt")
        if request.seconds is not None and request.seconds > self.seconds_limit:
            raise ImpactError(
                "bad_argument",
                f"seconds is at most {self.seconds_limit:g} with the model {self.bundle.info.name}, "
                f"not {request.seconds:g}",
                "seconds",
            )
        seconds = request.seconds
        if seconds is None:
            typical = self._builder.typical_seconds(request.prompt)
            seconds = choose_seconds(typical, self.bundle.info.defaults.get("seconds"), self.seconds_limit)
        settings = decode_settings(request, dict(self.bundle.info.defaults))
        seed = draw_seed() if request.seed is None else request.seed
        rate = request.rate or self.native_rate
        tokens = tokens_of(seconds, self.bundle.codec.tokens_per_second)
        return Plan(
            request=request,
            prompt=request.prompt,
            negative=request.negative or None,
            seed=seed,
            seeds=tuple(variant_seed(seed, variant) for variant in range(request.variants)),
            seconds=seconds,
            tokens=tokens,
            rate=rate,
            frames=max(round(seconds * rate), 1),
            settings=settings,
            previews_every=previews_every(request, min(settings.iterations, tokens)),
            finish=Finish(request.gain_db, request.peak_db, request.lufs, request.fade_in, request.fade_out),
            model=self.bundle.info.name,
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
        with _memory_errors():
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
        """A job before its first iteration."""
        tracks = [
            start_track(self.bundle.model, tokens=plan.tokens, seed=seed, settings=plan.settings, device=self._device)
            for seed in plan.seeds
        ]
        negative = self.condition(plan, plan.negative) if plan.negative else None
        return Job(plan, control, tracks, self.condition(plan, plan.prompt), negative)

    def advance(self, jobs: Sequence[Job]) -> None:
        """One iteration for all these jobs, in one batch. Cancelled jobs should have been taken out before."""
        if not jobs:
            return
        for job in jobs:
            job.heed(partial(self.condition, job.plan))
        tracks = [track for job in jobs for track in job.tracks]
        advance(
            self.bundle.model,
            tracks,
            Condition.join([job.condition for job in jobs]),
            Condition.join([job.null() for job in jobs]),
            draft=any(job.preview_next for job in jobs),
        )

    def previews(self, job: Job) -> Iterator[Preview]:
        """Each variant as it stands, undecided tokens as a draft. A preview that fails is left out, the job goes on."""
        for variant, track in enumerate(job.tracks):
            if job.control.cancelled:
                return
            try:
                audio = self._audio(track, job.plan, "preview")
                audio = np.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0)
                audio, _ = finish_take(audio, job.plan.rate, job.plan.finish)
            except (RuntimeError, ValueError, ImpactError):
                logger.warning("a preview of variant %d could not be made", variant, exc_info=True)
                continue
            yield Preview(variant, job.iteration, audio, job.plan.rate)

    def results(self, job: Job) -> Iterator[Result]:
        """The takes of a job whose tokens are all decided; ends early when the job is cancelled."""
        plan = job.plan
        for variant, track in enumerate(job.tracks):
            if job.control.cancelled:
                return
            began = time.monotonic()
            audio, gain = finish_take(self._audio(track, plan, "final"), plan.rate, plan.finish)
            share = (time.monotonic() - began) / max(plan.seconds, 0.1)
            self._decode_share += 0.3 * (share - self._decode_share)
            yield Result(variant, audio, plan.rate, plan.seeds[variant], self.native_rate, gain, tuple(job.changes))

    def condition(self, plan: Plan, prompt: str) -> Condition:
        """What all variants of a plan follow with these words, (variants)."""
        built = self._builder.build([prompt] * plan.variants, [plan.seconds] * plan.variants, plan.seeds)
        return built.to(self._device)

    def decode_seconds(self, plan: Plan) -> float:
        """An estimate of the work that turning a plan's latents into audio takes, seconds."""
        return self._decode_share * plan.seconds * plan.variants

    def _audio(self, track: Track, plan: Plan, quality: Quality) -> npt.NDArray[np.float32]:
        """One variant's audio at the plan's rate, exactly as long as asked, not levelled."""
        decoded = self.bundle.codec.decode(track.draft[None], seeds=[track.seed], quality=quality)
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
def _memory_errors() -> Iterator[None]:
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
