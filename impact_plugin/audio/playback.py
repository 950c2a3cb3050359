"""Playing sounds on this machine: an optional part that must never disturb the rest.

`Player.open` always gives a player. Without a device it plays nothing and says why in `reason`. Every call returns at
once and raises nothing: a thread of the player's own opens the device when something is to be heard, brings sounds to
the device's rate, looks after the stream and closes it after a silence. A device that is lost drops what was sounding;
the next sound looks for it, or for the default one, anew. Knows no jobs, takes or transports.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import numpy as np
import numpy.typing as npt

from impact_plugin.audio.mixer import Mixer
from impact_plugin.audio.outputs import NoAudioError, Output, choose_output, list_outputs, load_sounddevice
from impact_plugin.audio.resample import resample
from impact_plugin.audio.stream import Stream

Audio = npt.NDArray[np.float32]

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 10.0
TICK_SECONDS: Final = 0.1
#: Between two attempts to open a device that cannot be opened.
RETRY_SECONDS: Final = 2.0
MOST_ORDERS: Final = 64
MOST_KEYS: Final = 256
FALLBACK_RATES: Final = (48000, 44100)


@dataclass(frozen=True)
class PlayerStatus:
    """How playing stands.

    Attributes:
        device: `name, interface` of the output, "" = none; rate: hz, 0 = none yet.
        reason: why nothing is heard, "" = all is well; losses: how often a device was lost.
        sounding: keys of what is heard now.
    """

    device: str
    rate: int
    reason: str
    losses: int
    sounding: tuple[Hashable, ...]


class Player(ABC):
    """Plays sounds, each under a key of the caller's. All methods may be called from any thread."""

    @staticmethod
    def open(name: str | None = None, *, idle_seconds: float = IDLE_SECONDS) -> Player:
        """A player on an output; never raises.

        Args:
            name: None = the default output, "none" = play nothing, else as
                :func:`impact_plugin.audio.outputs.choose_output` understands it. An output that is not there now is
                looked for again when something is played.
            idle_seconds: of silence after which the device is let go.
        """
        if name is not None and name.strip().lower() == "none":
            return NullPlayer("playing is switched off")
        try:
            load_sounddevice()
        except NoAudioError as error:
            return NullPlayer(str(error))
        return DevicePlayer(name, idle_seconds=idle_seconds)

    @staticmethod
    def devices() -> list[Output]:
        """The outputs that there are."""
        return list_outputs()[0]

    @abstractmethod
    def play(self, key: Hashable, audio: Audio, rate: int) -> None:
        """Play a sound from its beginning, instead of what sounds under this key.

        Args:
            audio: (frames,) or (frames, channels) float32 at `rate` hz.
        """

    @abstractmethod
    def update(self, key: Hashable, audio: Audio, rate: int) -> None:
        """A sharper version of a sound that was played: what sounds goes over into it at the same position, and what
        has ended begins again. Nothing happens when the key was never played or has been stopped."""

    @abstractmethod
    def stop(self, key: Hashable | None = None) -> None:
        """Fade out a sound, or all, and heed no more updates of it."""

    @abstractmethod
    def wait(self, timeout: float | None = None) -> bool:
        """Until nothing sounds; False when the timeout, seconds, is over before."""

    @abstractmethod
    def look(self, timeout: float = 0.5) -> str:
        """Look for the output anew when there is none, at most every two seconds; takes no longer than the timeout.

        Returns:
            :attr:`reason` after that.
        """

    @abstractmethod
    def status(self) -> PlayerStatus: ...

    @abstractmethod
    def close(self) -> None:
        """Fade out, let the device go. Later calls do nothing."""

    @property
    def reason(self) -> str:
        """Why nothing is heard, "" = all is well."""
        return self.status().reason

    def __enter__(self) -> Player:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class NullPlayer(Player):
    """Plays nothing, for a reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def play(self, key: Hashable, audio: Audio, rate: int) -> None:
        pass

    def update(self, key: Hashable, audio: Audio, rate: int) -> None:
        pass

    def stop(self, key: Hashable | None = None) -> None:
        pass

    def wait(self, timeout: float | None = None) -> bool:
        return True

    def look(self, timeout: float = 0.5) -> str:
        return self._reason

    def status(self) -> PlayerStatus:
        return PlayerStatus("", 0, self._reason, 0, ())

    def close(self) -> None:
        pass


@dataclass(frozen=True, eq=False)
class _Order:
    """What the player's thread is asked to do; audio None = stop, key None = all. looked: look for the output, and
    set it then."""

    key: Hashable | None
    audio: Audio | None = None
    rate: int = 0
    update: bool = False
    looked: threading.Event | None = None


class DevicePlayer(Player):
    """Plays on a device of sounddevice's; see :meth:`Player.open`."""

    def __init__(self, name: str | None, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._name = name
        self._idle_seconds = idle_seconds
        self._orders: queue.Queue[_Order | None] = queue.Queue(MOST_ORDERS)
        self._played: dict[Hashable, None] = {}
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._reason = ""
        self._losses = 0
        self._failed_at = -1e9
        self._looked_at = -1e9
        self._closed = False
        self._output = self._find()
        self._thread = threading.Thread(target=self._run, name="impact-player", daemon=True)
        self._thread.start()

    def play(self, key: Hashable, audio: Audio, rate: int) -> None:
        with self._lock:
            self._played.pop(key, None)
            self._played[key] = None
            while len(self._played) > MOST_KEYS:
                del self._played[next(iter(self._played))]
        self._send(_Order(key, np.array(audio, np.float32), rate))

    def update(self, key: Hashable, audio: Audio, rate: int) -> None:
        with self._lock:
            wanted = key in self._played
        if wanted:
            self._send(_Order(key, np.array(audio, np.float32), rate, update=True))

    def stop(self, key: Hashable | None = None) -> None:
        with self._lock:
            if key is None:
                self._played.clear()
            else:
                self._played.pop(key, None)
        self._send(_Order(key))

    def look(self, timeout: float = 0.5) -> str:
        if self._reason and not self._closed and time.monotonic() - self._looked_at >= RETRY_SECONDS:
            looked = threading.Event()
            self._send(_Order(None, looked=looked))
            looked.wait(timeout)
        return self.reason

    def wait(self, timeout: float | None = None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        while not self._quiet():
            if end is not None and time.monotonic() >= end:
                return False
            time.sleep(0.01)
        return True

    def status(self) -> PlayerStatus:
        stream, output = self._stream, self._output
        return PlayerStatus(
            device=output.full_name if output else "",
            rate=stream.mixer.rate if stream else output.rate if output else 0,
            reason="the player is closed" if self._closed else self._reason,
            losses=self._losses,
            sounding=stream.mixer.sounding if stream else (),
        )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._empty()
        self._orders.put(None)
        self._thread.join(timeout=5.0)

    def _send(self, order: _Order) -> None:
        """Hand an order over without ever waiting: when the thread hangs in a driver, sounds are left out."""
        if self._closed:
            return
        try:
            self._orders.put_nowait(order)
        except queue.Full:
            if order.audio is None:
                self._empty()
                self._send(order)
            else:
                logger.info("the audio device does not keep up: a sound is left out")

    def _empty(self) -> None:
        try:
            while True:
                self._orders.get_nowait()
                self._orders.task_done()
        except queue.Empty:
            pass

    def _quiet(self) -> bool:
        if self._orders.unfinished_tasks:
            return False
        stream = self._stream
        return stream is None or stream.played_out or stream.lost

    def _run(self) -> None:
        while True:
            try:
                order = self._orders.get(timeout=TICK_SECONDS if self._stream else None)
            except queue.Empty:
                self._tend()
                continue
            try:
                if order is None:
                    self._finish()
                    return
                self._tend()
                self._obey(order)
            except Exception as error:  # a driver's oddity must not end the thread
                logger.exception("a sound could not be played")
                self._reason = f"{type(error).__name__}: {error}"
            finally:
                self._orders.task_done()

    def _obey(self, order: _Order) -> None:
        if order.looked is not None:
            if self._stream is None and time.monotonic() - self._looked_at >= RETRY_SECONDS:
                self._output = self._find()
                self._failed_at = -1e9
            order.looked.set()
        elif order.audio is None:
            if self._stream:
                self._stream.mixer.stop(order.key)
        elif order.key in self._played:
            if self._stream is None:
                self._open(None, order)
            else:
                _put(self._stream.mixer, order)

    def _tend(self) -> None:
        """Look after the stream: let it go after a silence, notice its loss."""
        stream = self._stream
        if stream is None:
            return
        if stream.idle:
            self._stream = None
            stream.close()
            if stream.mixer.busy:  # a sound came between the silence and the end
                self._open(stream.mixer, None)
        elif stream.lost:
            self._stream = None
            self._losses += 1
            self._reason = f"the audio device {stream.output.full_name} is lost"
            logger.warning("%s: what was sounding is dropped", self._reason)
            stream.close()
            self._failed_at = -1e9

    def _open(self, mixer: Mixer | None, order: _Order | None) -> None:
        """Open the device for a mixer that has sounds already, or for a new one and its first sound."""
        now = time.monotonic()
        if now - self._failed_at < RETRY_SECONDS:
            return
        self._failed_at = now
        self._output = self._find()
        if self._output is None:
            return
        for rate in (mixer.rate,) if mixer else dict.fromkeys((self._output.rate, *FALLBACK_RATES)):
            filled = mixer or Mixer(rate, min(2, self._output.channels))
            if order is not None:
                _put(filled, order)
            try:
                self._stream = Stream(self._output, filled, idle_seconds=self._idle_seconds)
            except NoAudioError as error:
                self._reason = str(error)
            else:
                self._reason = ""
                self._failed_at = -1e9
                return
        logger.warning("cannot play: %s", self._reason)

    def _find(self) -> Output | None:
        """The output that is meant, as things are now."""
        lately = bool(self._reason)
        self._looked_at = time.monotonic()
        outputs, problem = list_outputs(older_than=0.0 if lately else self._idle_seconds)
        output = choose_output(outputs, self._name)
        if output is None and outputs:
            names = ", ".join(dict.fromkeys(output.name for output in outputs[:8]))
            problem = f"there is no audio output {self._name}; there are {names}"
        self._reason = problem if output is None else ""
        return output

    def _finish(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        stream.mixer.stop(None)
        end = time.monotonic() + 0.5
        while not (stream.played_out or stream.idle or stream.lost) and time.monotonic() < end:
            time.sleep(0.005)
        stream.close()


def _put(mixer: Mixer, order: _Order) -> None:
    """A sound into the mixer, at its rate."""
    if order.audio is None:
        return
    audio = resample(order.audio, order.rate, mixer.rate)
    (mixer.update if order.update else mixer.play)(order.key, audio)
