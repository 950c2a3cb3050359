"""Played for real: through PortAudio and ALSA into a file, which is compared with what was to be heard.

ALSA's file plugin needs no sound card. It is not paced: it takes blocks as fast as they come, so nothing here is about
time. Needs Linux, libportaudio2 and sounddevice; skipped without, unless IMPACT_REQUIRE_HOSTS=1.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

REQUIRED = os.environ.get("IMPACT_REQUIRE_HOSTS") == "1"
RATE = 44100
STEP_16_BIT = 1 / 32768

CONFIG = """
</usr/share/alsa/alsa.conf>
pcm.recorder { type file  slave.pcm { type null }
  file { @func getenv vars [ RECORDED ] default "/dev/null" }  format "wav" }
pcm.speakers { type plug slave { pcm "recorder" format S16_LE rate 44100 channels 2 } }
pcm.!default { type plug slave { pcm "recorder" format S16_LE rate 44100 channels 2 } }
"""

SCRIPT = """
import sys
import numpy as np
from impact_plugin.audio.playback import Player
with Player.open(sys.argv[2] or None, idle_seconds=0.3) as player:
    player.play("take", np.load(sys.argv[1]), int(sys.argv[3]))
    assert player.wait(20), "it never ended"
    print(player.status().device, "|", player.reason)
"""


@pytest.fixture(scope="module")
def alsa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with ALSA's configuration."""
    problem = ""
    try:
        importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:
        problem = f"sounddevice or PortAudio is missing: {error}"
    if not sys.platform.startswith("linux") or not Path("/usr/share/alsa/alsa.conf").exists():
        problem = "ALSA is a part of Linux (package libasound2-data)"
    if problem:
        if REQUIRED:
            pytest.fail(problem)
        pytest.skip(problem)
    folder = tmp_path_factory.mktemp("alsa")
    (folder / "asound.conf").write_text(CONFIG, encoding="ascii")
    return folder


def play(alsa: Path, recorded: Path, *args: str) -> str:
    environment = {**os.environ, "ALSA_CONFIG_PATH": str(alsa / "asound.conf"), "RECORDED": str(recorded)}
    run = subprocess.run([sys.executable, *args], env=environment, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    return run.stdout


def take(seed: int, rate: int, seconds: float = 0.6) -> npt.NDArray[np.float32]:
    frames = round(seconds * rate)
    audio = 0.3 * np.random.default_rng(seed).standard_normal(frames) * np.exp(-np.arange(frames) / (rate / 5))
    audio[:200] *= np.linspace(0, 1, 200)
    audio[-200:] *= np.linspace(1, 0, 200)
    return audio.clip(-0.89, 0.89).astype(np.float32)


def find(recorded: npt.NDArray[np.float64], audio: npt.NDArray[np.float32]) -> int:
    """Where the audio lies in the recording."""
    size = len(recorded) + len(audio)
    likeness = np.fft.irfft(np.fft.rfft(recorded, size) * np.conj(np.fft.rfft(audio, size)), size)
    return int(likeness[: len(recorded) - len(audio) + 1].argmax())


@pytest.mark.parametrize("name", ["", "speak alsa"])
def test_what_is_heard_is_the_sound(alsa: Path, tmp_path: Path, name: str) -> None:
    audio = take(1, RATE)
    np.save(tmp_path / "take.npy", audio)
    said = play(alsa, tmp_path / "out.wav", "-c", SCRIPT, str(tmp_path / "take.npy"), name, str(RATE))
    assert said.strip() == f"{'speakers' if name else 'default'}, ALSA |"
    recorded, rate = soundfile.read(tmp_path / "out.wav", always_2d=True)
    assert rate == RATE
    start = find(recorded[:, 0], audio)
    for channel in (0, 1):
        assert np.abs(recorded[start : start + len(audio), channel] - audio).max() <= 1.01 * STEP_16_BIT
    assert not recorded[:start].any()
    assert not recorded[start + len(audio) :].any()


def test_another_rate_is_heard_at_the_right_speed(alsa: Path, tmp_path: Path) -> None:
    from impact_plugin.audio.resample import resample

    audio = take(3, 16000)
    np.save(tmp_path / "take.npy", audio)
    play(alsa, tmp_path / "out.wav", "-c", SCRIPT, str(tmp_path / "take.npy"), "", "16000")
    recorded, _ = soundfile.read(tmp_path / "out.wav", always_2d=True)
    wanted = resample(audio, 16000, RATE)
    start = find(recorded[:, 0], wanted)
    assert np.abs(recorded[start : start + len(wanted), 0] - wanted).max() <= 1.01 * STEP_16_BIT


def test_generate_plays_what_it_writes(alsa: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    make = ["-m", "impact_plugin", "generate", "dog barks", "--model", str(tiny_bundle), "--seconds", "0.5"]
    make += ["--iterations", "2", "--rate", str(RATE), "--set", "peak_db=-3", "--play"]
    play(alsa, tmp_path / "out.wav", *make, "-o", str(tmp_path / "take.wav"))
    audio, _ = soundfile.read(tmp_path / "take.wav", dtype="float32")
    recorded, _ = soundfile.read(tmp_path / "out.wav", always_2d=True)
    start = find(recorded[:, 0], audio)
    assert np.abs(recorded[start : start + len(audio), 0] - audio).max() <= 2.01 * STEP_16_BIT


def test_devices_lists_the_outputs(alsa: Path, tmp_path: Path) -> None:
    listed = play(alsa, tmp_path / "out.wav", "-m", "impact_plugin", "devices")
    assert "speakers" in listed
    assert "ALSA" in listed
