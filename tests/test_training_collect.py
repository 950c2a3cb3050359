"""Collecting sounds: real Debian packages, built here, with the faults that real material has."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from impact_plugin.errors import ImpactError
from impact_plugin.training.collect import FREE_SOUNDS, collect
from impact_plugin.training.prepare import RATE, prepare_sound, read_sound, to_mono
from impact_plugin.training.sources import content_hash, package_files, read_manifest
from impact_plugin.training.store import SoundStore

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed (Debian only)")

COLUMNS = ["id", "package", "version", "path", "sha256", "seconds", "rate", "channels", "rolloff_hz", "kind"]
COLUMNS += ["caption", "caption2", "caption3", "ucs", "loop", "license", "license_ok", "split"]


def tone(seconds: float, rate: int = 22050, hz: float = 440.0) -> npt.NDArray[np.float32]:
    time = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def sound_bytes(audio: npt.NDArray[np.float32], rate: int = 22050, kind: str = "WAV") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, audio, rate, format=kind)
    return out.getvalue()


def build_deb(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    tree = folder / f"{name}_tree"
    for path, data in files.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    control = tree / "DEBIAN"
    control.mkdir()
    text = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: test\n"
    (control / "control").write_text(text, encoding="utf-8")
    deb = folder / f"{name}_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(tree), str(deb)], check=True, capture_output=True)
    return deb


def write_manifest(path: Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        writer.writeheader()
        for number, row in enumerate(rows):
            base = dict.fromkeys(COLUMNS, "")
            base.update(id=f"s{number}", version="1.0", kind="ui", caption="a beep", license="CC0-1.0")
            base.update(license_ok="1", split="train", loop="0", **row)
            writer.writerow(base)


@needs_dpkg
def test_sounds_come_out_of_packages_and_archives_inside_them(tmp_path: Path) -> None:
    plain, zipped = sound_bytes(tone(0.5)), sound_bytes(tone(0.3), kind="FLAC")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as handle:
        handle.writestr("inner/a.flac", zipped)
    packages = tmp_path / "packages"
    packages.mkdir()
    build_deb(packages, "noises", {"usr/share/a.wav": plain, "usr/share/all.pk3": archive.getvalue()})
    manifest = tmp_path / "manifest.csv"
    write_manifest(
        manifest,
        [
            {"package": "noises", "path": "usr/share/a.wav", "sha256": content_hash(plain), "caption2": "beep"},
            {"package": "noises", "path": "usr/share/all.pk3!/inner/a.flac", "sha256": content_hash(zipped)},
            {"package": "noises", "path": "usr/share/a.wav", "sha256": "0" * 16},
            {"package": "noises", "path": "usr/share/missing.wav", "sha256": "0" * 16},
        ],
    )
    seen: list[tuple[int, int, str]] = []
    report = collect(
        manifest, tmp_path / "data", packages=packages, workers=1, progress=lambda *told: seen.append(told)
    )
    assert report.sounds == 2
    assert len(report.problems) == 2
    assert "another content" in report.problems[0]
    assert "not in the package" in report.problems[1]
    assert seen == [(1, 1, "noises")]
    store = SoundStore(tmp_path / "data")
    first, second = store.read_index()
    assert first.captions == ("a beep", "beep")
    assert first.source == "noises:usr/share/a.wav"
    audio, rate = store.read_audio(second)
    assert rate == RATE
    assert len(audio) / rate == pytest.approx(0.3, abs=0.02)
    assert float(np.abs(audio).max()) == pytest.approx(0.89, abs=0.01)


@needs_dpkg
def test_a_full_cache_needs_no_packages(tmp_path: Path) -> None:
    data = sound_bytes(tone(0.2))
    packages = tmp_path / "packages"
    packages.mkdir()
    build_deb(packages, "noises", {"a.wav": data})
    manifest = tmp_path / "manifest.csv"
    write_manifest(manifest, [{"package": "noises", "path": "a.wav", "sha256": content_hash(data)}])
    collect(manifest, tmp_path / "data", packages=packages, workers=1, keep_packages=False)
    assert list(packages.glob("*.deb")) == []
    report = collect(manifest, tmp_path / "data", packages=tmp_path / "none", workers=1)
    assert (report.sounds, report.problems) == (1, [])


@needs_dpkg
def test_a_broken_package_says_what_to_do(tmp_path: Path) -> None:
    broken = tmp_path / "noises_1.0_all.deb"
    broken.write_bytes(b"not a package")
    with pytest.raises(ImpactError, match="delete it and try again"):
        list(package_files(broken, {"a.wav"}))


def test_the_shipped_manifest_is_whole_and_test_families_stay_apart() -> None:
    rows = read_manifest(FREE_SOUNDS)
    assert len(rows) > 6000
    assert len({row.id for row in rows}) == len(rows)
    assert all(row.captions for row in rows)
    assert {row.split for row in rows} == {"train", "valid", "test"}
    assert all(row.license_ok for row in rows if row.split != "train")


def test_a_missing_or_foreign_manifest_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ImpactError, match="cannot read the manifest"):
        read_manifest(tmp_path / "none.csv")
    foreign = tmp_path / "foreign.csv"
    foreign.write_text("name,size\na,1\n", encoding="utf-8")
    with pytest.raises(ImpactError, match="no column"):
        read_manifest(foreign)


def test_cancelling_stereo_keeps_a_channel() -> None:
    left = tone(0.1)
    assert np.array_equal(to_mono(np.stack([left, -left], axis=1)), left)
    assert np.allclose(to_mono(np.stack([left, left], axis=1)), left)


def test_silence_and_dc_go_and_the_level_is_set() -> None:
    rate = 48000
    sound = np.concatenate([np.zeros(rate), tone(0.5, rate), np.zeros(2 * rate)]) + 0.2
    prepared = prepare_sound(sound.astype(np.float32)[:, None], rate)
    assert prepared is not None
    assert len(prepared) / RATE == pytest.approx(0.53, abs=0.06)
    assert abs(float(prepared.mean())) < 0.01
    assert float(np.abs(prepared).max()) == pytest.approx(0.89, abs=0.001)


def test_silence_alone_is_no_sound() -> None:
    assert prepare_sound(np.zeros((1000, 2), dtype=np.float32), RATE) is None


@pytest.mark.parametrize("data", [b"", b"RIFF", b"hello, I am a text file that was renamed"])
def test_what_is_no_sound_is_refused(data: bytes) -> None:
    with pytest.raises(ImpactError, match="not a readable sound"):
        read_sound(data)


def test_samples_that_are_no_numbers_are_refused() -> None:
    audio = tone(0.1)
    audio[7] = np.nan
    out = io.BytesIO()
    soundfile.write(out, audio, 22050, format="WAV", subtype="FLOAT")
    with pytest.raises(ImpactError, match="not numbers"):
        read_sound(out.getvalue())
