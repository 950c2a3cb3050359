"""One open audio stream that pulls blocks out of a mixer, and whether it still lives.

Knows PortAudio's ways to go wrong: a device that is pulled out may end the stream, may just never call back again, and
may hang whoever closes it. Does not decide what happens then: see `playback`.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final

from impact_plugin.audio.mixer import Mixer
from impact_plugin.audio.outputs import Output, forget_stream, load_sounddevice, open_stream

logger = logging.getLogger(__name__)

#: A stream that does not call back for this long is dead; at its start some devices take longer. Seconds.
BEAT_SECONDS: Final = 2.0
FIRST_BEAT_SECONDS: Final = 6.0
CLOSE_SECONDS: Final = 2.0


class Stream:
    """A stream on an output, from its opening to its end.

    Args:
        mixer: of a rate that the output takes.
        idle_seconds: after so much silence the stream ends by itself; the device is free for others then.

    Raises:
        NoAudioError: it cannot be opened.
    """

    def __init__(self, output: Output, mixer: Mixer, *, idle_seconds: float) -> None:
        self.output = output
        self.mixer = mixer
        self._stop: type[BaseException] = load_sounddevice().CallbackStop
        self._idle_frames = round(idle_seconds * mixer.rate)
        self._ended = threading.Event()
        self._idle = False
        self._failed = False
        self._beats = 0
        self._beat = time.monotonic()
        self._stream = open_stream(
            output,
            samplerate=mixer.rate,
            channels=mixer.channels,
            dtype="float32",
            latency="high",
            callback=self._fill,
            finished_callback=self._ended.set,
        )
        self._beat = time.monotonic()
        self.latency = float(self._stream.latency)

    @property
    def idle(self) -> bool:
        """It has ended after a silence."""
        return self._idle and self._ended.is_set()

    @property
    def lost(self) -> bool:
        """It has ended, or stopped calling, without being told to."""
        limit = BEAT_SECONDS if self._beats else FIRST_BEAT_SECONDS
        return not self.idle and (self._ended.is_set() or time.monotonic() - self._beat > limit)

    @property
    def played_out(self) -> bool:
        """Nothing sounds any more, not even what the device had in store."""
        return not self.mixer.busy and self.mixer.silent_frames >= self.latency * self.mixer.rate

    def close(self) -> None:
        """End it now. A device that hangs is left alone after two seconds."""
        closer = threading.Thread(target=self._close, name="impact-audio-close", daemon=True)
        closer.start()
        closer.join(CLOSE_SECONDS)
        if closer.is_alive():
            logger.warning("the audio device %s hangs while it is closed", self.output.full_name)

    def _close(self) -> None:
        try:
            self._stream.abort()
            self._stream.close()
        except Exception as error:  # whatever a dead device's driver says
            logger.info("closing %s: %s", self.output.full_name, error)
        forget_stream()

    def _fill(self, out: Any, frames: int, _time: object, _status: object) -> None:
        """PortAudio's callback, in its own thread; nothing but the end may be raised out of it."""
        self._beat = time.monotonic()
        self._beats += 1
        try:
            out[:] = self.mixer.render(frames)
        except Exception:
            out[:] = 0.0
            if not self._failed:
                logger.exception("a block of audio could not be mixed")
            self._failed = True
        if self.mixer.silent_frames > self._idle_frames:
            self._idle = True
            raise self._stop
