"""The network: the paper's parameter counts, what it may look at, and decoding by its rules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from impact_plugin.model.condition import Condition
from impact_plugin.model.config import ConditionKind, ModelConfig, base, large, starter
from impact_plugin.model.decode import (
    ConditionHolder,
    DecodeSettings,
    advance,
    coherent_noise,
    decode,
    start_track,
)
from impact_plugin.model.impact import ImpactModel
from impact_plugin.model.masking import generator, training_mask

KINDS = {"text": ConditionKind(12, 8), "pooled": ConditionKind(12, 1), "near": ConditionKind(6, 10)}
CONFIG = ModelConfig(
    dims=6,
    tokens=40,
    width=32,
    heads=2,
    encoder_layers=1,
    decoder_layers=2,
    head_width=24,
    head_blocks=1,
    conditions=KINDS,
    prediction="velocity",
    dropout=0.0,
)


@pytest.fixture(scope="module")
def model() -> ImpactModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ImpactModel(CONFIG).eval()
        for name, parameter in network.named_parameters():  # random weights that do something: no zero gates
            if "modulation" in name or name.startswith("head.out"):
                torch.nn.init.normal_(parameter, std=0.3)
    return network


def condition(seed: int, batch: int = 2, words: int = 5) -> Condition:
    random = generator(seed)
    return Condition(
        {
            "text": torch.randn(batch, words, 12, generator=random),
            "pooled": torch.randn(batch, 1, 12, generator=random),
        },
        {"text": torch.ones(batch, words, dtype=torch.bool), "pooled": torch.ones(batch, 1, dtype=torch.bool)},
    )


def last(model: ImpactModel, cond: Condition | ConditionHolder, **arguments: object) -> Tensor:
    return list(decode(model, cond, **arguments))[-1].latents  # type: ignore[arg-type]


@pytest.mark.parametrize(("config", "millions"), [(base(), 193), (large(), 427)])
def test_the_papers_sizes_have_the_papers_parameters(config: ModelConfig, millions: int) -> None:
    with torch.device("meta"):
        count = ImpactModel(config).parameter_count()
    assert count == pytest.approx(millions * 1e6, rel=0.01)


def test_the_starter_is_the_same_code_and_small() -> None:
    config = starter(64, 260, KINDS)
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert ImpactModel(config).parameter_count() < 12e6


@pytest.mark.parametrize("change", [{"widht": 3}, {"conditions": {}}, {"prediction": "score"}, {"heads": 5}])
def test_bad_configs_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ModelConfig.from_dict({**CONFIG.to_dict(), **change})


def test_hidden_tokens_are_not_looked_at(model: ImpactModel) -> None:
    latents = torch.randn(2, 20, 6, generator=generator(1))
    hidden = training_mask(torch.tensor([20, 20]), 20, generator(2))
    present = torch.ones_like(hidden)
    first = model.encode(latents, hidden, present, condition(3))
    changed = torch.where(hidden[..., None], torch.full_like(latents, 9.0), latents)
    assert torch.equal(first, model.encode(changed, hidden, present, condition(3)))
    visible = torch.where(hidden[..., None], latents, latents + 1.0)
    assert not torch.allclose(first, model.encode(visible, hidden, present, condition(3)))


def test_padding_and_missing_kinds_change_nothing(model: ImpactModel) -> None:
    latents = torch.randn(1, 12, 6, generator=generator(4))
    hidden = torch.ones(1, 12, dtype=torch.bool)
    present = torch.ones_like(hidden)
    plain = model.encode(latents, hidden, present, condition(5, batch=1))
    padded = model.encode(
        torch.nn.functional.pad(latents, (0, 0, 0, 7), value=3.0),
        torch.nn.functional.pad(hidden, (0, 7)),
        torch.nn.functional.pad(present, (0, 7)),
        condition(5, batch=1),
    )
    assert torch.allclose(plain, padded[:, :12], atol=1e-5)
    cond = condition(5, batch=1)
    absent = Condition(
        {**cond.features, "near": torch.ones(1, 10, 6)}, {**cond.present, "near": torch.zeros(1, 10, dtype=torch.bool)}
    )
    assert torch.allclose(plain, model.encode(latents, hidden, present, absent), atol=1e-5)


def test_the_null_condition_hides_the_words(model: ImpactModel) -> None:
    latents, hidden = torch.zeros(2, 8, 6), torch.ones(2, 8, dtype=torch.bool)
    one = model.encode(latents, hidden, hidden, condition(6).null())
    two = model.encode(latents, hidden, hidden, condition(7).null())
    assert torch.allclose(one, two, atol=1e-6)
    words = model.encode(latents, hidden, hidden, condition(6))
    assert not torch.allclose(one, words, atol=1e-3)


def test_too_long_and_unknown_kinds_are_refused(model: ImpactModel) -> None:
    hidden = torch.ones(1, 41, dtype=torch.bool)
    with pytest.raises(ValueError, match="positions for 40"):
        model.encode(torch.zeros(1, 41, 6), hidden, hidden, condition(1, batch=1))
    with pytest.raises(ValueError, match="no condition 'smell'"):
        model.prefix(Condition({"smell": torch.zeros(1, 1, 3)}, {"smell": torch.ones(1, 1, dtype=torch.bool)}))


def test_decoding_yields_every_iteration_and_keeps_what_is_decided(model: ImpactModel) -> None:
    settings = DecodeSettings(iterations=6, sampler="dpm++", head_steps=3, guidance=2.0, draft_steps=2)
    before = None
    states = list(decode(model, condition(8), tokens=30, seeds=[1, 2], settings=settings, draft=True))
    assert [state.iteration for state in states] == [1, 2, 3, 4, 5, 6]
    for state in states:
        if before is not None:
            decided = ~before.mask
            assert torch.equal(state.latents[decided], before.latents[decided])
            assert int(state.mask.sum()) < int(before.mask.sum())
        undecided = state.latents[state.mask]
        if len(undecided):
            assert float(undecided.abs().mean()) > 0.1  # the draft: the whole sound is there from the start
        before = state
    assert not states[-1].mask.any()


def test_without_a_draft_undecided_tokens_stay_zero(model: ImpactModel) -> None:
    settings = DecodeSettings(iterations=4, sampler="ddim", head_steps=2, guidance=1.0)
    first = next(iter(decode(model, condition(8), tokens=30, seeds=[1, 2], settings=settings)))
    assert float(first.latents[first.mask].abs().max()) == 0.0


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
@pytest.mark.parametrize("order", ["random", "halton"])
def test_a_sample_does_not_depend_on_its_company(model: ImpactModel, sampler: str, order: str) -> None:
    settings = DecodeSettings(iterations=5, sampler=sampler, head_steps=4, guidance=3.0, order=order)  # type: ignore[arg-type]
    cond = condition(9, batch=3)
    together = last(model, cond, tokens=[12, 30, 21], seeds=[4, 5, 6], settings=settings)
    alone = last(model, cond.rows([1]), tokens=30, seeds=[5], settings=settings)
    assert torch.allclose(together[1], alone[0], atol=1e-4)
    other = last(model, cond.rows([1]), tokens=30, seeds=[6], settings=settings)
    assert not torch.allclose(other[0], alone[0], atol=1e-1)


def test_neighbouring_noise_is_as_alike_as_asked() -> None:
    for coherence in (0.0, 0.7, 1.0):
        noise = coherent_noise(4000, 6, coherence, 3)
        assert float((noise[1:] * noise[:-1]).mean()) == pytest.approx(coherence, abs=0.1 if coherence < 1 else 1.0)
        if coherence < 1:
            assert float(noise.std()) == pytest.approx(1.0, abs=0.05)
    rows = coherent_noise(400, 6, 0.9, 3, rows=4)
    assert float((rows[4:] * rows[:-4]).mean()) > 0.7 > 0.3 > abs(float((rows[1:] * rows[:-1])[::4].mean()))


def test_a_track_that_leans_on_a_sketch_comes_out_near_it(model: ImpactModel) -> None:
    sketch = torch.randn(20, 6, generator=generator(20))
    cond = condition(1, batch=1)

    def distance(inspiration: float) -> float:
        settings = DecodeSettings(iterations=3, sampler="ddim", head_steps=4, guidance=1.0, inspiration=inspiration)
        track = start_track(model, tokens=20, seed=3, settings=settings)
        if inspiration:
            track.lean_on(model, sketch)
        while not track.done:
            advance(model, [track], cond)
        return float((track.latents - sketch).norm() / sketch.norm())

    assert distance(0.95) < 0.5 * distance(0.0)


def test_known_tokens_stay_and_the_rest_is_decoded(model: ImpactModel) -> None:
    known = torch.randn(1, 20, 6, generator=generator(10))
    undecided = torch.zeros(1, 20, dtype=torch.bool)
    undecided[0, 5:11] = True
    settings = DecodeSettings(iterations=3, sampler="ddim", head_steps=3)
    states = list(
        decode(model, condition(1, batch=1), tokens=20, seeds=[1], settings=settings, known=known, undecided=undecided)
    )
    assert len(states) == 3
    assert torch.equal(states[-1].latents[~undecided], known[~undecided])
    assert not torch.equal(states[-1].latents[undecided], known[undecided])
    nothing = list(
        decode(
            model,
            condition(1, batch=1),
            tokens=20,
            seeds=[1],
            settings=settings,
            known=known,
            undecided=torch.zeros_like(undecided),
        )
    )
    assert len(nothing) == 1
    assert torch.equal(nothing[0].latents, known)


def test_a_new_condition_changes_only_what_is_undecided(model: ImpactModel) -> None:
    settings = DecodeSettings(iterations=6, sampler="ddim", head_steps=3, guidance=1.0)
    plain = list(decode(model, condition(11), tokens=30, seeds=[1, 2], settings=settings))
    holder = ConditionHolder(condition(11))
    run = decode(model, holder, tokens=30, seeds=[1, 2], settings=settings)
    states = [next(run) for _ in range(3)]
    holder.condition = condition(12)
    states += list(run)
    decided = ~plain[2].mask
    assert torch.equal(states[-1].latents[decided], plain[-1].latents[decided])
    assert not torch.allclose(states[-1].latents[~decided], plain[-1].latents[~decided], atol=1e-2)


def test_annealed_head_steps_and_constant_guidance_run(model: ImpactModel) -> None:
    settings = DecodeSettings(
        iterations=4, sampler="ddpm", head_steps=10, head_steps_last=2, guidance=2.0, guidance_schedule="constant"
    )
    found = last(model, condition(13), tokens=16, seeds=[1, 2], settings=settings)
    assert bool(torch.isfinite(found).all())


def test_training_moves_every_part(model: ImpactModel) -> None:
    network = ImpactModel(CONFIG)
    network.head.zero()
    torch.nn.init.normal_(network.head.out.weight, std=0.1)
    for block in network.head.blocks:
        torch.nn.init.normal_(block.modulation.weight, std=0.1)  # type: ignore[union-attr,arg-type]
    latents = torch.randn(4, 20, 6, generator=generator(14))
    lengths = torch.tensor([20, 10, 15, 20])
    present = torch.arange(20)[None] < lengths[:, None]
    hidden = training_mask(lengths, 20, generator(15))
    cond = condition(16, batch=4)
    near = torch.randn(4, 10, 6, generator=generator(17))
    cond = Condition({**cond.features, "near": near}, {**cond.present, "near": torch.ones(4, 10, dtype=torch.bool)})
    cond = Condition(cond.features, cond.present, torch.tensor([True, False, False, False]))
    network.loss(latents, hidden, present, cond, generator(18), repeats=2).backward()
    still = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or float(parameter.grad.abs().sum()) == 0.0
    ]
    assert still == []


def test_lengths_and_seeds_must_match(model: ImpactModel) -> None:
    with pytest.raises(ValueError, match="differ"):
        next(decode(model, condition(1), tokens=5, seeds=[1], settings=DecodeSettings()))
    with pytest.raises(ValueError, match=r"1\.\.\.40"):
        next(decode(model, condition(1), tokens=[5, 0], seeds=[1, 2], settings=DecodeSettings()))
