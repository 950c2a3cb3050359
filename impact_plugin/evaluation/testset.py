"""The captioned sounds that a bundle is judged by: one split of a data set.

Knows data sets (`training.store`) and how a sample of one is drawn. Does not know bundles or judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from impact_plugin.errors import ImpactError
from impact_plugin.evaluation.roundtrip import Audio, RealSound
from impact_plugin.training.store import Sound, SoundStore


@dataclass(frozen=True)
class Case:
    """A real sound with the words that should make one like it.

    Attributes:
        sound: its row in the data set; prompt: the caption to generate from.
        label: its short caption, lower case: sounds with one label are twins.
    """

    sound: Sound
    prompt: str
    label: str


class TestSet:
    """A split of a data set, or a seeded sample of it.

    Attributes:
        cases: the sounds to judge by; whole: those of the whole split, from which the twin level is taken.
    """

    __test__ = False  # not a test, whatever pytest thinks of its name

    def __init__(
        self, data: Path, *, split: str = "test", limit: int | None = None, caption: int = 0, seed: int = 0
    ) -> None:
        """Read the index.

        Args:
            data: folder of the data set.
            limit: at most so many sounds, drawn at random by `seed`.
            caption: which caption is the prompt: 0 the sentence, 1 the short form, 2 the paraphrase; a sound that
                has fewer gives its last.

        Raises:
            ImpactError: `bad_file` when the folder is no data set, `bad_argument` when the split is empty.
        """
        self.store = SoundStore(data)
        sounds = [sound for sound in self.store.read_index() if sound.split == split and sound.captions]
        if not sounds:
            raise ImpactError("bad_argument", f"{data} has no captioned sounds in the split {split!r}", "split")
        self.whole = [_case(sound, caption) for sound in sounds]
        if limit is not None and limit < len(sounds):
            chosen = np.random.default_rng(seed).permutation(len(sounds))[: max(limit, 1)]
            sounds = [sounds[index] for index in sorted(chosen)]
        self.cases = [_case(sound, caption) for sound in sounds]

    def __len__(self) -> int:
        return len(self.cases)

    def audio(self, case: Case, limit_seconds: float | None = None) -> tuple[Audio, int]:
        """The real sound, (frames,) float32, cut at `limit_seconds`, and its rate in hz.

        Raises:
            ImpactError: `bad_file`.
        """
        audio, rate = self.store.read_audio(case.sound)
        return (audio if limit_seconds is None else audio[: round(limit_seconds * rate)]), rate

    def twins(self) -> list[Case]:
        """The sounds of the whole split whose label another one has too."""
        count = Counter(case.label for case in self.whole)
        return [case for case in self.whole if count[case.label] > 1]

    def sounds(self, limit_seconds: float | None = None) -> Iterator[RealSound]:
        """The real sounds one by one, as the round trip wants them."""
        for case in self.cases:
            audio, rate = self.audio(case, limit_seconds)
            yield RealSound(case.sound.id, audio, rate, case.label)


def _case(sound: Sound, caption: int) -> Case:
    captions = sound.captions
    label = captions[min(1, len(captions) - 1)]
    return Case(sound, captions[min(caption, len(captions) - 1)], " ".join(label.lower().split()))
