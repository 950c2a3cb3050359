"""Training for real, on a few seconds of sound: losses fall, runs resume exactly, bundles come out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from impact_plugin.codec.starter import StarterCodec, StarterConfig
from impact_plugin.errors import ImpactError
from impact_plugin.model.config import ConditionKind, ModelConfig
from impact_plugin.text.minilm import MiniLM
from impact_plugin.training.batches import BatchMaker, BatchSettings
from impact_plugin.training.codec import CodecTraining, train_codec
from impact_plugin.training.curves import read_curve
from impact_plugin.training.features import build_features, family, nearest_sounds
from impact_plugin.training.generator import GeneratorTraining, train_generator
from impact_plugin.training.loop import Averages, Budget, Progress, Run, learning_rate_factor
from impact_plugin.training.prepare import RATE
from impact_plugin.training.store import Sound, SoundStore

TINY_CODEC = StarterConfig(dims=8, frame_width=16, token_width=16, frame_blocks=1, token_blocks=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve sounds of three kinds: low hums, high beeps, noise bursts."""
    folder = tmp_path_factory.mktemp("data")
    store = SoundStore(folder)
    random = np.random.default_rng(0)
    sounds = []
    for number in range(12):
        kind = ("hum", "beep", "burst")[number % 3]
        time = np.arange(int((0.3 + 0.1 * number) * RATE)) / RATE
        wave = {
            "hum": np.sin(2 * np.pi * (80 + number) * time),
            "beep": np.sin(2 * np.pi * (2000 + 10 * number) * time),
            "burst": random.normal(size=len(time)) * np.exp(-6 * time) * 0.2,
        }[kind]
        store.write_audio(f"s{number}", (0.5 * wave).astype(np.float32), RATE)
        sounds.append(
            Sound(
                id=f"s{number}",
                file=f"audio/s{number}.flac",
                seconds=len(time) / RATE,
                kind="ui",
                captions=(f"{kind} number {number}", kind),
                ucs="",
                loop=False,
                license="CC0-1.0",
                license_ok=number != 11,
                split="valid" if number in (9, 10) else "train",
                source=f"pack:{kind}/take_{number}.wav",
            )
        )
    store.write_index(sounds)
    return folder


@pytest.fixture(scope="module")
def codec(data: Path, tmp_path_factory: pytest.TempPathFactory) -> StarterCodec:
    out = tmp_path_factory.mktemp("codec")
    settings = CodecTraining(batch=4, tokens=8)
    return train_codec(data, out, config=TINY_CODEC, settings=settings, budget=Budget(steps=4))


def tiny_model(codec: StarterCodec) -> ModelConfig:
    return ModelConfig(
        dims=codec.dims,
        tokens=30,
        width=32,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        head_width=32,
        head_blocks=1,
        conditions={
            "text": ConditionKind(384, 8),
            "pooled": ConditionKind(384, 1),
            "length": ConditionKind(32, 1),
            "near": ConditionKind(codec.dims, 32),
        },
        prediction="velocity",
        dropout=0.0,
    )


def test_the_codec_gives_unit_variance_latents_and_the_right_lengths(codec: StarterCodec, data: Path) -> None:
    store = SoundStore(data)
    latents = []
    for sound in store.read_index():
        audio, _ = store.read_audio(sound)
        found = codec.encode(torch.from_numpy(audio)[None])
        assert found.shape == (1, -(-len(audio) // codec.samples_per_token), codec.dims)
        latents.append(found[0])
        assert codec.decode(found, seeds=[1]).shape == (1, found.shape[1] * codec.samples_per_token)
    spread = torch.cat(latents).std(dim=0)
    assert 0.3 < float(spread.mean()) < 3.0


def test_the_codec_starts_from_principal_components_and_so_is_good_at_once(codec: StarterCodec, data: Path) -> None:
    store = SoundStore(data)
    audio, _ = store.read_audio(store.read_index()[0])
    frames = codec.to_frames(torch.from_numpy(audio)[None])
    mean, _ = codec.autoencoder.decode(codec.autoencoder.encode(frames))
    error = float((mean - frames).abs().mean().detach()) * codec.SCALE_DB
    assert error < 6.0  # a codec that has only seen noise is 20 dB away


def test_decoding_is_seeded_and_a_part_is_like_the_whole(codec: StarterCodec, data: Path) -> None:
    store = SoundStore(data)
    audio, _ = store.read_audio(store.read_index()[6])
    latents = codec.encode(torch.from_numpy(audio)[None]).repeat(2, 1, 1)
    both = codec.decode(latents, seeds=[3, 4])
    alone = codec.decode(latents[:1], seeds=[4])
    assert torch.allclose(both[1], alone[0], atol=1e-3)
    assert not torch.allclose(both[0], both[1], atol=1e-2)
    part = codec.decode_part(latents[:1], 4, 9, seeds=[4])
    assert part.shape == (1, 5 * codec.samples_per_token)
    assert part.abs().max() > 0.05


def test_features_know_captions_lengths_and_neighbours(codec: StarterCodec, data: Path) -> None:
    features = build_features(SoundStore(data), codec, MiniLM(max_tokens=8), limit_tokens=60)
    again = build_features(SoundStore(data), codec, MiniLM(max_tokens=8), limit_tokens=60)
    assert torch.equal(features.latents, again.latents)
    train = features.rows("train")
    assert 11 not in train.tolist()  # its licence is not fit for release
    bank = features.bank(train, 16)
    assert bank.sounds == len(train)
    assert int(bank.offsets.diff().max()) <= 16
    places, kin = nearest_sounds(features, train, count=4)
    for sound in range(9):
        caption = int(features.captions.first[sound])
        owners = train[places[caption]].tolist()
        assert sound not in owners
        assert owners[0] % 3 == sound % 3  # the nearest is of the same kind
        assert bool(kin[caption, 0])
    found = bank.similarities(MiniLM().encode(["burst"]).pooled)[0]
    assert int(train[int(found.argmax())]) % 3 == 2


def test_families_are_told_by_the_path_without_numbers() -> None:
    base = Sound("a", "f", 1.0, "ui", (), "", False, "", True, "train", "pack:dir/door_01.wav")
    other = Sound("b", "f", 1.0, "ui", (), "", False, "", True, "train", "pack:dir/door_2.ogg")
    third = Sound("c", "f", 1.0, "ui", (), "", False, "", True, "train", "pack:dir/bell_2.ogg")
    assert family(base) == family(other) != family(third)


def test_batches_are_reproducible_and_hold_their_lengths(codec: StarterCodec, data: Path) -> None:
    features = build_features(SoundStore(data), codec, MiniLM(max_tokens=8), limit_tokens=60)
    bank = features.bank(features.rows("train"), 16)

    def maker() -> BatchMaker:
        settings = BatchSettings(positions=600, most=6)
        return BatchMaker(features, bank, tiny_model(codec), codec.tokens_per_second, settings=settings, seed=3)

    first, second = maker(), maker()
    for step in (0, 5, 30):
        one, two = first.batch(step), second.batch(step)
        assert torch.equal(one.latents, two.latents)
        assert torch.equal(one.condition.features["near"], two.condition.features["near"])
        assert int(one.lengths.max()) == one.latents.shape[1] <= 30
        assert one.latents.shape[0] <= 6
    assert not torch.equal(first.batch(1).lengths, first.batch(2).lengths) or not torch.equal(
        first.batch(1).latents, first.batch(2).latents
    )


def test_a_generator_learns_and_resumes_to_the_same_weights(codec: StarterCodec, data: Path, tmp_path: Path) -> None:
    text = MiniLM(max_tokens=8)
    settings = GeneratorTraining(batches=BatchSettings(positions=600, most=6), optimiser="muon", unconditional=0.2)

    def train(out: Path, steps: int) -> dict[str, Tensor]:
        done = train_generator(
            data, out, codec, text, seconds_limit=1.3, settings=settings, config=tiny_model(codec),
            budget=Budget(steps=steps),
        )  # fmt: skip
        assert done.finished
        return done.model.state_dict()

    whole = train(tmp_path / "whole", 24)
    # The budget shapes the learning rate, so the interrupted run must have had the same budget.
    state = tmp_path / "parts"
    stop_after = 11

    class StoppedError(Exception):
        pass

    def report(progress: Progress) -> None:
        if progress.step >= stop_after:
            raise StoppedError

    import impact_plugin.training.generator as module

    class Reporting(Run):
        def train(self, *arguments: object, **keywords: object) -> bool:  # type: ignore[override]
            keywords["report_every"] = 1
            keywords["checkpoint_minutes"] = 0.0
            return super().train(*arguments, **keywords)  # type: ignore[arg-type]

    patched = pytest.MonkeyPatch()
    patched.setattr(module, "Run", Reporting)
    with pytest.raises(StoppedError):
        train_generator(
            data, state, codec, text, seconds_limit=1.3, settings=settings, config=tiny_model(codec),
            budget=Budget(steps=24), report=report,
        )  # fmt: skip
    patched.undo()
    assert 0 < json.loads((state / "checkpoint.json").read_text())["step"] < 24
    resumed = train(state, 24)
    for name, value in whole.items():
        assert torch.allclose(value, resumed[name], atol=1e-5), name
    curve = read_curve(tmp_path / "whole" / "curve.csv")
    assert "loss" in curve
    assert (tmp_path / "whole" / "curve.png").stat().st_size > 1000


def test_a_run_fits_a_line(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    x = torch.randn(64, 3)
    y = x @ torch.tensor([[1.0], [2.0], [-1.0]])
    run = Run(tmp_path, module, [torch.optim.Adam(module.parameters(), lr=0.05)], Budget(steps=150), warmup=5)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        value = (module(x) - y).square().mean()
        return value, {"loss": float(value.detach())}

    told: list[Progress] = []
    assert run.train(loss, items_per_step=64, report=told.append)
    assert told[-1].losses["loss"] < 0.05 < told[0].losses["loss"]
    assert told[-1].fraction > 0.9
    with run.averages.applied(module):
        averaged = module.weight.detach().clone()
    assert torch.allclose(averaged, module.weight, atol=0.2)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    module = nn.Linear(1, 1)
    run = Run(tmp_path, module, [torch.optim.Adam(module.parameters())], Budget(steps=5))
    with pytest.raises(ImpactError, match="not a number at step 0"):
        run.train(lambda step: (module.weight.sum() * float("nan"), {}), items_per_step=1)


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    module = nn.Linear(2, 1)
    optimiser = torch.optim.Adam(module.parameters())
    Run(tmp_path, module, [optimiser], Budget(steps=1)).save()
    other = nn.Linear(3, 1)
    with pytest.raises(ImpactError, match="does not fit this run"):
        Run(tmp_path, other, [torch.optim.Adam(other.parameters())], Budget(steps=1))


def test_the_learning_rate_warms_up_and_ends_near_nothing() -> None:
    rates = [learning_rate_factor(step, step / 1000, warmup=100) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == 1.0
    assert rates[-1] < 0.01
    assert rates[200] == 1.0


def test_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(ImpactError, match="number of steps or of minutes"):
        Budget().fraction(1, 1.0)


def test_averages_follow_and_leave_the_module_as_it_was() -> None:
    module = nn.Linear(2, 2)
    averages = Averages(module, 0.5)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1.0)
    averages.update(module, 1000)
    with averages.applied(module):
        assert torch.allclose(module.weight, before + 0.5)
    assert torch.allclose(module.weight, before + 1.0)
