"""Generators that are perfect, blind, or broken, judged on a small data set."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from impact_plugin.errors import ImpactError
from impact_plugin.evaluation.generated import Generate, evaluate_generated, faults_of, seed_of, write_report
from impact_plugin.evaluation.testset import TestSet
from impact_plugin.training.store import Sound, SoundStore

RATE = 16000
HERTZ = {"low tone": 500.0, "middle tone": 2000.0, "high tone": 5000.0}


class LoudestBand:
    """One tag a sound: the loudest of eight bands."""

    def top_indices(self, audio: np.ndarray, rate: int, n: int = 5) -> tuple[int, ...]:
        power = np.abs(np.fft.rfft(audio, 2048)) ** 2
        return (int(np.argmax([part.sum() for part in np.array_split(power, 8)])),)

    def names(self, indices: Iterable[int]) -> tuple[str, ...]:
        return tuple(f"band {index}" for index in indices)


def tone(hertz: float, seconds: float, seed: int = 0) -> np.ndarray:
    phase = np.random.default_rng(seed).uniform(0, 6)
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE + phase)).astype(np.float32)


def perfect(prompt: str, seconds: float, seed: int) -> tuple[np.ndarray, int]:
    return tone(next(hertz for name, hertz in HERTZ.items() if name in prompt), seconds, seed), RATE


def blind(prompt: str, seconds: float, seed: int) -> tuple[np.ndarray, int]:
    return tone(list(HERTZ.values())[seed % 3], seconds, seed), RATE


@pytest.fixture
def data(tmp_path: Path) -> Path:
    store = SoundStore(tmp_path / "data")
    base = Sound("", "", 0.0, "ui", (), "", False, "CC0-1.0", True, "test", "made here")
    sounds = []
    for index in range(12):
        label = list(HERTZ)[index % 3]
        seconds = 0.2 + 0.1 * index
        sound_id = f"s{index:02d}"
        store.write_audio(sound_id, tone(HERTZ[label], seconds, index), RATE)
        captions = (f"a long {label}, number {index}", label.title(), f"{label} again")
        kind = "ui" if index % 3 else "alarm"
        sounds.append(
            replace(base, id=sound_id, file=f"audio/{sound_id}.flac", seconds=seconds, kind=kind, captions=captions)
        )
    store.write_index([*sounds, replace(sounds[0], id="s99", split="train")])
    return tmp_path / "data"


def test_the_test_set_is_one_split_and_can_be_sampled(data: Path) -> None:
    whole = TestSet(data)
    assert [case.sound.id for case in whole.cases] == [f"s{i:02d}" for i in range(12)]
    assert whole.cases[0].prompt == "a long low tone, number 0"
    assert whole.cases[0].label == "low tone"
    assert TestSet(data, caption=1).cases[1].prompt == "Middle Tone"
    assert TestSet(data, caption=9).cases[1].prompt == "middle tone again"
    some = TestSet(data, limit=5, seed=1)
    assert len(some) == 5
    assert [c.sound.id for c in some.cases] == [c.sound.id for c in TestSet(data, limit=5, seed=1).cases]
    assert len({tuple(c.sound.id for c in TestSet(data, limit=5, seed=s).cases) for s in range(6)}) > 1
    audio, rate = whole.audio(whole.cases[11], 0.5)
    assert (len(audio), rate) == (8000, RATE)
    assert [sound.label for sound in some.sounds(0.1)] == [case.label for case in some.cases]


def test_an_empty_split_and_a_folder_that_is_none_are_errors(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ImpactError, match="'valid'"):
        TestSet(data, split="valid")
    with pytest.raises(ImpactError) as caught:
        TestSet(tmp_path / "nothing")
    assert caught.value.code == "bad_file"


def test_a_perfect_generator_scores_one_and_a_blind_one_less(data: Path) -> None:
    test = TestSet(data)
    good = evaluate_generated(test, perfect, LoudestBand())
    assert good.agreement.same == 1.0
    assert good.agreement.other == 0.0
    assert good.agreement.twins == 1.0
    assert good.agreement.normalised == 1.0
    assert good.faults == {}
    assert good.kinds == {"ui": (8, 1.0), "alarm": (4, 1.0)}
    poor = evaluate_generated(test, blind, LoudestBand())
    hits = [seed_of(f"s{i:02d}", 0) % 3 == i % 3 for i in range(12)]
    assert poor.agreement.same == pytest.approx(np.mean(hits))
    assert [row.hit for row in poor.rows] == hits
    assert poor.agreement.same < 0.7


def test_a_sample_takes_the_twin_level_from_the_whole_split(data: Path) -> None:
    alone = evaluate_generated(TestSet(data, limit=1), perfect, LoudestBand())
    assert alone.agreement.pairs == 1
    assert alone.agreement.twins == 1.0
    assert alone.agreement.other is None  # one label alone


def test_takes_have_the_real_sounds_length_within_the_limits_and_a_seed_of_their_own(data: Path) -> None:
    asked: list[tuple[float, int]] = []

    def generate(prompt: str, seconds: float, seed: int) -> tuple[np.ndarray, int]:
        asked.append((seconds, seed))
        return perfect(prompt, seconds, seed)

    evaluate_generated(TestSet(data), generate, LoudestBand(), seconds=(0.35, 0.9))
    assert [seconds for seconds, _ in asked] == pytest.approx([0.35, 0.35, *np.arange(0.4, 0.85, 0.1), *[0.9] * 5])
    assert len({seed for _, seed in asked}) == 12
    assert all(0 <= seed < 1 << 24 for _, seed in asked)
    alone: list[tuple[float, int]] = []
    asked, alone = alone, asked
    evaluate_generated(TestSet(data, limit=1, seed=2), generate, LoudestBand(), seconds=(0.35, 0.9))
    assert asked[0] in alone  # the seed does not depend on which sounds are judged


def broken(kind: str) -> Generate:
    def generate(prompt: str, seconds: float, seed: int) -> tuple[np.ndarray, int]:
        audio, rate = perfect(prompt, seconds, seed)
        if kind == "not finite":
            audio[3] = np.nan
        elif kind == "silent":
            audio[:] = 0.0
        elif kind == "too quiet":
            audio *= 0.01
        elif kind == "too loud":
            audio *= 2.1
        elif kind == "wrong length":
            audio = audio[: -int(0.03 * rate)]
        return audio, rate

    return generate


@pytest.mark.parametrize("kind", ["not finite", "silent", "too quiet", "too loud", "wrong length"])
def test_faults_are_counted_and_the_report_can_be_written(data: Path, tmp_path: Path, kind: str) -> None:
    report = evaluate_generated(TestSet(data, limit=4), broken(kind), LoudestBand())
    assert report.faults.pop(kind) == 4
    assert set(report.faults) <= {"same samples"}  # silence of one length is that
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_generator_that_repeats_itself_is_found_out(data: Path) -> None:
    report = evaluate_generated(TestSet(data), lambda *_: (tone(500.0, 1.0), RATE), LoudestBand(), seconds=(1.0, 1.0))
    assert report.faults == {"same samples": 11}
    assert report.rows[5].faults == ("same samples as s00",)
    assert report.spread is not None
    assert report.spread.generated == report.spread.nearest == 0.0
    assert report.spread.real > 1.0


def test_report_files_takes_and_lines(data: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    report = evaluate_generated(
        TestSet(data, limit=6),
        perfect,
        LoudestBand(),
        keep=tmp_path / "takes",
        settings={"bundle": "none"},
        progress=lambda done, total, prompt: steps.append(done),
    )
    assert steps == list(range(1, 7))
    json_path, png_path = write_report(report, tmp_path / "new" / "report")
    data_out = json.loads(json_path.read_text())
    assert data_out["settings"]["bundle"] == "none"
    assert data_out["same_caption"] == 1.0
    assert data_out["other_caption"] == 0.0
    assert len(data_out["rows"]) == 6
    assert png_path.read_bytes().startswith(b"\x89PNG\r\n")
    assert len(png_path.read_bytes()) > 20_000
    for row in report.rows:
        info = soundfile.info(str(tmp_path / "takes" / f"{row.id}.wav"))
        assert info.frames / info.samplerate == pytest.approx(row.seconds, abs=0.001)
    assert any("another caption" in line for line in report.lines())


def test_faults_of_one_take() -> None:
    assert faults_of(tone(500.0, 1.0), RATE, 1.0) == []
    assert faults_of(tone(500.0, 1.0), RATE, 1.019) == []
    assert faults_of((1e-4 * tone(500.0, 1.0)).astype(np.float32), RATE, 2.0) == ["silent", "wrong length"]
    assert faults_of(np.full(10, np.inf, np.float32), RATE, 1.0) == ["not finite"]
