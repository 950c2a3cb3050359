"""Takes on disk: names never collide, and a file knows what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.audio.files import Format, encode_sound
from impact_plugin.errors import ImpactError
from impact_plugin.request import Request
from impact_plugin.takes.record import ROW, TakeRecord, read_record
from impact_plugin.takes.riff import info_strings
from impact_plugin.takes.save import save_take, write_new

WAVE = np.linspace(-0.5, 0.5, 4410, dtype=np.float32)
PROMPT = 'a "quoted" prompt, with ünicode and a \\ backslash ' + "\U0001f4a5" * 1900
RECORD = TakeRecord(
    id="7",
    variant=1,
    prompt=PROMPT,
    seed=16777215,
    seconds=0.1,
    rate=44100,
    iterations=16,
    guidance=4.5,
    model="starter",
    elapsed_s=1.25,
    first_preview_s=None,
    request={"prompt": PROMPT, "negative": "\U0001f4a5" * 2000, "seed": 16777215, "seconds": 0.1},
    native_rate=44100,
    made="2025-01-02T03:04:05+00:00",
)


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_record_comes_back_out_of_the_file(tmp_path: Path, format: Format) -> None:
    saved = save_take(tmp_path, "take", WAVE, RECORD, format=format)
    assert saved.path == str(tmp_path / f"take.{format}")
    assert read_record(Path(saved.path)) == saved
    assert len(soundfile.read(saved.path)[0]) == len(WAVE)


def test_short_records_show_in_other_readers(tmp_path: Path) -> None:
    record = RECORD.model_copy(update={"prompt": "dög barks", "request": {"prompt": "dög barks"}})
    with soundfile.SoundFile(save_take(tmp_path, "take", WAVE, record).path) as sound:
        assert sound.title == "dög barks"
        assert sound.software.startswith("impact-plugin ")
        assert json.loads(sound.comment)["seed"] == RECORD.seed


def test_record_makes_the_request_again() -> None:
    assert Request.parse(RECORD.request).seed == RECORD.seed


def test_row_is_the_contracts() -> None:
    row = RECORD.row()
    assert list(row) == list(ROW)
    assert row["first_preview_s"] is None and row["variant"] == 1


def test_path_is_not_embedded() -> None:
    text = RECORD.model_copy(update={"path": "/home/somebody/take.wav"}).to_json()
    assert "somebody" not in text and "\n" not in text


def test_names_are_never_used_twice(tmp_path: Path) -> None:
    paths = [Path(save_take(tmp_path, "take", WAVE, RECORD).path).name for _ in range(3)]
    assert paths == ["take.wav", "take_2.wav", "take_3.wav"]
    before = (tmp_path / "take.wav").stat().st_mtime_ns
    assert Path(save_take(tmp_path, "take", WAVE, RECORD, overwrite=True).path).name == "take.wav"
    assert (tmp_path / "take.wav").stat().st_mtime_ns >= before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_name_that_is_taken_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "take.wav").write_bytes(b"somebody else's")
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert write_new(tmp_path, "take", ".wav", b"ours").name == "take_2.wav"
    assert (tmp_path / "take.wav").read_bytes() == b"somebody else's"


def test_files_that_are_no_takes(tmp_path: Path) -> None:
    (tmp_path / "plain.wav").write_bytes(encode_sound(WAVE, 44100))
    (tmp_path / "other.wav").write_bytes(encode_sound(WAVE, 44100, strings={"comment": '{"a": 1}'}))
    (tmp_path / "text.wav").write_text("text")
    for name in ("plain.wav", "other.wav", "text.wav", "missing.wav"):
        with pytest.raises(ImpactError) as caught:
            read_record(tmp_path / name)
        assert caught.value.code == "bad_file"


def test_records_of_later_versions_can_be_read() -> None:
    text = json.dumps({**json.loads(RECORD.to_json()), "impact": 2, "something_new": [1]})
    assert TakeRecord.from_json(text).seed == RECORD.seed


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 60))
def test_any_bytes_have_strings_or_none(tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.wav"
    data = encode_sound(WAVE[:8], 44100, strings={"title": "t", "comment": "c"})
    path.write_bytes(data[:at] + junk + data[at + len(junk) // 2 :])
    assert all(isinstance(text, str) for text in info_strings(path).values())
    path.write_bytes(junk)
    assert info_strings(path) == {} or junk.startswith(b"R")
