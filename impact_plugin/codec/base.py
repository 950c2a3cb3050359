"""What every codec offers: audio to latents and back.

Knows the shape of the promise, not any codec. The generator above sees latents only; the engine above that sees
audio only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

Quality = Literal["preview", "final"]


class Codec(Protocol):
    """Audio to continuous latent tokens and back.

    Attributes:
        kind: name of the codec in `bundle.yaml`.
        rate: sample rate of its audio, hz.
        dims: size of a latent token.
        samples_per_token: audio samples that one token stands for.
        tokens_per_second: `rate / samples_per_token`.
    """

    kind: str
    rate: int
    dims: int
    samples_per_token: int

    @property
    def tokens_per_second(self) -> float: ...

    def encode(self, audio: Tensor) -> Tensor:
        """Latents of audio, padded with silence to whole tokens.

        Args:
            audio: (batch, samples) float32 at `rate`, -1...1.

        Returns:
            (batch, ceil(samples / samples_per_token), dims) float32, unit variance.
        """
        ...

    def decode(self, latents: Tensor, *, seeds: Sequence[int], quality: Quality = "final") -> Tensor:
        """Audio of latents. A sample's seed fixes its noise and phases, whatever else is in the batch.

        Args:
            latents: (batch, tokens, dims).
            seeds: one for each sample of the batch.

        Returns:
            (batch, tokens * samples_per_token) float32.
        """
        ...

    def decode_part(
        self, latents: Tensor, start: int, stop: int, *, seeds: Sequence[int], quality: Quality = "final"
    ) -> Tensor:
        """Audio of the tokens `start...stop - 1` only, heard in the context of their neighbours.

        Returns:
            (batch, (stop - start) * samples_per_token) float32.
        """
        ...

    def dim_weights(self) -> Tensor:
        """How much each dim of the unit-variance latents matters to the sound, (dims,), mean 1: for training."""
        ...

    def to(self, device: torch.device | str) -> Codec:
        """The same codec with its tensors on `device`."""
        ...

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Config and tensors, as a bundle stores them."""
        ...
