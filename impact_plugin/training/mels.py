"""Log-mel frames of a whole data set in one memory-mapped file, so that codec training reads no audio.

Knows data sets (`store`) and the codec's front end. Frames of all sounds lie one after the other; `offsets` say where
each begins.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from impact_plugin.codec.starter import StarterCodec
from impact_plugin.training.store import Sound, SoundStore

Progress = Callable[[int, int], None]


@dataclass
class MelFile:
    """Normalised log-mel frames.

    Attributes:
        frames: (all frames, bands) float16; offsets: (sounds + 1,) int64; sounds: in the order of the file.
    """

    frames: npt.NDArray[np.float16]
    offsets: npt.NDArray[np.int64]
    sounds: list[Sound]


def mel_file(
    store: SoundStore, codec: StarterCodec, *, limit_seconds: float = 30.0, progress: Progress | None = None
) -> MelFile:
    """The frames of every sound of the data set, computed once and kept beside it.

    Args:
        limit_seconds: of a longer sound only its beginning is taken.
    """
    sounds = store.read_index()
    cfg = codec.config
    name = f"mels_{cfg.rate}_{cfg.fft}_{cfg.hop}_{cfg.bands}_{cfg.frames_per_token}_{limit_seconds:g}"
    path = store.folder / f"{name}.npy"
    offsets_path = store.folder / f"{name}.offsets.npy"
    if not (path.exists() and offsets_path.exists() and len(np.load(offsets_path)) == len(sounds) + 1):
        chunks: list[npt.NDArray[np.float16]] = []
        offsets = [0]
        for done, sound in enumerate(sounds, start=1):
            audio, _ = store.read_audio(sound)
            clip = torch.from_numpy(audio[: int(limit_seconds * cfg.rate)])[None]
            frames = codec.to_frames(clip)[0].numpy().astype(np.float16)
            chunks.append(frames)
            offsets.append(offsets[-1] + len(frames))
            if progress:
                progress(done, len(sounds))
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(chunks))
        os.replace(partial, path)
        np.save(offsets_path, np.asarray(offsets, dtype=np.int64))
    return MelFile(np.load(path, mmap_mode="r"), np.load(offsets_path), sounds)
