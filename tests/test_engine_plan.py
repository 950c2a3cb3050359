"""Plans: what a request leaves open is answered by the bundle, and what cannot be done is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from impact_plugin.engine.engine import Engine
from impact_plugin.engine.plan import choose_seconds, decode_settings, tokens_of, variant_seed
from impact_plugin.errors import ImpactError
from impact_plugin.request import SEEDS, Request

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle


@pytest.fixture(scope="module")
def engine(tiny: Bundle) -> Engine:
    return Engine(tiny, threads=1)


def request(**keys: Any) -> Request:
    return Request.parse({"prompt": "dog barks", **keys})


def test_bundle_fills_in(engine: Engine) -> None:
    plan = engine.plan(request())
    assert (plan.rate, plan.iterations, plan.guidance, plan.model) == (16000, 4, 2.0, "tiny")
    assert 0 < plan.seconds <= engine.seconds_limit
    assert plan.frames == round(plan.seconds * 16000)
    assert plan.tokens * engine.bundle.codec.samples_per_token >= plan.seconds * 16000
    assert plan.previews_every is None


def test_request_wins(engine: Engine) -> None:
    plan = engine.plan(
        request(seconds=1.5, iterations=6, guidance=1, rate=48000, order="halton", sampler="ddim", head_steps=7)
    )
    assert (plan.seconds, plan.iterations, plan.guidance, plan.rate, plan.frames) == (1.5, 6, 1.0, 48000, 72000)
    assert (plan.settings.order, plan.settings.sampler, plan.settings.head_steps) == ("halton", "ddim", 7)


def test_seeds(engine: Engine) -> None:
    drawn = {engine.plan(request()).seed for _ in range(8)}
    assert len(drawn) > 1
    assert all(0 <= seed < SEEDS for seed in drawn)
    assert engine.plan(request(seed=SEEDS - 1, variants=3)).seeds == (SEEDS - 1, 0, 1)
    assert [variant_seed(7, variant) for variant in range(3)] == [7, 8, 9]


def test_too_long_names_the_limit(engine: Engine) -> None:
    assert engine.plan(request(seconds=4)).seconds == 4
    with pytest.raises(ImpactError) as caught:
        engine.plan(request(seconds=4.1))
    assert (caught.value.code, caught.value.field) == ("bad_argument", "seconds")
    assert "at most 4" in caught.value.text
    assert "tiny" in caught.value.text


@pytest.mark.parametrize(
    "keys", [{"loop": 1}, {"bars": 4, "bpm": 120}, {"verb": "vary"}, {"source": "a.wav"}, {"amount": 0.5}]
)
def test_what_is_not_built_yet(engine: Engine, keys: dict[str, Any]) -> None:
    with pytest.raises(ImpactError) as caught:
        engine.plan(request(**keys))
    assert caught.value.code == "unsupported"
    assert "not in this version" in caught.value.text


def test_a_preset_without_its_words_is_refused(engine: Engine) -> None:
    with pytest.raises(ImpactError) as caught:
        engine.plan(Request.parse({"preset": "door"}))
    assert caught.value.field == "prompt"


def test_previews(engine: Engine) -> None:
    assert engine.plan(request(preview=1, iterations=24, seconds=4)).previews_every == 4
    assert engine.plan(request(preview=1, iterations=3)).previews_every == 1
    assert engine.plan(request(previews_every=5)).previews_every == 5


def test_iterations_never_exceed_tokens(engine: Engine) -> None:
    plan = engine.plan(request(seconds=0.1, iterations=64))
    assert plan.iterations == plan.tokens == 2


def test_request_of_a_variant_is_complete(engine: Engine) -> None:
    plan = engine.plan(request(variants=3, seed=5, preset="x", label="mine", gain_db=-3))
    again = engine.plan(Request.parse(plan.request_of(2)))
    assert (again.seeds, again.settings, again.finish) == ((7,), plan.settings, plan.finish)
    assert (again.seconds, again.rate, again.prompt) == (plan.seconds, plan.rate, plan.prompt)
    assert again.request.label == "mine"
    assert again.request.preset is None


def test_lengths() -> None:
    assert [tokens_of(seconds, 25.0) for seconds in (0.01, 0.04, 0.041, 1.0, 10.0)] == [1, 1, 2, 25, 250]
    assert choose_seconds(None, None, 10.0) == 2.0
    assert choose_seconds(None, 3, 10.0) == 3.0
    assert choose_seconds(99.0, 3, 10.0) == 10.0
    assert choose_seconds(0.001, 3, 10.0) == 0.3


def test_defaults_of_a_bundle_are_checked() -> None:
    settings = decode_settings(Request.parse({"prompt": "x"}), {"iterations": "12", "head_steps_last": 5, "other": 1})
    assert (settings.iterations, settings.head_steps_last) == (12, 5)
    with pytest.raises(ImpactError) as caught:
        decode_settings(Request.parse({"prompt": "x"}), {"iterations": 0})
    assert caught.value.code == "bad_file"
    fewer = decode_settings(Request.parse({"prompt": "x", "head_steps": 3}), {"head_steps_last": 5})
    assert (fewer.head_steps, fewer.head_steps_last) == (3, 3)
