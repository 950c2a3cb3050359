"""Neighbouring sounds: latents of captioned training sounds, found by the words of a prompt.

Retrieval as in Re-AudioLDM (arXiv 2309.08051), with the latents as prefix tokens. Knows caption vectors and latents;
does not know how either was made. A long sound is averaged down to at most `tokens` tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

PREFIX = "bank."
KEYS = 96  # components of a caption's vector that tell sounds apart; the rest is dropped
SCALE = 32.0  # int8 step of a latent: 1/32 standard deviations, clipped at +-4


@dataclass
class Bank:
    """The captioned sounds of a bundle.

    Attributes:
        vectors: (vectors, key dims) unit vectors of captions.
        owners: (captions,) the sound that a caption is of.
        latents: (all tokens, dims); offsets: (sounds + 1,) where each sound's tokens begin.
        seconds: (sounds,) length of the sound itself.
        tokens: most tokens of a sound.
        rows: (captions,) the vector of each caption; None = one each, in order.
        projection: (text dims, key dims) from a text encoder's vectors to keys; None = they are the keys.
    """

    vectors: Tensor
    owners: Tensor
    latents: Tensor
    offsets: Tensor
    seconds: Tensor
    tokens: int
    rows: Tensor | None = None
    projection: Tensor | None = None

    @property
    def sounds(self) -> int:
        return self.seconds.shape[0]

    def similarities(self, query: Tensor) -> Tensor:
        """Best caption of each sound against (queries, text dims) unit vectors; (queries, sounds), cosine."""
        keys = query.float()
        if self.projection is not None:
            keys = nn.functional.normalize(keys @ self.projection, dim=-1)
        scores = keys @ self.vectors.T
        if self.rows is not None:
            scores = scores[:, self.rows]
        best = torch.full((query.shape[0], self.sounds), -1.0)
        return best.scatter_reduce(1, self.owners[None].expand(query.shape[0], -1), scores, "amax")

    def compact(self, keys: int = KEYS) -> Bank:
        """The same sounds with equal captions stored once and vectors cut to their main components."""
        if self.projection is not None:
            return self
        unique, rows = torch.unique(self.vectors, dim=0, return_inverse=True)
        _, _, components = torch.linalg.svd(unique[:: max(len(unique) // 6000, 1)].double(), full_matrices=False)
        projection = components[:keys].T.float()
        return replace(
            self,
            vectors=nn.functional.normalize(unique @ projection, dim=-1),
            rows=rows if self.rows is None else rows[self.rows],
            projection=projection,
        )

    def features(self, chosen: Sequence[int], slots: int) -> tuple[Tensor, Tensor]:
        """Prefix tokens of some sounds, each in its own slot.

        Returns:
            features: (slots * tokens, dims); present: (slots * tokens,) bool.
        """
        out = torch.zeros(slots, self.tokens, self.latents.shape[1])
        present = torch.zeros(slots, self.tokens, dtype=torch.bool)
        for slot, sound in enumerate(list(chosen)[:slots]):
            begin, end = int(self.offsets[sound]), int(self.offsets[sound + 1])
            out[slot, : end - begin] = self.latents[begin:end]
            present[slot, : end - begin] = True
        return out.flatten(0, 1), present.flatten()

    def sketch(self, sound: int, tokens: int) -> Tensor:
        """A sound's latents drawn out or together to a number of tokens, (tokens, dims)."""
        own = self.latents[int(self.offsets[sound]) : int(self.offsets[sound + 1])]
        if own.shape[0] == tokens:
            return own.clone()
        stretched = nn.functional.interpolate(own.T[None], size=tokens, mode="linear", align_corners=False)
        return stretched[0].T.contiguous()

    def typical_seconds(self, similarities: Tensor, count: int = 7) -> float:
        """Length that fits a prompt: median over its nearest sounds.

        Args:
            similarities: (sounds,) of one prompt.
        """
        nearest = similarities.topk(min(count, self.sounds)).indices
        return float(self.seconds[nearest].median())

    def to_tensors(self) -> dict[str, Tensor]:
        """Compact tensors for a bundle: latents and vectors as int8."""
        small = self.compact()
        if small.rows is None or small.projection is None:  # compact() sets both
            raise ValueError("a compact bank has rows and a projection")
        largest = small.vectors.abs().amax(dim=1, keepdim=True).clamp(min=1e-6)
        return {
            PREFIX + "vectors": (small.vectors / largest * 127.0).round().to(torch.int8),
            PREFIX + "rows": small.rows.int(),
            PREFIX + "projection": small.projection,
            PREFIX + "owners": small.owners.int(),
            PREFIX + "latents": (small.latents * SCALE).round().clamp(-127, 127).to(torch.int8),
            PREFIX + "offsets": small.offsets.int(),
            PREFIX + "seconds": small.seconds.float(),
            PREFIX + "tokens": torch.tensor([small.tokens], dtype=torch.int32),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Bank | None:
        """The inverse of :meth:`to_tensors`; None when the bundle has no bank.

        Raises:
            ValueError: when the tensors do not fit each other.
        """
        if PREFIX + "vectors" not in tensors:
            return None
        try:
            bank = cls(
                vectors=nn.functional.normalize(tensors[PREFIX + "vectors"].float().cpu(), dim=-1),
                rows=tensors[PREFIX + "rows"].long().cpu(),
                projection=tensors[PREFIX + "projection"].float().cpu(),
                owners=tensors[PREFIX + "owners"].long().cpu(),
                latents=tensors[PREFIX + "latents"].float().cpu() / SCALE,
                offsets=tensors[PREFIX + "offsets"].long().cpu(),
                seconds=tensors[PREFIX + "seconds"].float().cpu(),
                tokens=int(tensors[PREFIX + "tokens"].flatten()[0]),
            )
        except KeyError as error:
            raise ValueError(f"the bank of neighbouring sounds lacks the tensor {error}") from error
        spans = bank.offsets.diff()
        fits = (
            bank.offsets.shape[0] == bank.sounds + 1
            and bank.rows is not None
            and bank.owners.shape == bank.rows.shape
            and int(bank.rows.min()) >= 0
            and int(bank.rows.max()) < bank.vectors.shape[0]
            and bank.projection is not None
            and bank.projection.shape[1] == bank.vectors.shape[1]
            and int(bank.offsets[-1]) == bank.latents.shape[0]
            and bool((spans >= 1).all())
            and bool((spans <= bank.tokens).all())
            and int(bank.owners.min()) >= 0
            and int(bank.owners.max()) < bank.sounds
        )
        if not fits:
            raise ValueError("the tensors of the bank of neighbouring sounds do not fit each other")
        return bank


def averaged(latents: Tensor, tokens: int) -> Tensor:
    """(length, dims) -> at most `tokens` rows, neighbours averaged evenly."""
    length = latents.shape[0]
    if length <= tokens:
        return latents
    groups = (torch.arange(length) * tokens) // length
    sums = torch.zeros(tokens, latents.shape[1]).index_add_(0, groups, latents.float())
    return sums / torch.bincount(groups, minlength=tokens)[:, None]
