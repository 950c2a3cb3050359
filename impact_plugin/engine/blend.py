"""Between two prompts: one condition that follows both.

Knows the generator's kinds of condition and which of them may be mixed. Does not know how conditions are made.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from impact_plugin.conditions.build import POOLED, TEXT
from impact_plugin.model.condition import Condition


def blend(first: Condition, second: Condition, weight: float) -> Condition:
    """Between two conditions of the same batch size: 0 is the first, 1 the second.

    Words are interpolated, the sentence vector keeps its norm; where only one has a token, that token stays. What
    cannot be mixed (lengths, neighbouring sounds) comes from the one with the larger weight.
    """
    if weight <= 0.0 or weight >= 1.0:
        return second if weight >= 1.0 else first
    joined = Condition.join([first, second])
    batch = first.batch
    values: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    for name, both in joined.features.items():
        marks = joined.present[name]
        one, two = both[:batch], both[batch:]
        if name not in (TEXT, POOLED):
            values[name] = two if weight >= 0.5 else one
            present[name] = marks[batch:] if weight >= 0.5 else marks[:batch]
            continue
        has_one, has_two = marks[:batch, :, None], marks[batch:, :, None]
        mixed = torch.lerp(one, two, weight)
        if name == POOLED:
            mixed = nn.functional.normalize(mixed, dim=-1)
        values[name] = torch.where(has_one & has_two, mixed, torch.where(has_two, two, one))
        present[name] = marks[:batch] | marks[batch:]
    return Condition(values, present)
