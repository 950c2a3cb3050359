"""What a text encoder is: prompts in, token features and one pooled vector a prompt out.

Knows shapes only. Does not know which networks exist (see :mod:`impact_plugin.text.kinds`), where weights lie, or what
the features are used for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """The features of a batch of prompts.

    Attributes:
        tokens: (batch, length, dims) float32, last hidden states; zeros where ``mask`` is False.
        mask: (batch, length) bool, True = real token.
        pooled: (batch, dims) float32, unit norm.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor

    def __len__(self) -> int:
        return int(self.tokens.shape[0])

    def to(self, device: torch.device | str) -> TextFeatures:
        """The same features on another device."""
        return TextFeatures(self.tokens.to(device), self.mask.to(device), self.pooled.to(device))

    def row(self, index: int) -> TextFeatures:
        """One prompt's features without its padding: tokens (1, own length, dims)."""
        length = int(self.mask[index].sum())
        return TextFeatures(
            self.tokens[index : index + 1, :length],
            self.mask[index : index + 1, :length],
            self.pooled[index : index + 1],
        )


@runtime_checkable
class TextEncoder(Protocol):
    """Turns prompts into :class:`TextFeatures`; the same prompt gives the same bits, whatever else is in the batch."""

    kind: str
    dims: int
    max_tokens: int

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Features of each prompt; longer prompts are cut at ``max_tokens`` tokens.

        Raises:
            ImpactError: ``bad_argument`` when ``prompts`` is empty or holds something that is no string.
        """
        ...

    def encode_many(self, prompts: Sequence[str], *, batch: int = 64) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Features of a whole data set, in whatever order is fast; equal to :meth:`encode` up to float rounding.

        Yields:
            (index into ``prompts``, tokens (length, dims), pooled (dims,)).
        """
        ...


def stack_rows(rows: Sequence[tuple[Tensor, Tensor]]) -> TextFeatures:
    """Pad rows of (tokens (length, dims), pooled (dims,)) with zeros to one batch."""
    import torch

    length = max(int(tokens.shape[0]) for tokens, _ in rows)
    dims = int(rows[0][0].shape[1])
    out = torch.zeros(len(rows), length, dims)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for index, (tokens, _) in enumerate(rows):
        out[index, : tokens.shape[0]] = tokens
        mask[index, : tokens.shape[0]] = True
    return TextFeatures(out, mask, torch.stack([pooled for _, pooled in rows]))
