"""Words that takes are searched by.

Knows how text is folded, and how a query is put to SQLite's word index and to its LIKE. Knows no tables.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

#: From here on Unicode has the scripts that put no spaces between words, which a word index cannot take apart.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0010ffff]")
_BETWEEN = re.compile(r"[\W_]+")
_INSIDE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True)
class Query:
    """What to look for, folded.

    Attributes:
        words: that a take's words must begin with; parts: that must occur anywhere in them.
    """

    words: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def match(self) -> str:
        """The words for SQLite's word index, "" for none."""
        return " ".join(f'"{word}"*' for word in self.words)

    def patterns(self, *, plain: bool) -> list[str]:
        """What LIKE must find, each of them. plain: there is no word index, so the words too."""
        return [f"%{part}%" for part in self.parts] + ([f"% {word}%" for word in self.words] if plain else [])


def folded(*texts: str) -> str:
    """The words of texts, each with a space before it and once, as they are stored.

    Capitals inside a word begin another, which is there too: `DoorWood` is found by door, wood and doorwood.
    """
    words: dict[str, None] = {}
    for text in texts:
        words |= dict.fromkeys(_words(text) + _words(_INSIDE.sub(" ", text)))
    return "".join(f" {word}" for word in words)


def query(text: str) -> Query:
    """The words of a search."""
    words = _words(text)
    parts = tuple(word for word in words if _UNSPACED.search(word))
    return Query(tuple(word for word in words if word not in parts), parts)


def _words(text: str) -> list[str]:
    """Without case, accents and whatever is neither letter nor digit (so that LIKE has nothing to escape)."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    return _BETWEEN.sub(" ", unicodedata.normalize("NFC", plain)).split()
