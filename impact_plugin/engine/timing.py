"""How long the engine takes: seconds to the first preview and to the take.

Knows the engine's events and a clock. Does not know files or the command line.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from impact_plugin.engine.engine import Engine
from impact_plugin.engine.events import Preview, Result
from impact_plugin.request import Request

PROMPT = "glass bottle shatters on concrete"


@dataclass(frozen=True)
class Timing:
    """One measurement, the median over its repeats. Times in seconds, from the request on, the model being loaded."""

    seconds: float
    iterations: int
    variants: int
    first_preview_s: float | None
    take_s: float
    realtime: float
    repeats: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def time_generation(
    engine: Engine,
    *,
    seconds: Sequence[float] = (2.0, 10.0),
    iterations: Sequence[int] = (8, 16, 32),
    variants: int = 1,
    repeats: int = 3,
) -> Iterator[Timing]:
    """Measure each combination, lengths over the bundle's limit left out; one unmeasured run warms up.

    Args:
        seconds: lengths of takes; iterations: of decoding; variants: in one batch; repeats: of each.
    """
    _once(engine, min(1.0, engine.seconds_limit), 2, 1)
    for length in seconds:
        if length > engine.seconds_limit:
            continue
        for count in iterations:
            runs = [_once(engine, length, count, variants) for _ in range(max(repeats, 1))]
            previews = [first for first, _ in runs if first is not None]
            take = median(last for _, last in runs)
            yield Timing(
                seconds=length,
                iterations=count,
                variants=variants,
                first_preview_s=round(median(previews), 4) if previews else None,
                take_s=round(take, 4),
                realtime=round(length * variants / take, 2),
                repeats=len(runs),
            )


def machine(engine: Engine) -> dict[str, Any]:
    """What the figures were measured on."""
    device = next(engine.bundle.model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "model": engine.bundle.info.name,
        "device": str(device),
        "processor": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _once(engine: Engine, seconds: float, iterations: int, variants: int) -> tuple[float | None, float]:
    """Seconds to the first preview and to the last result."""
    request = Request.parse(
        {
            "prompt": PROMPT,
            "seconds": seconds,
            "iterations": iterations,
            "variants": variants,
            "seed": 1,
            "preview": True,
        }
    )
    first: float | None = None
    last = 0.0
    began = time.perf_counter()
    for event in engine.run(engine.plan(request)):
        if isinstance(event, Preview) and first is None:
            first = time.perf_counter() - began
        elif isinstance(event, Result):
            last = time.perf_counter() - began
    return first, last
