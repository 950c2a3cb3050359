"""The player on a made-up sounddevice: devices chosen by name, lost, hanging, and coming back; and without any.

sounddevice is the one thing replaced here: a device that is pulled out cannot be had on a test machine. What a real
PortAudio plays is tested in `test_audio_playback_alsa`.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from impact_plugin.audio import outputs, playback, stream
from impact_plugin.audio.outputs import Output, choose_output, list_outputs
from impact_plugin.audio.playback import Player

Audio = npt.NDArray[np.float32]
RATE = 8000
BLOCK = 160


class PortAudioError(Exception):
    pass


class CallbackStop(Exception):  # noqa: N818 - sounddevice's own name
    pass


class FakeStream:
    """Calls back from a thread, about five times as fast as a device would."""

    latency = 0.01

    def __init__(self, audio: FakeSound, number: int, options: dict[str, Any]) -> None:
        self.audio, self.number, self.options = audio, number, options
        self.device = audio.listed[number]
        self.blocks: list[Audio] = []
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.thread.start()

    def abort(self) -> None:
        if self.audio.fault == "hangs" and self.device not in self.audio.plugged:
            self.audio.released.wait(30)
        self.closed.set()

    def close(self) -> None:
        self.closed.set()

    def _run(self) -> None:
        while not self.closed.is_set():
            if self.device not in self.audio.plugged:
                if self.audio.fault == "ends":
                    break
                self.closed.wait(0.01)
                continue
            block = np.full((BLOCK, self.options["channels"]), np.nan, np.float32)
            try:
                self.options["callback"](block, BLOCK, None, None)
            except CallbackStop:
                break
            finally:
                self.blocks.append(block)
            time.sleep(BLOCK / RATE / 5)
        self.options["finished_callback"]()

    @property
    def heard(self) -> Audio:
        return np.concatenate([np.zeros((0, 2), np.float32), *self.blocks])[:, 0]


class FakeSound(types.ModuleType):
    """The part of sounddevice that is used. `plugged` is the truth, `listed` what PortAudio saw when it was started."""

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.PortAudioError, self.CallbackStop = PortAudioError, CallbackStop
        self.default = types.SimpleNamespace(device=[-1, -1])
        self.plugged = ["Speakers", "USB Audio: Headset", "HDMI 1"]
        self.listed = list(self.plugged)
        self.streams: list[FakeStream] = []
        self.restarts = 0
        self.fault = "ends"
        self.refused: list[int] = []
        self.released = threading.Event()

    def query_hostapis(self) -> tuple[dict[str, Any], ...]:
        return ({"name": "ALSA", "default_output_device": 0 if self.listed else -1},)

    def query_devices(self) -> list[dict[str, Any]]:
        inputs = [{"name": "Microphone", "hostapi": 0, "max_output_channels": 0, "default_samplerate": 48000.0}]
        return [
            {"name": name, "hostapi": 0, "max_output_channels": 2, "default_samplerate": float(RATE)}
            for name in self.listed
        ] + inputs

    def OutputStream(self, *, device: int, **options: Any) -> FakeStream:  # noqa: N802 - sounddevice's own name
        if options["samplerate"] in self.refused:
            raise PortAudioError("Invalid sample rate")
        if self.listed[device] not in self.plugged:
            raise PortAudioError("Device unavailable")
        self.streams.append(FakeStream(self, device, options))
        return self.streams[-1]

    def _terminate(self) -> None:
        assert all(made.closed.is_set() for made in self.streams), "PortAudio was ended under an open stream"
        self.restarts += 1

    def _initialize(self) -> None:
        self.listed = list(self.plugged)


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSound]:
    fake = FakeSound()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr(outputs._PortAudio, "streams", 0)
    monkeypatch.setattr(outputs._PortAudio, "listed_at", None)
    monkeypatch.setattr(stream, "BEAT_SECONDS", 0.3)
    monkeypatch.setattr(stream, "FIRST_BEAT_SECONDS", 1.0)
    monkeypatch.setattr(stream, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(playback, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(playback, "TICK_SECONDS", 0.02)
    yield fake
    fake.released.set()
    until(lambda: outputs._PortAudio.streams == 0)  # every stream was given back


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def take(seed: int = 1, seconds: float = 0.3) -> Audio:
    audio = (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)
    ramp = np.linspace(0, 1, 50, dtype=np.float32)
    audio[:50] *= ramp
    audio[-50:] *= ramp[::-1]
    return audio


def contains(heard: Audio, audio: Audio) -> bool:
    """Whether the audio was heard whole and unchanged."""
    first = audio[np.flatnonzero(audio)[0] :]
    return any(np.array_equal(heard[start : start + len(first)], first) for start in np.flatnonzero(heard == first[0]))


def test_a_sound_is_played_on_the_named_output(sound: FakeSound) -> None:
    with Player.open("headset") as player:
        assert player.status().device == "USB Audio: Headset, ALSA"
        player.play("a", take(), RATE)
        assert player.wait(10)
        assert player.reason == ""
    (made,) = sound.streams
    assert made.device == "USB Audio: Headset"
    assert made.options["samplerate"] == RATE
    assert contains(made.heard, take())
    assert made.closed.is_set()
    assert player.reason == "the player is closed"


def test_sounds_of_another_rate_are_brought_to_the_devices(sound: FakeSound) -> None:
    wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(22050) / 44100)).astype(np.float32)
    with Player.open() as player:
        player.play("a", wave, 44100)
        assert player.wait(10)
    heard = sound.streams[0].heard
    sounding = heard[np.flatnonzero(np.abs(heard) > 0.01)[0] :][: RATE // 2]
    spectrum = np.abs(np.fft.rfft(sounding))
    assert int(spectrum.argmax()) == round(440 / 2)
    assert len(np.flatnonzero(np.abs(heard) > 0.01)) == pytest.approx(RATE / 2, rel=0.05)


def test_previews_sharpen_and_stopped_ones_stay_silent(sound: FakeSound) -> None:
    old, new = take(1, 2.0), take(2, 2.0)
    with Player.open() as player:
        player.update("a", old, RATE)  # never played: nothing to sharpen
        player.play("a", old, RATE)
        until(lambda: player.status().sounding == ("a",))
        player.update("a", new, RATE)
        assert player.wait(20)
        heard = sound.streams[0].heard
        end = new[-2000:][np.flatnonzero(new[-2000:])]
        assert contains(heard, end)
        player.update("a", old[:800], RATE)  # it has ended: the newer version begins again
        until(lambda: len(np.flatnonzero(sound.streams[-1].heard)) > len(np.flatnonzero(heard)))
        player.stop("a")
        player.wait(10)
        count = len(np.flatnonzero(sound.streams[-1].heard))
        player.update("a", new, RATE)
        player.stop()
        player.wait(10)
        assert len(np.flatnonzero(sound.streams[-1].heard)) == count


def test_the_device_is_let_go_after_a_silence_and_taken_again(sound: FakeSound) -> None:
    with Player.open(idle_seconds=0.1) as player:
        player.play("a", take(1), RATE)
        until(lambda: sound.streams and sound.streams[0].closed.is_set())
        assert contains(sound.streams[0].heard, take(1))
        player.play("a", take(2), RATE)
        assert player.wait(10)
        assert len(sound.streams) == 2
        assert contains(sound.streams[1].heard, take(2))
        assert player.status().losses == 0


@pytest.mark.parametrize("fault", ["ends", "silent", "hangs"])
def test_a_lost_device_drops_the_sound_and_the_next_is_heard_elsewhere(
    sound: FakeSound, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Pulled out: the stream ends, just never calls back, or hangs whoever closes it. The caller notices nothing."""
    sound.fault = fault
    with Player.open() as player, caplog.at_level(logging.WARNING):
        player.play("a", take(1, 5.0), RATE)
        until(lambda: sound.streams and sound.streams[0].heard.any())
        sound.plugged.remove("Speakers")
        until(lambda: player.status().losses)
        assert "Speakers, ALSA is lost" in player.reason
        assert player.wait(1.0)
        if fault == "hangs":  # PortAudio cannot be started again while a stream hangs in it
            sound.listed = ["USB Audio: Headset"]
        began = time.monotonic()
        player.play("b", take(2), RATE)
        assert time.monotonic() - began < 0.1
        until(lambda: len(sound.streams) == 2)
        assert player.wait(10)
        assert player.reason == ""
        assert sound.streams[1].device == "USB Audio: Headset"
        assert contains(sound.streams[1].heard, take(2))
        assert player.status().losses == 1
    assert sum("is lost" in record.getMessage() for record in caplog.records) == 1
    assert sound.restarts == (0 if fault == "hangs" else 1)


def test_a_named_device_that_is_gone_is_not_replaced_but_found_again(sound: FakeSound) -> None:
    with Player.open("headset", idle_seconds=0.05) as player:
        player.play("a", take(1), RATE)
        until(lambda: sound.streams and sound.streams[0].closed.is_set())
        sound.plugged.remove("USB Audio: Headset")
        sound._initialize()
        player.play("a", take(2), RATE)
        until(lambda: player.reason)
        assert player.reason == "there is no audio output headset; there are Speakers, HDMI 1"
        assert len(sound.streams) == 1
        sound.plugged.insert(0, "USB Audio: Headset")  # under another number than before
        time.sleep(0.1)
        player.play("a", take(3), RATE)
        until(lambda: len(sound.streams) == 2)
        assert player.wait(10)
        assert contains(sound.streams[1].heard, take(3))
        assert player.reason == ""


def test_updates_go_on_after_a_loss(sound: FakeSound) -> None:
    with Player.open() as player:
        player.play("a", take(1, 5.0), RATE)
        until(lambda: sound.streams and sound.streams[0].heard.any())
        sound.plugged.remove("Speakers")
        until(lambda: player.status().losses)
        player.update("a", take(2), RATE)
        until(lambda: len(sound.streams) == 2)
        assert player.wait(10)
        assert contains(sound.streams[1].heard, take(2))


def test_no_output_at_all_and_one_that_comes_later(sound: FakeSound) -> None:
    sound.plugged, sound.listed = [], []
    with Player.open() as player:
        assert player.reason == "this machine has no audio output"
        player.play("a", take(1), RATE)
        assert player.wait(5)
        assert sound.streams == []
        sound.plugged = ["Speakers"]
        time.sleep(0.1)
        player.play("a", take(2), RATE)
        until(lambda: sound.streams)
        assert player.wait(10)
        assert contains(sound.streams[0].heard, take(2))


def test_looking_for_an_output_that_has_come_back(sound: FakeSound) -> None:
    """What a lost device leaves behind is a reason, until somebody looks; looking finds it, at a limited rate."""
    with Player.open() as player:
        assert player.look() == ""
        player.play("a", take(1, 5.0), RATE)
        until(lambda: sound.streams and sound.streams[0].heard.any())
        plugged, sound.plugged = sound.plugged, []
        until(lambda: player.status().losses)
        time.sleep(0.1)
        assert player.look() == "this machine has no audio output"
        restarts = sound.restarts
        assert player.look() == "this machine has no audio output"
        assert sound.restarts == restarts
        sound.plugged = plugged
        time.sleep(0.1)
        assert player.look() == ""
        player.play("b", take(2), RATE)
        assert player.wait(10)
        assert contains(sound.streams[1].heard, take(2))
    assert Player.open("none").look() == "playing is switched off"


def test_a_rate_that_is_refused(sound: FakeSound) -> None:
    sound.refused = [RATE, 48000]
    with Player.open() as player:
        player.play("a", take(), RATE)
        assert player.wait(10)
        assert player.reason == ""
        assert player.status().rate == 44100
    sound.refused = [RATE, 48000, 44100]
    with Player.open() as player:
        player.play("a", take(), RATE)
        assert player.wait(10)
        assert player.reason == "Speakers, ALSA cannot be opened: Invalid sample rate"


def test_odd_sounds_harm_nobody(sound: FakeSound, caplog: pytest.LogCaptureFixture) -> None:
    with Player.open() as player:
        player.play("a", np.zeros(0, np.float32), RATE)
        player.play("b", np.full(100, np.nan, np.float32), RATE)
        player.play("c", take(), 0)
        player.stop("nothing")
        assert player.wait(10)
        player.play("d", take(), RATE)
        assert player.wait(10)
        assert contains(sound.streams[0].heard, take())
        assert not np.isnan(sound.streams[0].heard).any()
    player.play("e", take(), RATE)
    player.stop()
    player.close()


def test_a_thread_that_hangs_in_a_driver_never_blocks_the_caller(
    sound: FakeSound, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()
    player = Player.open()
    monkeypatch.setattr(sound, "OutputStream", lambda **_: hang.wait(20))
    began = time.monotonic()
    for number in range(300):
        player.play(number, take(), RATE)
        player.update(number, take(), RATE)
    player.stop()
    assert time.monotonic() - began < 2.0
    monkeypatch.setattr(outputs, "LOCK_SECONDS", 0.1)
    assert list_outputs() == ([], "the audio system does not answer")
    hang.set()
    player.close()


def test_players_that_play_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player.open("None")
    assert player.reason == "playing is switched off"
    player.play("a", take(), RATE)
    player.update("a", take(), RATE)
    player.stop()
    assert player.wait()
    player.close()
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with Player.open() as player:
        assert "impact-plugin[play]" in player.reason
        player.play("a", take(), RATE)
        assert player.status().sounding == ()
    assert Player.devices() == []


OUTPUTS = [
    Output(0, "HDA Intel: ALC892 (hw:0,0)", "ALSA", 44100, 2),
    Output(1, "Speakers (Realtek)", "MME", 44100, 2, default=True),
    Output(2, "Speakers (Realtek)", "Windows WASAPI", 48000, 2),
    Output(3, "USB Headset", "Windows WASAPI", 48000, 2),
]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (None, 1),
        ("", 1),
        ("Default", 1),
        ("speakers", 1),
        ("speakers wasapi", 2),
        ("Speakers (Realtek), Windows WASAPI", 2),
        ("usb headset", 3),
        ("wasapi", 2),
        ("HEADSET", 3),
        ("hw:0,0", 0),
        ("3", 3),
        ("piano", None),
        ("headset mme", None),
    ],
)
def test_outputs_are_chosen_by_name(name: str | None, number: int | None) -> None:
    chosen = choose_output(OUTPUTS, name)
    assert (chosen.id if chosen else None) == number
    assert choose_output([], name) is None


def test_outputs_are_listed(sound: FakeSound) -> None:
    found, problem = list_outputs()
    assert problem == ""
    assert [(output.id, output.name, output.default) for output in found] == [
        (0, "Speakers", True),
        (1, "USB Audio: Headset", False),
        (2, "HDMI 1", False),
    ]
    sound.default.device = [-1, 2]
    assert [output.default for output in Player.devices()] == [False, False, True]
