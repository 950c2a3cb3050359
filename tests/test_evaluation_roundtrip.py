"""The codec round trip: shapes, files and figures, with codecs whose answer is known and with a real one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from impact_plugin.errors import ImpactError
from impact_plugin.evaluation import roundtrip as module
from impact_plugin.evaluation.logmel import distance_db
from impact_plugin.evaluation.roundtrip import RealSound, roundtrip, roundtrip_audio, roundtrip_folder, write_report

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle


class GainCodec:
    """Patches of samples as latents, times a gain on the way back: a codec whose loss is known."""

    kind = "gain"
    rate = 16000
    dims = 160
    samples_per_token = 160
    tokens_per_second = 100.0

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain
        self.lengths: list[int] = []

    def encode(self, audio: Tensor) -> Tensor:
        self.lengths.append(audio.shape[1])
        padded = torch.nn.functional.pad(audio, (0, -audio.shape[1] % 160))
        return padded.reshape(len(audio), -1, 160)

    def decode(self, latents: Tensor, *, seeds: Sequence[int], quality: str = "final") -> Tensor:
        assert len(seeds) == len(latents)
        return self.gain * latents.reshape(len(latents), -1)

    def decode_part(self, latents: Tensor, start: int, stop: int, *, seeds: Sequence[int], quality: str = "") -> Tensor:
        return self.decode(latents[:, start:stop], seeds=seeds)

    def to(self, device: torch.device | str) -> GainCodec:
        return self

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}


class LoudBands:
    """Tags of a sound: the loudest of ten equal bands of its spectrum."""

    def top_indices(self, audio: np.ndarray, rate: int, n: int = 5) -> tuple[int, ...]:
        power = np.abs(np.fft.rfft(audio, 4096)) ** 2
        bands = [float(part.sum()) for part in np.array_split(power, 10)]
        return tuple(int(index) for index in np.argsort(bands)[::-1][:n])

    def names(self, indices: Iterable[int]) -> tuple[str, ...]:
        return tuple(f"band {index}" for index in indices)


def noise(frames: int, seed: int = 0, channels: int = 0) -> np.ndarray:
    shape = (frames, channels) if channels else (frames,)
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize(("rate", "frames"), [(16000, 1600), (16000, 1), (44100, 10001), (48000, 4800)])
def test_length_and_shape_stay(rate: int, frames: int) -> None:
    for channels in (0, 1, 2):
        audio = noise(frames, channels=channels)
        again = roundtrip_audio(GainCodec(), audio, rate)
        assert again.shape == audio.shape
        assert again.dtype == np.float32
    if rate == 16000:
        assert np.allclose(again, audio, atol=1e-6)


def test_long_sounds_go_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_SECONDS", 1.0)
    monkeypatch.setattr(module, "OVERLAP_SECONDS", 0.1)
    codec = GainCodec()
    audio = np.full(int(3.7 * 16000), 0.5, np.float32)
    again = roundtrip_audio(codec, audio, 16000)
    assert max(codec.lengths) <= 17600
    assert len(again) == len(audio)
    seams = [slice(start, start + 1600) for start in (16000, 32000, 48000)]
    whole = np.ones(len(audio), dtype=bool)
    for seam in seams:
        whole[seam] = False
        assert 0.49 < again[seam].min() <= again[seam].max() < 0.72  # cross-fades of equal power: at most +3 dB
    assert np.allclose(again[whole], 0.5, atol=1e-6)


def test_the_report_tells_the_loss() -> None:
    sounds = [RealSound(f"s{i}", noise(8000, i), 16000, f"kind {i % 2}") for i in range(4)]
    seen: list[tuple[int, int, str]] = []
    report = roundtrip(
        GainCodec(0.5), iter(sounds), tagger=LoudBands(), total=4, progress=lambda *step: seen.append(step)
    )
    assert report.sounds == 4
    assert seen[-1] == (4, 4, "s3")
    # 16 kHz noise has nothing above 8 kHz: that part is the floor in both
    assert 3.0 < report.l1_db < 6.1
    assert report.l1_db == pytest.approx(np.mean([row.l1_db for row in report.rows]))
    assert report.rows[0].l1_db == pytest.approx(distance_db(sounds[0].audio, 0.5 * sounds[0].audio, 16000), abs=0.01)
    assert report.agreement is not None
    assert (report.agreement.same, report.agreement.overlap, report.agreement.best) == (1.0, 1.0, 1.0)
    assert report.rows[0].tags == report.rows[0].tags_after
    assert roundtrip(GainCodec(), sounds).agreement is None
    assert roundtrip(GainCodec(), sounds).l1_db < 0.01


def test_the_report_is_plain_json(tmp_path: Path) -> None:
    report = roundtrip(GainCodec(0.5), [RealSound("a", noise(2000), 16000, "x")], tagger=LoudBands())
    data = json.loads(write_report(report, tmp_path / "roundtrip.json").read_text())
    assert data["sounds"] == 1
    assert data["agreement"]["overlap"] == 1.0
    assert data["rows"][0]["name"] == "a"
    assert "rows" not in report.to_dict(rows=False)


def test_no_sounds_is_an_error() -> None:
    with pytest.raises(ImpactError) as caught:
        roundtrip(GainCodec(), [])
    assert caught.value.code == "bad_argument"


def test_a_bundle_may_stand_for_its_codec(tiny: Bundle) -> None:
    audio = noise(9000)
    again = roundtrip_audio(tiny, audio, 44100, seed=3)
    assert again.shape == audio.shape
    assert np.isfinite(again).all()
    assert np.array_equal(again, roundtrip_audio(tiny.codec, audio, 44100, seed=3))
    assert not np.array_equal(again, roundtrip_audio(tiny.codec, audio, 44100, seed=4))


FILES = [
    ("a.wav", 44100, 1, "PCM_16", 5000),
    ("sub/b.wav", 48000, 2, "PCM_24", 7001),
    ("sub/c.flac", 22050, 1, "PCM_16", 3000),
    ("d.aiff", 96000, 1, "PCM_24", 9000),
    ("e e.wav", 8000, 1, "FLOAT", 1),
    ("f.ogg", 44100, 2, "VORBIS", 20000),
]


def test_a_folder_keeps_names_formats_rates_and_lengths(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "in" / "out"
    for name, rate, channels, subtype, frames in FILES:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(source / name, noise(frames, channels=channels), rate, subtype=subtype)
    (source / "notes.txt").write_text("not a sound")
    (source / "._a.wav").write_text("not a sound either")
    (source / "broken.wav").write_bytes(b"RIFF....WAVE")
    seen: list[str] = []
    problems = roundtrip_folder(GainCodec(0.5), source, out, progress=lambda done, total, name: seen.append(name))
    assert len(problems) == 1
    assert problems[0].startswith("broken.wav: ")
    assert set(seen) == {name for name, *_ in FILES} | {"broken.wav"}
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {n for n, *_ in FILES}
    for name, rate, channels, subtype, frames in FILES:
        info = soundfile.info(str(out / name))
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (rate, channels, subtype, frames)
    before, _ = soundfile.read(source / "a.wav")
    after, _ = soundfile.read(out / "a.wav")
    assert 0.1 < np.abs(after).max() / np.abs(before).max() < 0.6
    # again: the folder of results lies inside the source and is left alone
    assert len(roundtrip_folder(GainCodec(0.5), source, out)) == 1


def test_folders_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.wav").write_bytes(b"nothing")
    for source, out, code in [
        (tmp_path / "missing", tmp_path / "out", "bad_file"),
        (tmp_path / "empty", tmp_path / "out", "bad_file"),
        (tmp_path / "broken", tmp_path / "out", "bad_file"),
        (tmp_path / "empty", tmp_path / "empty", "bad_argument"),
    ]:
        with pytest.raises(ImpactError) as caught:
            roundtrip_folder(GainCodec(), source, out)
        assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(100), 16000)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ImpactError) as caught:
        roundtrip_folder(GainCodec(), tmp_path, tmp_path / "file")
    assert caught.value.code == "bad_argument"
