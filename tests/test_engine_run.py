"""Running plans: events in order, exact lengths, and the same seed for the same sound in any company."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from impact_plugin.engine.control import JobControl
from impact_plugin.engine.engine import Engine
from impact_plugin.engine.events import Ended, Event, Preview, Progress, Result, Started
from impact_plugin.engine.timing import machine, time_generation
from impact_plugin.errors import ImpactError
from impact_plugin.request import Request

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle
    from impact_plugin.engine.plan import Plan


@pytest.fixture(scope="module")
def engine(tiny: Bundle) -> Engine:
    return Engine(tiny, threads=1)


def plan_of(engine: Engine, prompt: str = "dog barks", **keys: Any) -> Plan:
    return engine.plan(Request.parse({"prompt": prompt, "seconds": 1, "seed": 5, "head_steps": 10, **keys}))


def takes(engine: Engine, plan: Plan) -> list[np.ndarray]:
    return [event.audio for event in engine.run(plan) if isinstance(event, Result)]


def difference_db(one: np.ndarray, two: np.ndarray) -> float:
    return 20 * np.log10(max(float(np.abs(one - two).max()) / float(np.abs(one).max()), 1e-12))


def test_events_in_order(engine: Engine) -> None:
    plan = plan_of(engine, variants=2, iterations=4, previews_every=1, rate=44100)
    events: list[Event] = list(engine.run(plan))
    assert [type(event) for event in events] == [
        Started,
        *([Progress, Preview, Preview] * 3),
        Progress,
        Result,
        Result,
        Ended,
    ]
    assert events[0] == Started(5, 2, 1.0)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [(event.iteration, event.iterations) for event in progress] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert progress[-1].fraction == 1.0
    assert all(event.seconds_left >= 0 for event in progress)
    results = [event for event in events if isinstance(event, Result)]
    assert [(event.variant, event.seed) for event in results] == [(0, 5), (1, 6)]
    assert events[-1] == Ended("ok")


@pytest.mark.parametrize(("seconds", "rate"), [(0.05, 16000), (1.0, 44100), (1.2345, 48000), (4.0, 22050)])
def test_takes_are_exactly_as_long_as_asked_and_audible(engine: Engine, seconds: float, rate: int) -> None:
    (audio,) = takes(engine, plan_of(engine, seconds=seconds, rate=rate, iterations=2))
    assert audio.shape == (round(seconds * rate),)
    assert audio.dtype == np.float32
    assert np.isfinite(audio).all()
    assert -20 <= 20 * np.log10(np.abs(audio).max()) <= -0.1


def test_same_seed_same_sound(engine: Engine) -> None:
    (one,), (two,) = takes(engine, plan_of(engine)), takes(engine, plan_of(engine))
    assert np.array_equal(one, two)


def test_other_seed_other_prompt_other_sound(engine: Engine) -> None:
    (one,) = takes(engine, plan_of(engine))
    for other in (plan_of(engine, seed=6), plan_of(engine, "rain on a window"), plan_of(engine, negative="rain")):
        assert difference_db(one, takes(engine, other)[0]) > -30


def test_a_variant_can_be_made_again_alone(engine: Engine) -> None:
    plan = plan_of(engine, variants=4)
    crowd = takes(engine, plan)
    for variant in (0, 2, 3):
        alone = takes(engine, engine.plan(Request.parse(plan.request_of(variant))))
        assert difference_db(crowd[variant], alone[0]) < -60


def test_company_changes_nothing(engine: Engine) -> None:
    plans = [
        plan_of(engine, "dog barks", seconds=1),
        plan_of(engine, "a very long description of rain falling on a tin roof at night", seconds=3.3, iterations=7),
        plan_of(engine, "door", seconds=0.2, guidance=1, sampler="ddim"),
        plan_of(engine, "wind", seconds=2, negative="birds", variants=2, previews_every=1),
    ]
    together: dict[int, list[np.ndarray]] = {number: [] for number in range(4)}
    ends = []
    for number, event in engine.run_together(plans):
        if isinstance(event, Result):
            together[number].append(event.audio)
        elif isinstance(event, Ended):
            ends.append(number)
    assert sorted(ends) == [0, 1, 2, 3]
    for number, plan in enumerate(plans):
        for one, two in zip(takes(engine, plan), together[number], strict=True):
            assert difference_db(one, two) < -60, plan.prompt


def test_previews_change_nothing_and_are_the_whole_sound(engine: Engine) -> None:
    plain = takes(engine, plan_of(engine, iterations=6))
    events = list(engine.run(plan_of(engine, iterations=6, previews_every=1, rate=22050)))
    previews = [event for event in events if isinstance(event, Preview)]
    assert len(previews) == 5
    assert [event.iteration for event in previews] == [1, 2, 3, 4, 5]
    for preview in previews:
        assert preview.seconds == 1.0
        assert preview.rate == 22050
        quarters = np.abs(preview.audio[: 4 * (22050 // 4)]).reshape(4, -1).max(axis=1)
        assert (quarters > 1e-3).all()  # nowhere silent, not even where nothing is decided
    assert np.array_equal(plain[0], takes(engine, plan_of(engine, iterations=6, previews_every=2))[0])


def test_changed_words_keep_what_is_decided(engine: Engine) -> None:
    def latents(change: bool, weight: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        plan = plan_of(engine, seconds=4, iterations=8)
        job = engine.start(plan, JobControl())
        decided = torch.zeros(plan.tokens, dtype=torch.bool)
        while not job.decided:
            if job.iteration == 4:
                decided = ~job.tracks[0].mask
                if change:
                    job.control.set_prompt("thunder and rain", weight)
            engine.advance([job])
        assert len(job.changes) == change
        assert all(made.iteration == 4 for made in job.changes)
        return job.tracks[0].latents.clone(), decided.clone()

    before, decided = latents(False)
    after, _ = latents(True)
    half, _ = latents(True, 0.5)
    assert 0 < decided.sum() < len(decided)
    for other in (after, half):
        assert torch.equal(before[decided], other[decided])
        assert not torch.allclose(before[~decided], other[~decided])
    assert not torch.allclose(half[~decided], after[~decided])


def test_changes_are_told_with_the_take(engine: Engine) -> None:
    control = JobControl()
    events: list[Event] = []
    for event in engine.run(plan_of(engine), control):
        if isinstance(event, Progress) and event.iteration == 2:
            control.set_prompt("rain", 0.25)
        events.append(event)
    (result,) = [event for event in events if isinstance(event, Result)]
    assert [(change.iteration, change.prompt, change.weight) for change in result.changes] == [(2, "rain", 0.25)]


def test_bad_changes_are_refused_at_once() -> None:
    control = JobControl()
    for prompt, weight in (("", 1.0), ("x" * 3000, 1.0), ("x", 2.0), ("x", float("nan"))):
        with pytest.raises(ImpactError):
            control.set_prompt(prompt, weight)
    assert control.take_wishes() == []


def test_cancel_hits_its_job_and_no_other(engine: Engine) -> None:
    controls = [JobControl(), JobControl()]
    seen: list[tuple[int, Event]] = []
    for number, event in engine.run_together([plan_of(engine), plan_of(engine, seed=9)], controls):
        if isinstance(event, Progress) and event.iteration == 2 and number == 0:
            threading.Thread(target=controls[0].cancel).run()
        seen.append((number, event))
    assert [event for number, event in seen if number == 0][-1] == Ended("cancelled")
    assert not any(isinstance(event, Result) for number, event in seen if number == 0)
    assert any(isinstance(event, Result) for number, event in seen if number == 1)
    assert seen[-1] == (1, Ended("ok"))


def test_cancel_before_the_start_and_between_results(engine: Engine) -> None:
    control = JobControl()
    control.cancel()
    assert [type(event) for event in engine.run(plan_of(engine), control)] == [Started, Ended]
    control = JobControl()
    events = []
    for event in engine.run(plan_of(engine, variants=3), control):
        events.append(event)
        if isinstance(event, Result):
            control.cancel()
    assert sum(isinstance(event, Result) for event in events) == 1
    assert events[-1] == Ended("cancelled")


def test_dropping_the_iterator_stops_the_work(engine: Engine) -> None:
    events = engine.run(plan_of(engine, seconds=4, iterations=60))
    assert isinstance(next(events), Started)
    next(events)
    events.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(events)
    assert len(takes(engine, plan_of(engine))) == 1


class _Broken:
    """A codec whose decoding fails in a chosen way, the rest as it is."""

    def __init__(self, codec: Any, error: Exception, quality: str) -> None:
        self._codec, self._error, self._quality = codec, error, quality

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def decode(self, latents: torch.Tensor, *, seeds: Any, quality: str = "final") -> torch.Tensor:
        if quality == self._quality:
            raise self._error
        return self._codec.decode(latents, seeds=seeds, quality=quality)  # type: ignore[no-any-return]


def test_a_preview_that_fails_harms_nothing(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "codec", _Broken(tiny.codec, RuntimeError("no preview today"), "preview"))
    events = list(Engine(tiny, threads=1).run(plan_of(Engine(tiny, threads=1), previews_every=1)))
    assert not any(isinstance(event, Preview) for event in events)
    assert isinstance(events[-2], Result)
    assert events[-1] == Ended("ok")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory(tiny: Bundle, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(tiny, "codec", _Broken(tiny.codec, error, "final"))
    engine = Engine(tiny, threads=1)
    with pytest.raises(ImpactError) as caught:
        list(engine.run(plan_of(engine)))
    assert (caught.value.code, caught.value.exit_status) == ("out_of_memory", 1)


def test_other_errors_stay_what_they_are(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "codec", _Broken(tiny.codec, RuntimeError("a bug"), "final"))
    engine = Engine(tiny, threads=1)
    with pytest.raises(RuntimeError, match="a bug"):
        list(engine.run(plan_of(engine)))


def test_a_broken_bank_is_a_bad_file(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "extras", {"bank.vectors": torch.zeros(2, 384)})
    with pytest.raises(ImpactError) as caught:
        Engine(tiny, threads=1)
    assert caught.value.code == "bad_file"


def test_global_random_state_is_left_alone(engine: Engine) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    takes(engine, plan_of(engine))
    assert torch.equal(before, torch.get_rng_state())


def test_timing(engine: Engine) -> None:
    rows = list(time_generation(engine, seconds=(0.5, 99.0), iterations=(2, 3), repeats=1))
    assert [(row.seconds, row.iterations) for row in rows] == [(0.5, 2), (0.5, 3)]
    assert all(row.first_preview_s is not None and 0 < row.first_preview_s < row.take_s for row in rows)
    assert machine(engine)["device"] == "cpu"
