"""The shipped bundle, for real: what it is made of, what it costs, and that a hundred prompts give a hundred sounds.

The held-out sounds in `tests/data/heldout` are of the manifest's test split.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from impact_plugin.bundle.load import Bundle, load_bundle
from impact_plugin.bundle.registry import shipped_folder
from impact_plugin.bundle.verify import verify_bundle
from impact_plugin.cli.app import app
from impact_plugin.evaluation.roundtrip import RealSound, roundtrip
from impact_plugin.training.store import SoundStore

DATA = Path(__file__).parent / "data"
STARTER = shipped_folder() / "starter"

Audio = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def starter() -> Bundle:
    return load_bundle("starter")


def generate(*arguments: str) -> None:
    """Run `impact generate` in this process, with as many threads as the rest of the suite uses."""
    with pytest.raises(SystemExit) as left:
        app(["generate", *arguments, "--model", "starter"], prog_name="impact", standalone_mode=True)
    assert left.value.code in (0, None)


def heldout() -> list[RealSound]:
    store = SoundStore(DATA / "heldout")
    return [RealSound(s.id, store.read_audio(s)[0], 44100, s.captions[1]) for s in store.read_index()]


def test_the_bundle_is_whole_small_and_says_what_it_was_made_from() -> None:
    assert [finding for finding in verify_bundle(STARTER) if finding.level == "error"] == []
    size = sum(path.stat().st_size for path in STARTER.rglob("*") if path.is_file())
    assert size < 30e6
    attribution = (STARTER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "CC-BY-SA" in attribution
    assert "hydrogen-drumkits" in attribution


def test_no_sound_of_the_other_splits_lies_in_its_bank(starter: Bundle) -> None:
    from impact_plugin.training.collect import FREE_SOUNDS
    from impact_plugin.training.sources import read_manifest

    fit = [row for row in read_manifest(FREE_SOUNDS) if row.split == "train" and row.license_ok]
    assert len(starter.extras["bank.seconds"]) == len(fit)


def test_the_codec_keeps_what_it_has_never_heard(starter: Bundle) -> None:
    report = roundtrip(starter.codec, heldout())
    assert report.sounds == 21
    assert report.l1_db < 3.0


@pytest.mark.timeout(900)
def test_a_hundred_prompts_give_a_hundred_sounds(tmp_path: Path) -> None:
    generate("--from", str(DATA / "prompts.txt"), "-o", str(tmp_path), "--seconds", "1.5", "--seed", "11")
    files = sorted(tmp_path.glob("*.wav"))
    assert len(files) == 100
    sounds: list[Audio] = []
    for path in files:
        audio, rate = soundfile.read(path, dtype="float32")
        assert np.isfinite(audio).all()
        assert len(audio) / rate == pytest.approx(1.5, abs=0.02)
        peak = 20 * np.log10(np.abs(audio).max())
        assert -20.0 < peak < -0.1, path.name
        assert 20 * np.log10(np.sqrt(np.mean(audio**2))) > -60.0, path.name
        sounds.append(audio)
    stacked = np.stack([sound / np.linalg.norm(sound) for sound in sounds])
    alike = np.abs(stacked @ stacked.T - np.eye(100))
    assert float(alike.max()) < 0.95


def test_the_same_seed_gives_the_same_samples_in_any_company(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    prompts = (DATA / "prompts.txt").read_text(encoding="utf-8").splitlines()
    some = tmp_path / "some.txt"
    some.write_text("\n".join(prompts[:6]), encoding="utf-8")
    generate("--from", str(some), "-o", str(one), "--seconds", "1", "--seed", "5")
    few = tmp_path / "few.txt"
    few.write_text(prompts[2], encoding="utf-8")
    generate("--from", str(few), "-o", str(two), "--seconds", "1", "--seed", "5")
    first, _ = soundfile.read(sorted(one.glob("*.wav"))[2], dtype="float32")
    alone, _ = soundfile.read(next(iter(two.glob("*.wav"))), dtype="float32")
    difference = 20 * np.log10(max(float(np.abs(first - alone).max()), 1e-9))
    assert difference < -60.0


def test_length_follows_the_words(starter: Bundle, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    seconds = {}
    for prompt in ("ui button click", "rain ambience loop"):
        generate(prompt, "--seed", "1", "--iterations", "4", "--json", "-o", str(tmp_path / f"{len(seconds)}.wav"))
        seconds[prompt] = json.loads(capsys.readouterr().out.splitlines()[-1])["seconds"]
    assert seconds["ui button click"] < 0.8 < 2.0 < seconds["rain ambience loop"]
    assert torch.get_num_threads() >= 1
