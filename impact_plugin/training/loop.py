"""The part of training that every run shares: budget, learning rate, averages, checkpoints, curve.

Knows optimisers and files. Does not know what is trained: a run gives a function from step to loss. Checkpoints are
safetensors beside a JSON file; no pickle is written or read.
"""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from impact_plugin.errors import ImpactError

TENSORS = "checkpoint.safetensors"
STATE = "checkpoint.json"
CURVE = "curve.csv"


@dataclass(frozen=True)
class Budget:
    """How long a run lasts: by steps, by minutes, or whichever ends first. Time spent counts over resumes."""

    steps: int | None = None
    minutes: float | None = None

    def fraction(self, step: int, seconds: float) -> float:
        """Share of the budget that is used, 0...1."""
        parts = [0.0]
        if self.steps:
            parts.append(step / self.steps)
        if self.minutes:
            parts.append(seconds / (60.0 * self.minutes))
        if len(parts) == 1:
            raise ImpactError("bad_argument", "a training run needs a number of steps or of minutes")
        return min(max(parts), 1.0)


def learning_rate_factor(step: int, fraction: float, *, warmup: int = 100, decay_from: float = 0.3) -> float:
    """Linear warm-up, constant, then a cosine to nothing from `decay_from` of the budget on."""
    factor = min((step + 1) / max(warmup, 1), 1.0)
    if fraction > decay_from:
        factor *= 0.5 * (1.0 + math.cos(math.pi * (fraction - decay_from) / (1.0 - decay_from)))
    return max(factor, 1e-3)


class Averages:
    """Exponential moving average of a module's parameters and floating buffers, warmed up in the first steps."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone().float() for name, value in _floating(module)}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in _floating(module):
            self.values[name].lerp_(value.detach().float(), 1.0 - decay)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Inside, the module holds its averages."""
        own = {name: value.detach().clone() for name, value in _floating(module)}
        try:
            with torch.no_grad():
                for name, value in _floating(module):
                    value.copy_(self.values[name])
            yield
        finally:
            with torch.no_grad():
                for name, value in _floating(module):
                    value.copy_(own[name])


def _floating(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, value in module.state_dict(keep_vars=True).items():
        if value.is_floating_point():
            yield name, value


class Interrupt:
    """Turns the first Ctrl-C into a wish to stop after this step; the second one acts as usual."""

    def __init__(self) -> None:
        self.wanted = False
        self._previous: Any = None

    def __enter__(self) -> Interrupt:
        try:
            self._previous = signal.signal(signal.SIGINT, self._handle)
        except ValueError:  # not the main thread: the caller has its own way to stop
            self._previous = None
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        signal.signal(signal.SIGINT, self._previous)

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)


@dataclass
class Progress:
    """What a run tells after each report interval."""

    step: int
    fraction: float
    losses: dict[str, float]
    items_per_second: float
    seconds_left: float


class Run:
    """One training run in one folder: `checkpoint.safetensors`, `checkpoint.json`, `curve.csv`, `curve.png`.

    Args:
        folder: made if missing; a checkpoint in it is resumed.
        module: what is trained.
        optimisers: those that step together.
        budget: when the run ends.
        ema: decay of the averages.
    """

    def __init__(
        self,
        folder: Path,
        module: nn.Module,
        optimisers: list[torch.optim.Optimizer],
        budget: Budget,
        *,
        ema: float = 0.999,
        warmup: int = 100,
        clip: float = 3.0,
    ) -> None:
        self.folder, self.module, self.optimisers, self.budget = folder, module, optimisers, budget
        self.warmup, self.clip = warmup, clip
        self.averages = Averages(module, ema)
        self.step = 0
        self.seconds = 0.0
        self.finished = False
        self.base_rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / STATE).exists():
            self._load()

    def train(
        self,
        loss_of_step: Callable[[int], tuple[Tensor, dict[str, float]]],
        *,
        items_per_step: int,
        report: Callable[[Progress], None] | None = None,
        report_every: int = 20,
        checkpoint_minutes: float = 3.0,
        every: Callable[[int], None] | None = None,
    ) -> bool:
        """Train until the budget is used or Ctrl-C.

        Args:
            loss_of_step: gives the loss to minimise and the figures to log.
            every: called after each report, for samples and validation; it may log with :meth:`log`.

        Returns:
            True when the budget is used, False when interrupted (a checkpoint is there to go on from).
        """
        sums: dict[str, float] = {}
        counted = 0
        last_report = last_save = time.monotonic()
        self.module.train()
        with Interrupt() as interrupt:
            while not self._fraction_used(0.0) >= 1.0 and not interrupt.wanted:
                begun = time.monotonic()
                fraction = self._fraction_used(0.0)
                factor = learning_rate_factor(self.step, fraction, warmup=self.warmup)
                for optimiser, rates in zip(self.optimisers, self.base_rates, strict=True):
                    for group, rate in zip(optimiser.param_groups, rates, strict=True):
                        group["lr"] = rate * factor
                    optimiser.zero_grad(set_to_none=True)
                loss, figures = loss_of_step(self.step)
                if not torch.isfinite(loss):
                    raise ImpactError("internal", f"the loss is not a number at step {self.step}; lower the rate")
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
                for optimiser in self.optimisers:
                    optimiser.step()
                self.averages.update(self.module, self.step)
                self.step += 1
                self.seconds += time.monotonic() - begun
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0.0) + value
                counted += 1
                if self.step % report_every == 0:
                    now = time.monotonic()
                    losses = {name: value / counted for name, value in sums.items()}
                    self._report(losses, items_per_step * counted / max(now - last_report, 1e-9), report)
                    sums, counted = {}, 0
                    if every:
                        every(self.step)
                        self.module.train()
                    if now - last_save > 60 * checkpoint_minutes:
                        self.save()
                        last_save = time.monotonic()
                    last_report = time.monotonic()
        self.finished = self._fraction_used(0.0) >= 1.0
        self.save()
        self.draw()
        return self.finished

    def _fraction_used(self, extra: float) -> float:
        return self.budget.fraction(self.step, self.seconds + extra)

    def _report(self, losses: dict[str, float], speed: float, report: Callable[[Progress], None] | None) -> None:
        fraction = self._fraction_used(0.0)
        left = self.seconds * (1.0 - fraction) / max(fraction, 1e-9)
        self.log({**losses, "items_per_second": speed})
        if report:
            report(Progress(self.step, fraction, losses, speed, left))

    def log(self, figures: dict[str, float]) -> None:
        """Append figures of this step to `curve.csv` (long form: step, seconds, name, value)."""
        path = self.folder / CURVE
        new = not path.exists()
        with open(path, "a", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            if new:
                writer.writerow(["step", "seconds", "name", "value"])
            for name, value in figures.items():
                writer.writerow([self.step, f"{self.seconds:.1f}", name, f"{value:.6g}"])

    def save(self) -> None:
        """Write the checkpoint: module, averages, optimisers."""
        tensors: dict[str, Tensor] = {}
        for name, value in self.module.state_dict().items():
            tensors[f"module.{name}"] = value.detach().cpu().contiguous()
        for name, value in self.averages.values.items():
            tensors[f"ema.{name}"] = value.cpu().contiguous()
        scalars: dict[str, float] = {}
        for number, optimiser in enumerate(self.optimisers):
            for index, entries in optimiser.state_dict()["state"].items():
                for name, value in entries.items():
                    key = f"optimiser.{number}.{index}.{name}"
                    if isinstance(value, Tensor):
                        tensors[key] = value.detach().cpu().contiguous()
                    else:
                        scalars[key] = value
        partial = self.folder / (TENSORS + ".partial")
        save_file(tensors, partial, metadata={"step": str(self.step)})
        os.replace(partial, self.folder / TENSORS)
        state = {"step": self.step, "seconds": self.seconds, "finished": self.finished, "scalars": scalars}
        partial = self.folder / (STATE + ".partial")
        partial.write_text(json.dumps(state), encoding="utf-8")
        os.replace(partial, self.folder / STATE)

    def _load(self) -> None:
        try:
            state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            tensors = load_file(self.folder / TENSORS)
            self.module.load_state_dict(_under(tensors, "module."))
        except (OSError, ValueError, RuntimeError) as error:
            raise ImpactError(
                "bad_file", f"{self.folder}: the checkpoint does not fit this run ({str(error).splitlines()[0]})"
            ) from error
        averages = _under(tensors, "ema.")
        for name in self.averages.values:
            self.averages.values[name] = averages[name].to(self.averages.values[name].device)
        for number, optimiser in enumerate(self.optimisers):
            prefix = f"optimiser.{number}."
            entries: dict[int, dict[str, Any]] = {}
            for key, value in [*_under(tensors, prefix).items(), *_under(state["scalars"], prefix).items()]:
                index, _, name = key.partition(".")
                entries.setdefault(int(index), {})[name] = value
            whole = optimiser.state_dict()
            whole["state"] = entries
            optimiser.load_state_dict(whole)
        self.step, self.seconds = int(state["step"]), float(state["seconds"])

    def draw(self) -> Path | None:
        """Picture of the curve, `curve.png`; None when matplotlib is not installed or nothing was logged yet."""
        if not (self.folder / CURVE).exists():
            return None
        try:
            from impact_plugin.training.curves import draw_curve
        except ImportError:
            return None
        return draw_curve(self.folder / CURVE, self.folder / "curve.png")


def _under(mapping: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in mapping.items() if key.startswith(prefix)}
