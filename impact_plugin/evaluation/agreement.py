"""Tag agreement: how often two lists of sounds, pair by pair, get a tag in common from the independent tagger.

Knows tags (indices of classes, best first) and labels. Does not know where sounds or tags come from. Two levels give
the share its meaning: chance, which is the share over all pairs of sounds with different labels, and twins, which is
the share over different real sounds with one label. Both are taken over every such pair, so that no drawing of lots
is needed. For two versions of one sound (a codec's round trip) that share is always near 1; there the overlap tells
more: how many of the first's tags the second kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from impact_plugin.errors import ImpactError

Audio = npt.NDArray[np.float32]
Tags = tuple[int, ...]

PEAK = 0.89  # -1 dBFS: sounds are compared at one level
BLOCK = 512
TOP = 5


class Judge(Protocol):
    """Whatever gives tags to sounds; `tagger.Tagger` is the one that counts."""

    def top_indices(self, audio: Audio, rate: int, n: int = ...) -> Tags:
        """The `n` highest classes of (frames,) audio, best first."""
        ...

    def names(self, indices: Iterable[int]) -> tuple[str, ...]:
        """The names of classes."""
        ...


@dataclass(frozen=True)
class Agreement:
    """How well the second list of sounds meets the first.

    Attributes:
        pairs: how many.
        same: share of pairs with at least one tag in common, 0...1.
        other: the same between each sound of one list and all those of the other list with another label: chance.
        twins: the same between different sounds of the first list with one label; None where there are none.
        overlap: mean share of the first's tags that the second has too.
        best: share of pairs whose highest tag is the same.
        error: standard error of `same`.
    """

    pairs: int
    same: float
    other: float | None
    twins: float | None
    overlap: float
    best: float
    error: float

    @property
    def normalised(self) -> float | None:
        """0 = no better than chance, 1 = as good as twins; None without both levels."""
        if self.other is None or self.twins is None or self.twins <= self.other:
            return None
        return (self.same - self.other) / (self.twins - self.other)

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain values for JSON."""
        return {**asdict(self), "normalised": self.normalised}


def level(audio: Audio) -> Audio:
    """The sound with its peak at -1 dBFS; silence stays as it is."""
    peak = float(np.abs(audio).max(initial=0.0))
    return audio if peak < 1e-6 else np.asarray(audio * (PEAK / peak), dtype=np.float32)


def tags_of(judge: Judge, audio: Audio, rate: int, n: int = TOP) -> Tags:
    """The `n` highest tags of a sound, heard with its peak at -1 dBFS.

    Args:
        audio: (frames,) float32; rate: hz.
    """
    return judge.top_indices(level(audio), rate, n)


def agreement(first: Sequence[Tags], second: Sequence[Tags], labels: Sequence[str] | None = None) -> Agreement:
    """Tag agreement of two lists of sounds.

    Args:
        first: tags of the real sounds; second: tags of the sounds to judge, in the same order.
        labels: what each pair is a sound of, such as its short caption; by default each is its own.

    Raises:
        ImpactError: `bad_argument` when the lists are empty or differ in length.
    """
    names = [str(index) for index in range(len(first))] if labels is None else list(labels)
    if not first or not len(first) == len(second) == len(names):
        raise ImpactError("bad_argument", f"tag lists of {len(first)} and {len(second)} sounds cannot be compared")
    pairs = list(zip(first, second, strict=True))
    same = float(np.mean([bool(set(a) & set(b)) for a, b in pairs]))
    return Agreement(
        pairs=len(first),
        same=same,
        other=other_share(first, second, names),
        twins=twin_share(first, names),
        overlap=float(np.mean([len(set(a) & set(b)) / max(len(a), 1) for a, b in pairs])),
        best=float(np.mean([a[:1] == b[:1] for a, b in pairs])),
        error=math.sqrt(same * (1.0 - same) / len(first)),
    )


def other_share(first: Sequence[Tags], second: Sequence[Tags], labels: Sequence[str]) -> float | None:
    """Share of all pairs (one of each list, labels different) with a common tag; None where there is no such pair."""
    hits = pairs = 0
    for rows, meet in _meetings(first, second):
        other = _ids(labels)[rows, None] != _ids(labels)[None]
        hits += int(np.count_nonzero(meet & other))
        pairs += int(np.count_nonzero(other))
    return hits / pairs if pairs else None


def twin_share(tags: Sequence[Tags], labels: Sequence[str]) -> float | None:
    """For each sound with twins (same label), its share of twins with a common tag; the mean over those sounds."""
    shares: list[float] = []
    for rows, meet in _meetings(tags, tags):
        twin = _ids(labels)[rows, None] == _ids(labels)[None]
        twin[np.arange(len(rows)), rows] = False
        count = twin.sum(axis=1)
        shares += [float(hit / n) for hit, n in zip((meet & twin).sum(axis=1), count, strict=True) if n]
    return float(np.mean(shares)) if shares else None


def _ids(labels: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.asarray(np.unique(np.asarray(labels), return_inverse=True)[1], dtype=np.int64)


def _meetings(
    first: Sequence[Tags], second: Sequence[Tags]
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """Blocks of rows of `first` and whether each meets each of `second`: (rows,), (rows, second)."""
    classes = 1 + max((tag for tags in (*first, *second) for tag in tags), default=0)
    left, right = _marks(first, classes), _marks(second, classes)
    blocks = [np.arange(start, min(start + BLOCK, len(left))) for start in range(0, len(left), BLOCK)]
    return [(rows, left[rows] @ right.T > 0.5) for rows in blocks]


def _marks(tags: Sequence[Tags], classes: int) -> npt.NDArray[np.float32]:
    marks = np.zeros((len(tags), classes), dtype=np.float32)
    for row, own in enumerate(tags):
        marks[row, list(own)] = 1.0
    return marks
