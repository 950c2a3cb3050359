"""The nearest valid word to a mistyped one, for error messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, words: Iterable[str], count: int = 3) -> list[str]:
    """Up to ``count`` of ``words`` that resemble ``word``, best first; case does not matter."""
    by_lower = {known.lower(): known for known in words}
    return [by_lower[match] for match in get_close_matches(word.lower()[:200], by_lower, n=count, cutoff=0.6)]


def suggestion(word: str, words: Iterable[str]) -> str:
    """``did you mean 'a' or 'b'?``, or the list of valid words, or nothing when there are none."""
    words = sorted(words)
    close = nearest(word, words)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    return f"valid: {', '.join(words)}" if words else ""
