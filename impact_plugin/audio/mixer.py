"""What is heard, as numbers: sounds started, sharpened while they sound, stopped, mixed and limited.

Pure numpy; knows no device and no files. One thread renders blocks, any other may say what to play: what they say is
taken in at the beginning of the next block, in order, without locks.

- A sound that is replaced by a sharper version goes over into it at the same position. The cross-fade keeps the power
  constant: cosine and sine, divided by what their correlation adds, so that two unlike versions are no quieter in the
  middle and two like ones no louder. A version that comes during a cross-fade waits for its end; the newest one counts.
- Nothing clicks: stopping fades out, a sound that would begin or end with a step gets a short ramp there. A sound with
  silent ends, as takes are, is played as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final

import numpy as np
import numpy.typing as npt

from impact_plugin.audio.limiter import Limiter

Audio = npt.NDArray[np.float32]

FADE_SECONDS: Final = 0.03
STOP_SECONDS: Final = 0.012
EDGE_SECONDS: Final = 0.003
#: A first or last sample below this is no click.
EDGE_LEVEL: Final = 1e-3
#: Sounds at once; the oldest makes room.
MOST_VOICES: Final = 16


class _Voice:
    """One sound on its way. Positions and lengths in frames; audio: (frames, channels)."""

    def __init__(self, key: Hashable, audio: Audio, fade: int, stop: int) -> None:
        self.key = key
        self.stopping = False
        self._audio = audio
        self._position = 0
        self._fade, self._stop = fade, stop
        self._next: Audio | None = None
        self._newest: Audio | None = None
        self._faded = 0
        self._likeness = 0.0
        self._stopped = 0

    @property
    def over(self) -> bool:
        if self.stopping and self._stopped >= self._stop:
            return True
        versions = [version for version in (self._audio, self._next, self._newest) if version is not None]
        return self._position >= max(len(version) for version in versions)

    def sharpen(self, audio: Audio) -> None:
        """Go over into this version at the same position."""
        if self._next is None:
            self._begin_fade(audio)
        else:
            self._newest = audio

    def stop(self) -> None:
        self.stopping = True

    def render(self, frames: int) -> Audio:
        """The next frames."""
        out = _part(self._audio, self._position, frames)
        if self._next is not None:
            out = self._cross(out, _part(self._next, self._position, frames), self._next)
        self._position += frames
        if self._next is None and self._newest is not None:
            newest, self._newest = self._newest, None
            self._begin_fade(newest)
        if self.stopping:
            steps = (self._stopped + np.arange(frames) + 1) / self._stop
            self._stopped += frames
            out = out * (0.5 + 0.5 * np.cos(np.pi * np.minimum(steps, 1.0)))[:, None].astype(np.float32)
        return out

    def _begin_fade(self, audio: Audio) -> None:
        self._next, self._faded = audio, 0
        old, new = (_part(version, self._position, self._fade).ravel() for version in (self._audio, audio))
        power = float(np.sqrt(np.dot(old, old) * np.dot(new, new)))
        self._likeness = max(0.0, float(np.dot(old, new)) / power) if power > 0.0 else 0.0

    def _cross(self, old: Audio, new: Audio, version: Audio) -> Audio:
        angle = np.minimum((self._faded + np.arange(len(old)) + 0.5) / self._fade, 1.0) * (np.pi / 2)
        down, up = np.cos(angle), np.sin(angle)
        norm = np.sqrt(1.0 + 2.0 * self._likeness * down * up)
        out = old * (down / norm)[:, None].astype(np.float32) + new * (up / norm)[:, None].astype(np.float32)
        rest = self._fade - self._faded
        if rest < len(out):
            out[max(rest, 0) :] = new[max(rest, 0) :]
        self._faded += len(old)
        if self._faded >= self._fade:
            self._audio, self._next = version, None
        return out


class Mixer:
    """Mixes sounds of one rate into blocks.

    Args:
        rate: hz, of every sound and of the blocks; channels: of the blocks.
    """

    def __init__(self, rate: int, channels: int = 2) -> None:
        self.rate = rate
        self.channels = channels
        self._fade = max(2, round(FADE_SECONDS * rate))
        self._stop = max(2, round(STOP_SECONDS * rate))
        self._limiter = Limiter(rate, channels)
        self._orders: deque[tuple[str, Hashable, Audio | None]] = deque()
        self._voices: list[_Voice] = []
        #: Frames rendered since the last sound ended and left the limiter.
        self.silent_frames = 0

    def play(self, key: Hashable, audio: Audio) -> None:
        """Start a sound from its beginning; one that sounds under this key fades out.

        Args:
            audio: (frames,) or (frames, channels) float32. A single channel goes to all, missing ones are the last.
        """
        self._orders.append(("play", key, self._prepare(audio)))

    def update(self, key: Hashable, audio: Audio) -> None:
        """Let what sounds under this key go over into this version; start it when nothing does."""
        self._orders.append(("update", key, self._prepare(audio)))

    def stop(self, key: Hashable | None = None) -> None:
        """Fade out what sounds under this key, or everything."""
        self._orders.append(("stop", key, None))

    @property
    def busy(self) -> bool:
        """Whether anything sounds, or will with the next block."""
        return bool(self._orders or self._voices)

    @property
    def sounding(self) -> tuple[Hashable, ...]:
        """Keys of what sounds and is not being stopped."""
        return tuple(voice.key for voice in list(self._voices) if not voice.stopping)

    def render(self, frames: int) -> Audio:
        """The next block: (frames, channels) float32, no sample over the limiter's ceiling."""
        while self._orders:
            self._obey(*self._orders[0])
            self._orders.popleft()
        mix = np.zeros((frames, self.channels), np.float32)
        for voice in self._voices:
            mix += voice.render(frames)
        sounding = bool(self._voices)
        self._voices = [voice for voice in self._voices if not voice.over]
        out = self._limiter.process(mix)
        self.silent_frames = -self._limiter.latency if sounding else self.silent_frames + frames
        return out

    def _obey(self, order: str, key: Hashable, audio: Audio | None) -> None:
        voices = [voice for voice in self._voices if not voice.stopping and (voice.key == key or key is None)]
        if audio is None:
            for voice in voices:
                voice.stop()
        elif order == "update" and voices:
            voices[-1].sharpen(audio)
        elif len(audio):
            for voice in voices:
                voice.stop()
            sounding = [voice for voice in self._voices if not voice.stopping]
            if len(sounding) >= MOST_VOICES:
                sounding[0].stop()
            self._voices.append(_Voice(key, audio, self._fade, self._stop))
            self.silent_frames = 0

    def _prepare(self, audio: Audio) -> Audio:
        """(frames, channels), finite, with a ramp at each end that would click."""
        sound = np.nan_to_num(np.asarray(audio, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        if sound.ndim == 1:
            sound = sound[:, None]
        columns = np.minimum(np.arange(self.channels), sound.shape[1] - 1)
        sound = np.ascontiguousarray(sound[:, columns])
        frames = min(max(1, round(EDGE_SECONDS * self.rate)), len(sound) // 2)
        if frames:
            ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(frames) + 0.5) / frames)).astype(np.float32)[:, None]
            if np.abs(sound[0]).max() > EDGE_LEVEL:
                sound[:frames] *= ramp
            if np.abs(sound[-1]).max() > EDGE_LEVEL:
                sound[-frames:] *= ramp[::-1]
        return sound


def _part(audio: Audio, start: int, frames: int) -> Audio:
    """Frames from `start` on; past the end there is silence."""
    part = audio[start : start + frames]
    if len(part) == frames:
        return part
    out = np.zeros((frames, audio.shape[1]), np.float32)
    out[: len(part)] = part
    return out
