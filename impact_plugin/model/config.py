"""Sizes of a model: the paper's `base` and `large`, and the shipped `starter`.

Knows numbers only. `tokens` is the longest sequence a model has positions for; shorter ones use the first of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Prediction = Literal["epsilon", "velocity"]


@dataclass(frozen=True)
class ConditionKind:
    """One kind of prefix tokens: features of `dims` numbers, at most `length` of them."""

    dims: int
    length: int


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the shapes of an `ImpactModel`.

    Attributes:
        dims: size of a latent token (paper: 128).
        tokens: longest sequence (paper: 256 for 10.24 s).
        grid_rows: frequency rows of a token grid, tokens running time-major (paper: 4; ours: 1).
        width, heads: of the transformer; encoder_layers: Enc1; decoder_layers: Enc2.
        head_width, head_blocks: of the diffusion MLP.
        conditions: kinds of prefix tokens by name, in the order of the prefix.
        prediction: what the head predicts beside the variance: the noise (paper) or the velocity.
        diffusion_steps: T_max of the head's process.
        dropout: of attention outputs and MLPs.
    """

    dims: int
    tokens: int
    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    head_width: int
    head_blocks: int
    conditions: Mapping[str, ConditionKind]
    grid_rows: int = 1
    mlp_ratio: float = 4.0
    prediction: Prediction = "epsilon"
    diffusion_steps: int = 1000
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        if not self.conditions:
            raise ValueError("a model needs at least one kind of condition")
        if self.prediction not in ("epsilon", "velocity"):
            raise ValueError(f"prediction must be epsilon or velocity, not {self.prediction!r}")
        if self.tokens % self.grid_rows:
            raise ValueError(f"tokens {self.tokens} is no multiple of grid_rows {self.grid_rows}")

    @property
    def prefix(self) -> int:
        """Longest prefix, L in the paper (78)."""
        return sum(kind.length for kind in self.conditions.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a bundle's `bundle.yaml`."""
        data = asdict(self)
        data["conditions"] = {name: asdict(kind) for name, kind in self.conditions.items()}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: on an unknown key, a missing one or a value that does not fit.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r} in the generator's config")
        try:
            kinds = {str(name): ConditionKind(**kind) for name, kind in dict(data["conditions"]).items()}
            return cls(**{**data, "conditions": kinds})
        except (TypeError, KeyError) as error:
            raise ValueError(f"the generator's config does not fit: {error}") from error


#: The paper's text prefix: 77 FLAN-T5-large tokens and one CLAP vector (IMPACT sec. 3; lengths inferred).
PAPER_CONDITIONS: Mapping[str, ConditionKind] = {"text": ConditionKind(1024, 77), "clap": ConditionKind(512, 1)}


def base() -> ModelConfig:
    """IMPACT base, 193 M parameters."""
    return ModelConfig(
        dims=128,
        tokens=256,
        grid_rows=4,
        width=768,
        heads=12,
        encoder_layers=12,
        decoder_layers=12,
        head_width=1024,
        head_blocks=3,
        conditions=PAPER_CONDITIONS,
    )


def large() -> ModelConfig:
    """IMPACT large, 427 M parameters."""
    return ModelConfig(
        dims=128,
        tokens=256,
        grid_rows=4,
        width=1024,
        heads=16,
        encoder_layers=16,
        decoder_layers=16,
        head_width=1024,
        head_blocks=3,
        conditions=PAPER_CONDITIONS,
    )


def starter(dims: int, tokens: int, conditions: Mapping[str, ConditionKind]) -> ModelConfig:
    """The shipped model: the same code, about 8 M parameters, trained on two CPU cores."""
    return ModelConfig(
        dims=dims,
        tokens=tokens,
        width=256,
        heads=4,
        encoder_layers=3,
        decoder_layers=4,
        head_width=384,
        head_blocks=3,
        conditions=conditions,
        prediction="velocity",
        dropout=0.0,
    )
