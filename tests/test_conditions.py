"""Conditions: neighbours by words, lengths, and what the bank keeps when it is stored small."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from impact_plugin.conditions.bank import PREFIX, Bank, averaged
from impact_plugin.conditions.build import MARGIN, draw_neighbours
from impact_plugin.conditions.length import DIMS, length_features
from impact_plugin.model.masking import generator


def some_bank(sounds: int = 40, text_dims: int = 64, dims: int = 6) -> Bank:
    random = generator(1)
    spans = torch.randint(1, 9, (sounds,), generator=random)
    names = nn.functional.normalize(torch.randn(sounds // 2, text_dims, generator=random), dim=-1)
    own = nn.functional.normalize(torch.randn(sounds, text_dims, generator=random), dim=-1)
    return Bank(
        vectors=torch.cat([names.repeat(2, 1), own]),  # two sounds share each name
        owners=torch.cat([torch.arange(sounds), torch.arange(sounds)]),
        latents=torch.randn(int(spans.sum()), dims, generator=random),
        offsets=torch.cat([torch.zeros(1, dtype=torch.long), spans.cumsum(0)]),
        seconds=spans * 0.1,
        tokens=8,
    )


def test_a_sound_is_as_near_as_its_best_caption() -> None:
    bank = some_bank()
    found = bank.similarities(bank.vectors[[45, 3]])
    assert int(found[0].argmax()) == 5  # caption 45 is sound 5's own
    assert set(found[1].topk(2).indices.tolist()) == {3, 23}  # a name that two sounds share
    assert float(found.max()) == pytest.approx(1.0, abs=1e-5)


def test_a_stored_bank_finds_the_same_sounds() -> None:
    bank = some_bank()
    again = Bank.from_tensors(bank.to_tensors())
    assert again is not None
    assert again.vectors.shape[0] == 60  # the shared names are stored once
    queries = nn.functional.normalize(bank.vectors + 0.05 * torch.randn(80, 64, generator=generator(2)), dim=-1)
    before, after = bank.similarities(queries), again.similarities(queries)
    assert float((before - after).abs().max()) < 0.1
    assert float((before.argmax(1) == after.argmax(1)).float().mean()) > 0.6  # names shared by two sounds may swap
    assert float((bank.latents.clamp(-4, 4) - again.latents).abs().max()) < 1 / 32
    assert torch.equal(again.compact().vectors, again.vectors)


@pytest.mark.parametrize("broken", ["vectors", "offsets", "owners", "rows", "projection"])
def test_a_bank_whose_tensors_do_not_fit_is_refused(broken: str) -> None:
    tensors = some_bank().to_tensors()
    tensors[PREFIX + broken] = tensors[PREFIX + broken][..., :-1]
    with pytest.raises((ValueError, RuntimeError)):
        Bank.from_tensors(tensors)


def test_a_bank_without_a_tensor_is_refused_and_none_is_none() -> None:
    tensors = some_bank().to_tensors()
    del tensors[PREFIX + "seconds"]
    with pytest.raises(ValueError, match=r"bank\.seconds"):
        Bank.from_tensors(tensors)
    assert Bank.from_tensors({}) is None


def test_features_lie_in_their_slots() -> None:
    bank = some_bank()
    features, present = bank.features([4, 7], 3)
    assert features.shape == (24, 6)
    length = int(bank.offsets[5] - bank.offsets[4])
    assert torch.equal(features[:length], bank.latents[int(bank.offsets[4]) : int(bank.offsets[5])])
    assert present[:8].sum() == length
    assert not present[16:].any()


def test_long_sounds_are_averaged_evenly() -> None:
    latents = torch.arange(20.0)[:, None].repeat(1, 3)
    found = averaged(latents, 8)
    assert found.shape == (8, 3)
    assert bool((found.diff(dim=0) > 0).all())
    assert float(found[0, 0]) == pytest.approx(1.0)  # tokens 0, 1 and 2
    assert torch.equal(averaged(latents, 20), latents)


def test_seeds_draw_among_the_near_ones_only() -> None:
    similarities = torch.zeros(50)
    similarities[[3, 9, 11, 20]] = torch.tensor([0.9, 0.88, 0.85, 0.9 - MARGIN - 0.05])
    drawn = {tuple(draw_neighbours(similarities, 2, seed)) for seed in range(30)}
    assert {place for pair in drawn for place in pair} == {3, 9, 11}
    assert len(drawn) == 3
    assert draw_neighbours(similarities, 2, 4) == draw_neighbours(similarities, 2, 4)


def test_length_features_tell_lengths_apart() -> None:
    seconds = torch.tensor([0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 10.0])
    found = length_features(seconds, seconds.flip(0))
    assert found.shape == (7, 1, DIMS)
    assert float(found.abs().max()) <= 1.0
    distances = torch.cdist(found[:, 0], found[:, 0]) + 10 * torch.eye(7)
    assert float(distances.min()) > 0.5
