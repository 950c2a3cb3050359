"""Sound files: written whole or not at all, and read back."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from impact_plugin.audio.files import (
    PARTIAL,
    check_folder,
    check_format,
    check_space,
    disk_error,
    encode_sound,
    make_folder,
    read_sound,
    sound_bytes,
    write_bytes,
    write_sound,
)
from impact_plugin.errors import ImpactError

WAVE = (0.5 * np.sin(np.arange(4800, dtype=np.float32) / 20)).astype(np.float32)


@pytest.mark.parametrize(
    ("format", "subtype", "error"),
    [("wav", "PCM_16", 2**-15), ("wav", "PCM_24", 2**-23), ("wav", "FLOAT", 0.0), ("flac", "PCM_24", 2**-23)],
)
def test_round_trip(tmp_path: Path, format: str, subtype: str, error: float) -> None:
    kind = check_format(format, subtype)
    strings = {"title": "dög barks", "comment": "{}" * 1000}
    path = write_sound(tmp_path / f"a.{format}", WAVE, 48000, format=kind[0], subtype=kind[1], strings=strings)
    sound = read_sound(path)
    assert sound.rate == 48000
    assert sound.audio.shape == (4800, 1)
    assert sound.seconds == pytest.approx(0.1)
    assert np.abs(sound.audio[:, 0] - WAVE).max() <= error
    assert sound.strings["title"] == "dög barks"
    assert sound.strings["comment"] == "{}" * 1000
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_stereo(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", np.stack([WAVE, -WAVE], axis=1), 44100, subtype="FLOAT")
    assert np.array_equal(read_sound(path).audio[:, 1], -WAVE)


def test_text_chunk_lies_before_the_data() -> None:
    data = encode_sound(WAVE, 44100, strings={"title": "dog"})
    assert data.index(b"INAM") < data.index(b"data")


@pytest.mark.parametrize(("format", "subtype"), [("mp3", "PCM_16"), ("flac", "FLOAT"), ("wav", "PCM_8")])
def test_formats_that_are_not_written(format: str, subtype: str) -> None:
    with pytest.raises(ImpactError) as caught:
        check_format(format, subtype)
    assert caught.value.code == "bad_argument"


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"first")
    with pytest.raises(ImpactError) as caught:
        write_bytes(path, b"second")
    assert caught.value.code == "bad_argument"
    assert path.read_bytes() == b"first"
    write_bytes(path, b"third", overwrite=True)
    assert path.read_bytes() == b"third"
    assert len(list(tmp_path.iterdir())) == 1


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for attempt in (lambda: make_folder(tmp_path / "file" / "sub"), lambda: check_folder(tmp_path / "file" / "sub")):
        with pytest.raises(ImpactError) as caught:
            attempt()
        assert (caught.value.code, caught.value.exit_status) == ("bad_argument", 2)
    with pytest.raises(ImpactError) as caught:
        write_bytes(tmp_path / "file" / "a.wav", b"x")
    assert caught.value.code == "bad_argument"


def test_folder_is_made_and_left_clean(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()
    assert list(make_folder(tmp_path / "a" / "b").iterdir()) == []


def test_space(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "there", 1)
    with pytest.raises(ImpactError) as caught:
        check_space(tmp_path, 1 << 60)
    assert (caught.value.code, caught.value.exit_status) == ("disk_full", 1)
    assert sound_bytes(2.0, 48000, "PCM_24") >= len(encode_sound(np.zeros(96000, np.float32), 48000))


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "disk_full"), (errno.EFBIG, "disk_full"), (errno.EACCES, "bad_argument"), (errno.EIO, "internal")],
)
def test_what_errors_mean(number: int, code: str) -> None:
    assert disk_error(OSError(number, os.strerror(number)), Path("x")).code == code


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file sizes")
def test_disk_full_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "from pathlib import Path\n"
        "from impact_plugin.audio.files import write_bytes\n"
        "from impact_plugin.errors import ImpactError\n"
        "try: write_bytes(Path(sys.argv[1]) / 'a.wav', bytes(50_000))\n"
        "except ImpactError as error: print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "disk_full"
    assert list(tmp_path.iterdir()) == []


def test_partial_name_is_hidden_and_recognisable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = os.fsync

    def spy(descriptor: int) -> None:
        seen.extend(path.name for path in tmp_path.iterdir())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    write_bytes(tmp_path / "a.wav", b"x")
    assert seen[0].startswith(".")
    assert seen[0].endswith(PARTIAL)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound at all")
    (tmp_path / "short.wav").write_bytes(encode_sound(WAVE, 44100)[:20])
    (tmp_path / "empty.wav").write_bytes(encode_sound(WAVE[:0], 44100))
    bad = WAVE.copy()
    bad[7] = np.nan
    (tmp_path / "nan.wav").write_bytes(encode_sound(bad, 44100, subtype="FLOAT"))
    for name in ("text.wav", "short.wav", "empty.wav", "nan.wav", "missing.wav", "."):
        with pytest.raises(ImpactError) as caught:
            read_sound(tmp_path / name)
        assert caught.value.code == "bad_file", name


def test_24_bit_header(tmp_path: Path) -> None:
    data = encode_sound(WAVE, 44100)
    at = data.index(b"fmt ") + 8
    _, channels, rate = struct.unpack("<HHI", data[at : at + 8])
    assert (channels, rate, struct.unpack("<H", data[at + 14 : at + 16])[0]) == (1, 44100, 24)
