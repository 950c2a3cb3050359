"""A data set on disk: a folder with `index.csv` and `audio/<id>.flac`, made by `impact data`.

Knows the layout and writes it so that a run which was cut short goes on where it stopped. Does not know where the
sounds come from.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from impact_plugin.errors import ImpactError

INDEX = "index.csv"


@dataclass(frozen=True)
class Sound:
    """One sound of a data set. `captions` are `|`-separated in the index; `file` is relative to the folder."""

    id: str
    file: str
    seconds: float
    kind: str
    captions: tuple[str, ...]
    ucs: str
    loop: bool
    license: str
    license_ok: bool
    split: str
    source: str


class SoundStore:
    """The folder of a data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.audio_folder = folder / "audio"

    def audio_path(self, sound_id: str) -> Path:
        return self.audio_folder / f"{sound_id}.flac"

    def has(self, sound_id: str) -> bool:
        """Whether the sound is already in the cache (its file is complete: it was renamed into place)."""
        return self.audio_path(sound_id).exists()

    def write_audio(self, sound_id: str, audio: npt.NDArray[np.float32], rate: int) -> None:
        """Write one sound as 16-bit FLAC, under a temporary name first.

        Args:
            audio: (frames,) float32 in -1...1.
        """
        self.audio_folder.mkdir(parents=True, exist_ok=True)
        target = self.audio_path(sound_id)
        partial = target.with_suffix(".partial")
        soundfile.write(partial, audio, rate, format="FLAC", subtype="PCM_16")
        os.replace(partial, target)

    def write_index(self, sounds: Iterable[Sound]) -> None:
        """Replace the index by these sounds, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / (INDEX + ".partial")
        with open(partial, "w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, [f.name for f in fields(Sound)])
            writer.writeheader()
            for sound in sounds:
                row = asdict(sound)
                row["captions"] = "|".join(caption.replace("|", "/") for caption in sound.captions)
                row["loop"] = int(sound.loop)
                row["license_ok"] = int(sound.license_ok)
                row["seconds"] = f"{sound.seconds:.4f}"
                writer.writerow(row)
        os.replace(partial, self.folder / INDEX)

    def read_index(self) -> list[Sound]:
        """All sounds of the data set.

        Raises:
            ImpactError: `bad_file` when the folder is no data set.
        """
        path = self.folder / INDEX
        try:
            with open(path, newline="", encoding="utf-8") as handle:
                return [_sound(row) for row in csv.DictReader(handle)]
        except FileNotFoundError:
            raise ImpactError(
                "bad_file", f"{self.folder} is no data set: it has no {INDEX}; make one with `impact data`"
            ) from None
        except (KeyError, ValueError) as error:
            raise ImpactError("bad_file", f"{path}: a row cannot be read ({error})") from error

    def read_audio(self, sound: Sound) -> tuple[npt.NDArray[np.float32], int]:
        """The sound's samples, (frames,) float32, and its rate in hz."""
        try:
            audio, rate = soundfile.read(self.folder / sound.file, dtype="float32", always_2d=False)
        except (soundfile.LibsndfileError, OSError) as error:
            raise ImpactError("bad_file", f"{sound.file}: {error}") from error
        return audio, int(rate)


def _sound(row: dict[str, str]) -> Sound:
    return Sound(
        id=row["id"],
        file=row["file"],
        seconds=float(row["seconds"]),
        kind=row["kind"],
        captions=tuple(caption for caption in row["captions"].split("|") if caption),
        ucs=row["ucs"],
        loop=row["loop"] == "1",
        license=row["license"],
        license_ok=row["license_ok"] == "1",
        split=row["split"],
        source=row["source"],
    )
