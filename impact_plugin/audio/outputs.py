"""The audio outputs of this machine, and which one a name means.

Knows sounddevice, loaded when first asked for, and one habit of PortAudio: its list of devices is made once, and only
making it anew, which no open stream survives, shows what has been plugged in or out since. Plays nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

LOCK_SECONDS: Final = 3.0
NOT_INSTALLED: Final = "the extra for playing is not installed (pip install 'impact-plugin[play]')"


@dataclass(frozen=True)
class Output:
    """An audio output. id: PortAudio's number, good until the list is made anew; rate: hz, its own."""

    id: int
    name: str
    api: str
    rate: int
    channels: int
    default: bool = False

    @property
    def full_name(self) -> str:
        """`name, api`"""
        return f"{self.name}, {self.api}"


class NoAudioError(Exception):
    """Why nothing can be played."""


class _PortAudio:
    """What holds for the whole process: nobody lists or opens while another does, streams are counted."""

    lock = threading.RLock()
    counting = threading.Lock()
    streams = 0
    listed_at: float | None = None


@contextmanager
def _held() -> Iterator[None]:
    """PortAudio for this thread alone; when another hangs in it, an error instead of hanging too."""
    if not _PortAudio.lock.acquire(timeout=LOCK_SECONDS):
        raise NoAudioError("the audio system does not answer")
    try:
        yield
    finally:
        _PortAudio.lock.release()


def load_sounddevice() -> Any:
    """The module sounddevice.

    Raises:
        NoAudioError: it, or PortAudio, is not installed.
    """
    try:
        import sounddevice
    except ImportError:
        raise NoAudioError(NOT_INSTALLED) from None
    except OSError as error:
        raise NoAudioError(f"PortAudio cannot be loaded ({error}); on Debian and Ubuntu: libportaudio2") from None
    except Exception as error:  # PortAudio is started when the module is loaded, and says whatever it says
        raise NoAudioError(f"PortAudio does not start ({error})") from None
    return sounddevice


def list_outputs(*, older_than: float | None = None) -> tuple[list[Output], str]:
    """All outputs, and why there are none if so.

    Args:
        older_than: seconds; a list of more than this age is made anew, unless a stream is open.
    """
    try:
        with _held():
            outputs = _query(load_sounddevice(), older_than)
    except NoAudioError as error:
        return [], str(error)
    return outputs, "" if outputs else "this machine has no audio output"


def choose_output(outputs: Sequence[Output], name: str | None) -> Output | None:
    """The output that a name means, None when there is none such.

    Args:
        name: None or "default"; else, case not minded, the whole name, a part of `name, api`, words that all occur in
            it, or a number as `impact devices` shows it. Of several the default one, else the first.
    """
    wanted = (name or "").strip().lower()
    if wanted in ("", "default"):
        return next((output for output in outputs if output.default), outputs[0] if outputs else None)
    full = {output: output.full_name.lower() for output in outputs}
    words = wanted.replace(",", " ").split()
    ways = (
        [output for output in outputs if output.name.lower() == wanted or full[output] == wanted],
        [output for output in outputs if wanted == str(output.id)],
        [output for output in outputs if wanted in full[output]],
        [output for output in outputs if all(word in full[output] for word in words)],
    )
    found = next((way for way in ways if way), [])
    return next((output for output in found if output.default), found[0] if found else None)


def open_stream(output: Output, **options: Any) -> Any:
    """A started `sounddevice.OutputStream`; give it back with :func:`forget_stream` once it is closed.

    Raises:
        NoAudioError: it cannot be opened.
    """
    with _held():
        sounddevice = load_sounddevice()
        try:
            stream = sounddevice.OutputStream(device=output.id, **options)
            try:
                stream.start()
            except BaseException:
                stream.close()
                raise
        except (sounddevice.PortAudioError, OSError, ValueError) as error:
            raise NoAudioError(f"{output.full_name} cannot be opened: {error}") from None
        with _PortAudio.counting:
            _PortAudio.streams += 1
        return stream


def forget_stream() -> None:
    """A stream has been closed."""
    with _PortAudio.counting:
        _PortAudio.streams -= 1


def _query(sounddevice: Any, older_than: float | None) -> list[Output]:
    try:
        _refresh(sounddevice, older_than)
        apis = sounddevice.query_hostapis()
        default = _default(sounddevice, apis)
        return [
            Output(
                id=number,
                name=str(device["name"]),
                api=str(apis[device["hostapi"]]["name"]),
                rate=round(device["default_samplerate"]) or 48000,
                channels=int(device["max_output_channels"]),
                default=number == default,
            )
            for number, device in enumerate(sounddevice.query_devices())
            if device["max_output_channels"] > 0
        ]
    except (sounddevice.PortAudioError, OSError) as error:
        raise NoAudioError(str(error)) from None


def _refresh(sounddevice: Any, older_than: float | None) -> None:
    now = time.monotonic()
    if _PortAudio.listed_at is None:
        _PortAudio.listed_at = now
    elif older_than is not None and now - _PortAudio.listed_at > older_than and not _PortAudio.streams:
        sounddevice._terminate()  # there is no public way to make the list anew
        sounddevice._initialize()
        _PortAudio.listed_at = now


def _default(sounddevice: Any, apis: Sequence[Any]) -> int:
    """Number of the default output, -1 = none: the user's setting for sounddevice, else the first interface's."""
    number = sounddevice.default.device[1]
    if isinstance(number, int) and number >= 0:
        return number
    return next((int(api["default_output_device"]) for api in apis if api["default_output_device"] >= 0), -1)
