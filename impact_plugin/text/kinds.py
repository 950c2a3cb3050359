"""The text encoders a bundle may name, by kind.

Knows how each is made from a bundle's config. Does not know bundles, files or weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from impact_plugin.errors import ImpactError
from impact_plugin.text.base import TextEncoder

KINDS: tuple[str, ...] = ("minilm",)


def make_text_encoder(kind: str, config: Mapping[str, Any]) -> TextEncoder:
    """The encoder of a kind.

    Args:
        config: for ``minilm``: ``max_tokens`` (4 to 512, default 64).

    Raises:
        ImpactError: ``unsupported`` for another kind, ``unknown_key`` or ``bad_argument`` for a config that does not
            fit, and what the encoder itself raises.
    """
    if kind != "minilm":
        raise ImpactError("unsupported", f"unknown text kind {kind!r}: this version knows {', '.join(KINDS)}", "kind")
    unknown = sorted(set(config) - {"max_tokens"})
    if unknown:
        raise ImpactError("unknown_key", f"text 'minilm' has no setting {unknown[0]!r}, only 'max_tokens'", unknown[0])
    from impact_plugin.text.minilm import MAX_TOKENS, MiniLM

    max_tokens = config.get("max_tokens", MAX_TOKENS)
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int):
        raise ImpactError("bad_argument", f"max_tokens must be a whole number, not {max_tokens!r}", "max_tokens")
    return MiniLM(max_tokens=max_tokens)
