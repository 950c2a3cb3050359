"""Takes on disk: read back, rated, and everything that is no take refused with a clear word."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from impact_plugin.audio.files import PARTIAL, Format, encode_sound, remove_partials
from impact_plugin.errors import ImpactError
from impact_plugin.takes.chunks import CHUNK
from impact_plugin.takes.file import NoTakeError, rate_file, read_record
from impact_plugin.takes.record import TakeRecord
from impact_plugin.takes.riff import append_chunks, read_layout
from impact_plugin.takes.save import save_take

WAVE = np.linspace(-0.5, 0.5, 4411, dtype=np.float32)
RECORD = TakeRecord(
    id="7",
    variant=0,
    prompt="dög barks",
    seed=9,
    seconds=0.1,
    rate=44100,
    iterations=4,
    guidance=3.0,
    model="starter",
    elapsed_s=1.0,
    request={"prompt": "dög barks"},
    loop=(0, 4410),
)


@pytest.fixture(params=["wav", "flac"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A take, as WAV and as FLAC."""
    format: Format = request.param
    return Path(save_take(tmp_path, "take", WAVE, RECORD, format=format).path)


def refusal(path: Path) -> ImpactError:
    with pytest.raises(ImpactError) as caught:
        read_record(path)
    assert caught.value.code == "bad_file"
    assert str(path) in caught.value.text
    assert "\n" not in caught.value.text
    return caught.value


def test_record_comes_back_out_of_the_file(path: Path) -> None:
    found = read_record(path)
    assert found.path == str(path)
    assert found.model_copy(update={"path": "", "take": "", "made": ""}) == RECORD
    assert found.take
    assert found.made


def test_a_take_goes_wherever_it_is_moved(path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "sub" / "Ünder.x.Wav"
    moved.parent.mkdir()
    shutil.move(path, moved)
    assert read_record(moved).seed == 9


def test_rating_changes_the_rating_and_nothing_else(path: Path, tmp_path: Path) -> None:
    before, sound = read_record(path), soundfile.read(path, dtype="int32")[0]
    size = path.stat().st_size
    assert rate_file(path, 4) == before.model_copy(update={"rating": 4})
    assert read_record(path).rating == 4
    assert np.array_equal(soundfile.read(path, dtype="int32")[0], sound)
    assert path.stat().st_size == size
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    unchanged = path.stat().st_mtime_ns
    rate_file(path, 4)
    assert path.stat().st_mtime_ns == unchanged
    assert rate_file(path, 0) == before


@pytest.mark.parametrize("rating", [-1, 6])
def test_other_ratings_are_refused(path: Path, rating: int) -> None:
    before = path.read_bytes()
    with pytest.raises(ImpactError) as caught:
        rate_file(path, rating)
    assert (caught.value.code, caught.value.field) == ("bad_argument", "rating")
    assert path.read_bytes() == before


def test_rating_keeps_what_others_put_in(tmp_path: Path) -> None:
    path = Path(save_take(tmp_path, "take", WAVE, RECORD).path)
    with open(path, "r+b") as file:
        append_chunks(file, [(b"odd ", b"123"), (b"even", b"1234")])
    rate_file(path, 5)
    with open(path, "rb") as file:
        layout = read_layout(file)
        assert layout is not None
        assert [chunk.id for chunk in layout.chunks][-3:] == [CHUNK, b"odd ", b"even"]
    assert read_record(path).rating == 5


def test_rating_keeps_keys_of_later_versions(tmp_path: Path) -> None:
    data = json.loads(RECORD.to_json()) | {"later": {"a": 1}}
    path = tmp_path / "a.wav"
    path.write_bytes(encode_sound(WAVE, 44100))
    with open(path, "r+b") as file:
        append_chunks(file, [(CHUNK, json.dumps(data).encode())])
    rate_file(path, 2)
    assert b'"later":{"a":1}' in path.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_rating_keeps_the_mode(path: Path) -> None:
    path.chmod(0o640)
    rate_file(path, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_keeps_its_ratings(path: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ImpactError) as caught:
            rate_file(path, 1)
    finally:
        tmp_path.chmod(0o700)
    assert caught.value.code == "bad_argument"
    assert read_record(path).rating == 0


def test_every_cut_take_is_refused_or_whole(tmp_path: Path) -> None:
    data = Path(save_take(tmp_path, "take", WAVE, RECORD).path).read_bytes()
    cut = tmp_path / "cut.wav"
    padded = len(data[data.index(CHUNK) + 8 :].rstrip(b"\0")) % 2  # a byte that says nothing and may be missing
    for size in [*range(0, 60), 5000, len(data) // 2, *range(len(data) - 700, len(data) - padded)]:
        cut.write_bytes(data[:size])
        words = refusal(cut).text
        if size >= 12:
            assert f"cut short: {len(data) - size} bytes are missing" in words, size


def test_a_flac_file_that_ends_in_its_metadata(tmp_path: Path) -> None:
    data = Path(save_take(tmp_path, "take", WAVE, RECORD, format="flac").path).read_bytes()
    cut = tmp_path / "cut.flac"
    for size in range(4, data.index(b"IMPACT_TAKE") + 400, 7):
        cut.write_bytes(data[:size])
        assert "cut short" in refusal(cut).text


def test_files_that_are_no_takes(tmp_path: Path) -> None:
    (tmp_path / "plain.wav").write_bytes(encode_sound(WAVE, 44100, strings={"comment": '{"seed": 1}'}))
    (tmp_path / "plain.flac").write_bytes(encode_sound(WAVE, 44100, format="flac"))
    for name in ("plain.wav", "plain.flac"):
        error = refusal(tmp_path / name)
        assert isinstance(error, NoTakeError)
        assert "no record of a take" in error.text
    (tmp_path / "text.wav").write_text("this is a text file")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "sound.aiff").write_bytes(b"FORM\0\0\0\x04AIFF")
    (tmp_path / "big.wav").write_bytes(b"RF64\xff\xff\xff\xffWAVE" + bytes(100))
    for name in ("text.wav", "empty.wav", "sound.aiff", "big.wav"):
        error = refusal(tmp_path / name)
        assert isinstance(error, NoTakeError)
        assert "neither a WAV nor a FLAC" in error.text
    for name in ("missing.wav", "."):
        assert "cannot read" in refusal(tmp_path / name).text


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"impact": 1', RECORD.to_json().encode()[:-9]]
)
def test_broken_records(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encode_sound(WAVE, 44100))
    with open(path, "r+b") as file:
        append_chunks(file, [(CHUNK, content)])
    error = refusal(path)
    assert not isinstance(error, NoTakeError)
    assert "broken" in error.text


def test_a_record_that_says_it_is_huge(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    size = 5 << 20
    path.write_bytes(b"RIFF" + struct.pack("<I", size + 12) + b"WAVE" + CHUNK + struct.pack("<I", size) + b" " * size)
    assert "broken" in refusal(path).text


def test_only_old_temporary_files_of_ours_are_removed(tmp_path: Path) -> None:
    ours, young = tmp_path / f".{'a' * 12}{PARTIAL}", tmp_path / f".{'b' * 12}{PARTIAL}"
    others = [tmp_path / name for name in (f".notes{PARTIAL}", "take.wav", f"x{'a' * 12}{PARTIAL}", f".{'c' * 12}.tmp")]
    for file in (ours, young, *others):
        file.write_bytes(b"x")
        os.utime(file, (1, 1))
    (tmp_path / f".{'d' * 12}{PARTIAL}").mkdir()
    os.utime(young)
    assert remove_partials(tmp_path) == [ours]
    assert remove_partials(tmp_path, older_than_s=0) == [young]
    assert all(file.exists() for file in others)
    assert remove_partials(tmp_path / "nowhere") == []
