"""A BERT encoder (Devlin et al., arXiv 1810.04805): just what the inference of MiniLM needs, on ready tensors.

Knows the mathematics and the tensor names of published BERT checkpoints. Does not know files, tokenizers or pooling.
No ``nn.Module``: constructing and initialising one costs a second of start-up and would serve no training here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BertConfig:
    """Sizes of an encoder; the defaults are those of MiniLM-L6-H384 (arXiv 2002.10957)."""

    vocabulary: int = 30522
    positions: int = 512
    dims: int = 384
    layers: int = 6
    heads: int = 12
    hidden: int = 1536
    epsilon: float = 1e-12

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor the encoder reads."""
        dims, hidden = self.dims, self.hidden
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (self.vocabulary, dims),
            "embeddings.position_embeddings.weight": (self.positions, dims),
            "embeddings.token_type_embeddings.weight": (2, dims),
            "embeddings.LayerNorm.weight": (dims,),
            "embeddings.LayerNorm.bias": (dims,),
        }
        for index in range(self.layers):
            layer = f"encoder.layer.{index}"
            for name, rows, columns in (
                ("attention.self.query", dims, dims),
                ("attention.self.key", dims, dims),
                ("attention.self.value", dims, dims),
                ("attention.output.dense", dims, dims),
                ("intermediate.dense", hidden, dims),
                ("output.dense", dims, hidden),
            ):
                shapes[f"{layer}.{name}.weight"] = (rows, columns)
                shapes[f"{layer}.{name}.bias"] = (rows,)
            for name in ("attention.output.LayerNorm", "output.LayerNorm"):
                shapes[f"{layer}.{name}.weight"] = (dims,)
                shapes[f"{layer}.{name}.bias"] = (dims,)
        return shapes


class Bert:
    """Token ids to last hidden states.

    Args:
        tensors: a published checkpoint's tensors, float32, shared rather than copied; further ones are ignored.

    Raises:
        ValueError: a tensor is missing or has another shape.
    """

    def __init__(self, config: BertConfig, tensors: Mapping[str, Tensor]) -> None:
        for name, shape in config.shapes().items():
            if name not in tensors or tuple(tensors[name].shape) != shape:
                raise ValueError(f"tensor {name!r} is missing or not of shape {shape}")
        self._config = config
        self._tensors = {name: tensors[name] for name in config.shapes()}

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        """ids: (batch, length) int64, rows without padding -> (batch, length, dims) float32."""
        tensors = self._tensors
        words, positions, types = (
            tensors[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        )
        x = self._norm(F.embedding(ids, words) + types[0] + positions[: ids.shape[1]], "embeddings.LayerNorm")
        for index in range(self._config.layers):
            layer = f"encoder.layer.{index}"
            x = self._norm(x + self._attention(x, f"{layer}.attention"), f"{layer}.attention.output.LayerNorm")
            hidden = F.gelu(self._linear(x, f"{layer}.intermediate.dense"))
            x = self._norm(x + self._linear(hidden, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return x

    def _attention(self, x: Tensor, name: str) -> Tensor:
        query, key, value = (
            self._linear(x, f"{name}.self.{part}").view(*x.shape[:2], self._config.heads, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self._linear(mixed.transpose(1, 2).flatten(2), f"{name}.output.dense")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        return F.layer_norm(x, (self._config.dims,), weight, bias, self._config.epsilon)
