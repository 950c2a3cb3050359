"""What every text encoder does to prompts before it looks at them.

Knows strings only. The limits on what a user may ask for (empty, too long) are the request's, not checked here.
"""

from __future__ import annotations

from collections.abc import Sequence

from impact_plugin.errors import ImpactError


def clean_prompts(prompts: Sequence[str]) -> list[str]:
    """Prompts with white space folded and lone surrogates replaced, so that equal words give equal features.

    Raises:
        ImpactError: ``bad_argument`` for no prompts at all, a bare string, or an entry that is no string.
    """
    if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
        raise ImpactError("bad_argument", "prompts must be a list of strings", "prompt")
    if not prompts:
        raise ImpactError("bad_argument", "no prompt to encode", "prompt")
    return [" ".join(prompt.encode("utf-8", "replace").decode("utf-8").split()) for prompt in prompts]
