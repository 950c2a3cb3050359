"""The bytes of a take: chunks in their order, sizes and padding, as readers that are not ours see them."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutagen.flac
import numpy as np
import pytest
import soundfile
import wavinfo
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.audio.files import Format, Subtype
from impact_plugin.errors import ImpactError
from impact_plugin.takes import flac, riff
from impact_plugin.takes.chunks import TAG, bext, flac_tags, wav_chunks
from impact_plugin.takes.file import read_record, take_writer
from impact_plugin.takes.ixml import ixml
from impact_plugin.takes.record import TakeRecord
from impact_plugin.takes.save import save_take

FRAMES = 4411  # odd, so that 24-bit sound needs a byte of padding
WAVE = (0.5 * np.sin(np.arange(FRAMES) / 20)).astype(np.float32)
RECORD = TakeRecord(
    id="job",
    variant=2,
    prompt="glass bottle shatters, très fort <&>",
    seed=12345,
    seconds=FRAMES / 44100,
    rate=44100,
    iterations=16,
    guidance=3.0,
    model="starter",
    elapsed_s=1.0,
    request={"prompt": "glass", "bpm": 120.0, "bars": 2.0},
    native_rate=32000,
    made="2025-01-02T03:04:05.678+00:00",
    label="hero",
    ucs="GLASBrk",
    loop=(100, FRAMES - 1),
    time_reference=2**33 + 7,
    take="0123456789abcdef",
)
PLAIN = RECORD.model_copy(update={"loop": None})


def walk(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a RIFF file, by hand and without mercy."""
    assert data[:4] == b"RIFF"
    assert data[8:12] == b"WAVE"
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    assert len(data) % 2 == 0
    chunks, at = [], 12
    while at < len(data):
        id, size = struct.unpack("<4sI", data[at : at + 8])
        content = data[at + 8 : at + 8 + size]
        assert len(content) == size
        if size % 2:
            assert data[at + 8 + size] == 0
        chunks.append((id, content))
        at += 8 + size + size % 2
    assert at == len(data)
    return chunks


def take(folder: Path, record: TakeRecord, format: Format = "wav", subtype: Subtype = "PCM_24") -> Path:
    return Path(save_take(folder, "take", WAVE, record, format=format, subtype=subtype).path)


@pytest.mark.parametrize(
    ("subtype", "head"),
    [
        ("PCM_16", [b"fmt ", b"data"]),
        ("PCM_24", [b"fmt ", b"data"]),
        ("FLOAT", [b"fmt ", b"fact", b"PEAK", b"data"]),
    ],
)
def test_order_of_chunks(tmp_path: Path, subtype: Subtype, head: list[bytes]) -> None:
    chunks = walk(take(tmp_path, RECORD, subtype=subtype).read_bytes())
    assert [id for id, _ in chunks] == [*head, b"bext", b"iXML", b"LIST", b"cue ", b"LIST", b"smpl", b"impt"]
    chunks = walk(take(tmp_path, PLAIN, subtype=subtype).read_bytes())
    assert [id for id, _ in chunks] == [*head, b"bext", b"iXML", b"LIST", b"impt"]


def test_sound_is_exact_in_every_reader(tmp_path: Path) -> None:
    expected = np.clip(np.rint(WAVE * 2**23), -(2**23), 2**23 - 1)
    path = take(tmp_path, RECORD)
    audio, rate = soundfile.read(path, dtype="int32")
    assert rate == 44100
    assert np.abs((audio >> 8) - expected).max() <= 1
    with wave.open(str(path)) as reader:
        assert reader.getparams()[:4] == (1, 3, 44100, FRAMES)
        data = np.frombuffer(reader.readframes(FRAMES + 10), np.uint8).reshape(-1, 3).astype(np.int32)
    assert np.array_equal(((data[:, 0] | data[:, 1] << 8 | data[:, 2] << 16) << 8) >> 8, audio >> 8)
    assert np.array_equal(soundfile.read(take(tmp_path, RECORD, subtype="FLOAT"), dtype="float32")[0], WAVE)
    flac_audio, _ = soundfile.read(take(tmp_path, RECORD, format="flac"), dtype="int32")
    assert np.abs((flac_audio >> 8) - (audio >> 8)).max() <= 1


def test_an_independent_reader_sees_everything(tmp_path: Path) -> None:
    info = wavinfo.WavInfoReader(str(take(tmp_path, RECORD)), info_encoding="utf-8")
    assert info.data.frame_count == FRAMES
    assert (info.bext.description, info.bext.originator) == ("glass bottle shatters, tres fort <&>", "impact-plugin")
    assert info.bext.originator_ref == "impact-0123456789abcdef"
    assert (info.bext.originator_date, info.bext.originator_time) == ("2025-01-02", "03:04:05")
    assert (info.bext.time_reference, info.bext.version) == (2**33 + 7, 1)
    assert (info.info.title, info.info.genre) == (RECORD.prompt, "GLASS")
    assert info.info.software.startswith("impact-plugin ")
    assert "seed 12345, model starter" in info.info.comment
    assert info.info.keywords == "GLASBrk; GLASS; BREAK; hero"
    assert info.cues.to_dict() == {1: {"frame": 100, "label": "loop"}}
    (loop,) = info.smpl.sample_loops
    assert (loop.start, loop.end, loop.loop_type, loop.repetition_count) == (100, FRAMES - 1, 0, 0)
    assert (info.smpl.midi_note, info.smpl.sample_period_ns) == (60, 22676)
    assert (info.ixml.project, info.ixml.take) == ("impact-plugin", "2")
    assert [track.name for track in info.ixml.track_list] == ["Mono"]
    texts = {element.tag: element.text for element in info.ixml.parsed.iter()}
    assert (texts["NOTE"], texts["FILE_UID"]) == ("made at 32000 hz", RECORD.take)
    assert info.ixml.parsed.findtext("NOTE") == texts["notes"] == texts["DESCRIPTION"] == RECORD.prompt
    assert (texts["SEED"], texts["MODEL"], texts["sourceId"]) == ("12345", "starter", "starter")
    assert (texts["catId"], texts["category"], texts["subCategory"]) == ("GLASBrk", "GLASS", "BREAK")
    assert (texts["fxName"], texts["userData"]) == ("GlassBottleShattersTres", "s12345-t02")
    assert (texts["tempo"], texts["isLoop"], texts["AUDIO_BIT_DEPTH"]) == ("120", "true", "24")
    assert (texts["DIGITIZER_SAMPLE_RATE"], texts["FILE_SAMPLE_RATE"]) == ("32000", "44100")
    assert texts["TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI"] == "2"
    assert texts["TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO"] == "7"


def test_default_settings_of_the_independent_reader_are_enough(tmp_path: Path) -> None:
    record = RECORD.model_copy(update={"prompt": "玻璃瓶 \u0000 " * 60})
    info = wavinfo.WavInfoReader(str(take(tmp_path, record)))  # reads bext as ASCII and stumbles over anything else
    assert len(info.bext.description) == 256
    assert set(info.bext.description) == {"?", " "}


def test_libsndfile_reads_the_titles_of_a_wav_file(tmp_path: Path) -> None:
    with soundfile.SoundFile(take(tmp_path, RECORD)) as sound:
        assert (sound.title, sound.genre, sound.date) == (RECORD.prompt, "GLASS", "2025-01-02")


def test_a_take_without_loop_tempo_or_date(tmp_path: Path) -> None:
    record = PLAIN.model_copy(update={"request": {}, "made": "someday", "label": None, "ucs": "NEWOne"})
    info = wavinfo.WavInfoReader(str(take(tmp_path, record)))
    assert info.smpl is None
    assert info.cues.to_dict() == {}
    assert (info.bext.originator_date, info.bext.originator_time) == ("", "")
    texts = {element.tag: element.text for element in info.ixml.parsed.iter()}
    assert "tempo" not in texts
    assert "category" not in texts
    assert (texts["isLoop"], texts["catId"]) == ("false", "NEWOne")
    assert info.info.genre is None


def test_flac_tags_in_another_reader(tmp_path: Path) -> None:
    file = mutagen.flac.FLAC(take(tmp_path, RECORD, format="flac"))
    tags = {name.upper(): values for name, values in file.tags.as_dict().items()}
    assert (file.info.sample_rate, file.info.bits_per_sample, file.info.total_samples) == (44100, 24, FRAMES)
    assert tags["TITLE"] == [RECORD.prompt]
    assert (tags["CATID"], tags["CATEGORY"], tags["BPM"]) == (["GLASBrk"], ["GLASS"], ["120"])
    assert (tags["LOOPSTART"], tags["LOOPLENGTH"]) == (["100"], [str(FRAMES - 100)])
    assert json.loads(tags[TAG][0])["seed"] == 12345
    assert "LOOPSTART" not in flac_tags(PLAIN)


def test_other_tags_of_a_flac_file_survive(tmp_path: Path) -> None:
    path = take(tmp_path, RECORD, format="flac")
    tagged = mutagen.flac.FLAC(path)
    tagged["artist"] = ["one", "two"]
    picture = mutagen.flac.Picture()
    picture.data = b"png" * 1000
    tagged.add_picture(picture)
    tagged.save()
    with open(path, "rb") as source, open(tmp_path / "new.flac", "w+b") as target:
        flac.write_comments(source, target, flac.read_blocks(source) or [], {"title": "new", TAG: RECORD.to_json()})
    again = mutagen.flac.FLAC(tmp_path / "new.flac")
    assert again["artist"] == ["one", "two"]
    assert again["title"] == ["new"]
    assert again.pictures[0].data == b"png" * 1000
    assert read_record(tmp_path / "new.flac").seed == 12345
    assert np.array_equal(soundfile.read(tmp_path / "new.flac")[0], soundfile.read(path)[0])


def test_a_loop_must_lie_inside_the_sound() -> None:
    for loop in ((0, FRAMES), (FRAMES, FRAMES + 1)):
        with pytest.raises(ImpactError) as caught:
            take_writer(WAVE, RECORD.model_copy(update={"loop": loop}), format="wav", subtype="PCM_24")
        assert caught.value.code == "bad_argument"


def test_four_gigabytes_are_refused_before_anything_is_written() -> None:
    endless = np.broadcast_to(np.float32(0.0), (2**30,))  # takes no memory until somebody reads it
    with pytest.raises(ImpactError) as caught:
        take_writer(endless, PLAIN, format="wav", subtype="FLOAT")
    assert caught.value.code == "too_large"
    riff.check_size(2**32 - 1)
    with pytest.raises(ImpactError):
        riff.check_size(2**32)


class Endless(io.BytesIO):
    """A file that says it has almost 4 GiB."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 2**32 - 100 if whence == 2 else super().seek(offset, whence)


def test_chunks_do_not_lengthen_a_file_beyond_four_gigabytes() -> None:
    with pytest.raises(ImpactError) as caught:
        riff.append_chunks(Endless(b"RIFF"), [(b"impt", b"x" * 100)])
    assert caught.value.code == "too_large"


texts = st.text(max_size=400)
records = st.builds(
    lambda prompt, label, catid, loop, reference, request, made: PLAIN.model_copy(
        update={
            "prompt": prompt,
            "label": label,
            "ucs": catid,
            "loop": (loop, FRAMES - 1) if loop is not None else None,
            "time_reference": reference,
            "request": request,
            "made": made,
        }
    ),
    texts,
    texts | st.none(),
    texts,
    st.integers(0, FRAMES - 1) | st.none(),
    st.integers(0, 2**64 - 1),
    st.dictionaries(
        texts, texts | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False), max_size=4
    ),
    texts,
)


@settings(deadline=None, max_examples=60)
@given(records, st.sampled_from([WAVE[:1], WAVE[:2], WAVE]))
def test_any_record_comes_back_out_of_a_file(
    tmp_path_factory: pytest.TempPathFactory, record: TakeRecord, audio: np.ndarray
) -> None:
    if record.loop is not None:
        record = record.model_copy(update={"loop": (0, len(audio) - 1)})
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    for format in ("wav", "flac"):
        path = Path(save_take(folder, "take", audio, record, format=format, overwrite=True).path)
        found = read_record(path)
        assert found == record.model_copy(update={"path": str(path), "made": found.made})
        assert found.made == (record.made or found.made)
        assert soundfile.info(path).frames == len(audio)
        if format == "wav":
            walk(path.read_bytes())
            info = wavinfo.WavInfoReader(str(path))
            assert info.bext.time_reference == record.time_reference
            assert info.ixml.parsed.getroot().tag == "BWFXML"
            assert (info.smpl is None) == (record.loop is None)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.binary(max_size=50)), max_size=8), st.binary(max_size=9)
)
def test_chunks_are_walked_as_they_were_put_in(chunks: list[tuple[bytes, bytes]], content: bytes) -> None:
    file = io.BytesIO(b"RIFF\0\0\0\0WAVE")
    riff.append_chunks(file, chunks)
    assert walk(file.getvalue()) == chunks
    layout = riff.read_layout(file)
    assert layout is not None
    assert layout.missing == 0
    assert [(chunk.id, riff.read_chunk(file, chunk)) for chunk in layout.chunks] == chunks
    target = io.BytesIO()
    riff.replace_chunks(file, target, layout, {b"impt": content})
    after = walk(target.getvalue())
    assert [chunk for chunk in after if chunk[0] != b"impt"] == [chunk for chunk in chunks if chunk[0] != b"impt"]
    assert [found for id, found in after if id == b"impt"] == [content]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.integers(0, 80))
def test_no_bytes_break_the_readers(junk: bytes, at: int) -> None:
    whole = io.BytesIO()
    take_writer(WAVE[:8], RECORD.model_copy(update={"loop": None}), format="wav", subtype="PCM_16")(whole)
    data = whole.getvalue()
    for harmed in (junk, b"RIFF" + junk, b"fLaC" + junk, data[:at] + junk + data[at + len(junk) :]):
        layout = riff.read_layout(io.BytesIO(harmed))
        if layout is not None:
            for chunk in layout.chunks:
                assert chunk.at <= len(harmed)
        with contextlib.suppress(ImpactError):
            flac.read_comments(flac.read_blocks(io.BytesIO(harmed)) or [])


@pytest.mark.parametrize("size", [0, 2**32 - 1])
def test_files_that_were_written_into_a_pipe(size: int) -> None:
    data = b"RIFF" + struct.pack("<I", size) + b"WAVE" + riff.encode_chunk(b"fmt ", b"x" * 16)
    data += b"data" + struct.pack("<I", 2**32 - 1) + b"s" * 10
    layout = riff.read_layout(io.BytesIO(data))
    assert layout is not None
    assert [(chunk.id, chunk.size) for chunk in layout.chunks] == [(b"fmt ", 16), (b"data", 10)]
    assert layout.missing == 0


def test_a_file_of_a_million_chunks_is_no_work() -> None:
    data = b"RIFF" + struct.pack("<I", 4 + 8 * 100_000) + b"WAVE" + b"junk\0\0\0\0" * 100_000
    layout = riff.read_layout(io.BytesIO(data))
    assert layout is not None
    assert len(layout.chunks) == riff.MAX_CHUNKS
    with pytest.raises(ImpactError):
        flac.read_blocks(io.BytesIO(b"fLaC" + b"\x01\0\0\0" * 100_000))


@pytest.mark.parametrize(
    "part", [bext, lambda record: ixml(record, bits=24), lambda record: wav_chunks(record, bits=16)]
)
def test_chunks_are_the_same_every_time(part: Callable[[TakeRecord], Any]) -> None:
    assert part(RECORD) == part(RECORD)
    assert len(bext(RECORD)) == 602
