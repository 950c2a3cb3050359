"""Training of the generator: masked latents, first without words, then with them (IMPACT sec. 3.4).

Knows features and batches (`features`, `batches`), the model's loss and the optimisers. Does not know audio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from impact_plugin.codec.base import Codec
from impact_plugin.conditions.bank import Bank
from impact_plugin.conditions.build import LENGTH, NEAR, POOLED, TEXT
from impact_plugin.conditions.length import DIMS as LENGTH_DIMS
from impact_plugin.model.config import ConditionKind, ModelConfig, starter
from impact_plugin.model.impact import ImpactModel
from impact_plugin.model.masking import generator, training_mask
from impact_plugin.text.base import TextEncoder
from impact_plugin.training.batches import BatchMaker, BatchSettings
from impact_plugin.training.features import FeatureSet, build_features
from impact_plugin.training.loop import Budget, Progress, Run
from impact_plugin.training.store import SoundStore

TEXT_TOKENS = 32
BANK_TOKENS = 16


@dataclass(frozen=True)
class GeneratorTraining:
    """Settings of a run.

    Attributes:
        optimiser: `muon` (arXiv 2502.16982; matrices of the transformer, AdamW for the rest) or `adamw`.
        rate, matrix_rate: learning rates of AdamW and of Muon.
        unconditional: share of the budget before words are shown (the paper's first stage).
        drop: share of samples under the null condition afterwards.
        repeats: noise samples a token (MAR: 4).
    """

    batches: BatchSettings = field(default_factory=BatchSettings)
    optimiser: Literal["muon", "adamw"] = "muon"
    rate: float = 1e-3
    matrix_rate: float = 2e-3
    weight_decay: float = 0.02
    unconditional: float = 0.03
    drop: float = 0.1
    repeats: int = 2
    ema: float = 0.997
    seed: int = 0
    bf16: bool = False


def starter_config(codec: Codec, text: TextEncoder, seconds_limit: float, *, neighbours: int = 2) -> ModelConfig:
    """The shipped model's sizes for this codec and text encoder."""
    kinds = {
        TEXT: ConditionKind(text.dims, TEXT_TOKENS),
        POOLED: ConditionKind(text.dims, 1),
        LENGTH: ConditionKind(LENGTH_DIMS, 1),
    }
    if neighbours:
        kinds[NEAR] = ConditionKind(codec.dims, neighbours * BANK_TOKENS)
    tokens = -(-int(seconds_limit * codec.rate) // codec.samples_per_token)
    return starter(codec.dims, tokens, kinds)


def make_optimisers(model: nn.Module, settings: GeneratorTraining) -> list[torch.optim.Optimizer]:
    """No weight decay on biases, norms, embeddings and the head (MAR); Muon takes the transformer's matrices."""
    matrices, plain, bare = [], [], []
    for name, parameter in model.named_parameters():
        in_blocks = parameter.ndim == 2 and ("encoder1." in name or "encoder2." in name)
        if in_blocks and settings.optimiser == "muon":
            matrices.append(parameter)
        elif parameter.ndim < 2 or "positions" in name or name.startswith("head."):
            bare.append(parameter)
        else:
            plain.append(parameter)
    groups = [
        {"params": plain, "weight_decay": settings.weight_decay},
        {"params": bare, "weight_decay": 0.0},
    ]
    optimisers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.95))]
    if matrices:
        optimisers.append(
            torch.optim.Muon(
                matrices,
                lr=settings.matrix_rate,
                weight_decay=settings.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimisers


def validation_loss(model: ImpactModel, maker: BatchMaker, weights: Tensor, *, batches: int = 8) -> float:
    """Mean loss over some fixed batches of another split, with fixed masks and noise."""
    model.eval()
    total = 0.0
    with torch.no_grad():
        for step in range(batches):
            batch = maker.batch(step)
            random = generator(maker.seed, 20, step)
            hidden = training_mask(batch.lengths, batch.latents.shape[1], random)
            device = next(model.parameters()).device
            total += float(
                model.loss(
                    batch.latents.to(device),
                    hidden.to(device),
                    batch.present.to(device),
                    batch.condition.to(device),
                    random,
                    weights=weights,
                )
            )
    return total / batches


@dataclass
class Trained:
    """What a run leaves: the model with averaged weights, and its bank of neighbours."""

    model: ImpactModel
    bank: Bank
    finished: bool


def train_generator(
    data: Path,
    out: Path,
    codec: Codec,
    text: TextEncoder,
    *,
    seconds_limit: float,
    settings: GeneratorTraining | None = None,
    config: ModelConfig | None = None,
    budget: Budget,
    device: str = "cpu",
    report: Callable[[Progress], None] | None = None,
    samples: Callable[[ImpactModel, Bank, int], None] | None = None,
    samples_every: int = 500,
    encoding: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train on the data set `data` in the run folder `out`; resumes a checkpoint found there.

    Args:
        samples: called with the averaged model, the bank and the step, every `samples_every` steps.
        encoding: progress of the data set's encoding, (done, all).
    """
    settings = settings or GeneratorTraining()
    config = config or starter_config(codec, text, seconds_limit)
    features: FeatureSet = build_features(
        SoundStore(data), codec, text, limit_tokens=config.tokens * 3, progress=encoding
    )
    bank = features.bank(features.rows("train"), BANK_TOKENS)
    per_second = codec.tokens_per_second
    maker = BatchMaker(features, bank, config, per_second, settings=settings.batches, seed=settings.seed)
    has_valid = len(features.rows("valid")) > 0
    valid = (
        BatchMaker(features, bank, config, per_second, split="valid", settings=settings.batches, seed=settings.seed)
        if has_valid
        else None
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = ImpactModel(config).to(device)
    run = Run(out, model, make_optimisers(model, settings), budget, ema=settings.ema, warmup=60)

    weights = codec.dim_weights().to(device)

    def loss_of_step(step: int) -> tuple[Tensor, dict[str, float]]:
        batch = maker.batch(step)
        random = generator(settings.seed, 12, step)
        hidden = training_mask(batch.lengths, batch.latents.shape[1], random)
        first_stage = budget.fraction(run.step, run.seconds) < settings.unconditional
        drop = 1.0 if first_stage else settings.drop
        condition = ImpactModel.drop_conditions(batch.condition, drop, random).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
            loss = model.loss(
                batch.latents.to(device),
                hidden.to(device),
                batch.present.to(device),
                condition,
                random,
                repeats=settings.repeats,
                weights=weights,
            )
        return loss, {"loss": float(loss.detach()), "sounds": float(len(batch.lengths))}

    def every(step: int) -> None:
        if valid is not None and step % 100 == 0:
            with run.averages.applied(model), torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
                run.log({"valid_loss": validation_loss(model, valid, weights)})
        if samples is not None and step % samples_every == 0:
            with run.averages.applied(model):
                model.eval()
                samples(model, bank, step)
            run.draw()

    finished = run.train(loss_of_step, items_per_step=1, report=report, report_every=20, every=every)
    with torch.no_grad():
        state = model.state_dict()
        for name, value in run.averages.values.items():
            state[name].copy_(value)
    return Trained(model.eval(), bank, finished)
