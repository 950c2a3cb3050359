"""A user's own library as a data set: names, tables, sidecars, metadata, splits, resuming, and broken files."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from impact_plugin.errors import ImpactError
from impact_plugin.training.captions import (
    clean_caption,
    describe_name,
    is_catid,
    kind_of,
    metadata_captions,
    parse_table,
    read_table,
    riff_chunks,
    words_of,
)
from impact_plugin.training.folder import import_folder, share_out
from impact_plugin.training.store import Sound, SoundStore

BASE = Path("/library")


def write(path: Path, seconds: float = 0.2, rate: int = 22050, seed: int = 0, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.2 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, noise.astype(np.float32), rate, subtype="PCM_16" if path.suffix != ".ogg" else None)
    return path


def add_chunks(path: Path, *chunks: tuple[bytes, bytes], first: bool = False) -> None:
    """Put RIFF chunks before or after the others of a WAV file."""
    data = path.read_bytes()
    extra = b"".join(name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for name, body in chunks)
    body = data[12:] if not first else extra + data[12:]
    body = body if first else body + extra
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)


def bext(description: str) -> tuple[bytes, bytes]:
    return b"bext", description.encode().ljust(602, b"\0")


def captions_of(data: Path) -> dict[str, tuple[str, ...]]:
    return {sound.source.rsplit(":", 1)[-1]: sound.captions for sound in SoundStore(data).read_index()}


@pytest.mark.parametrize(
    ("name", "caption", "ucs", "kind"),
    [
        ("glassBreak_03.wav", "glass break", "", ""),
        ("Wood-Door SLAM (stereo) 48kHz 24bit.wav", "wood door slam", "", ""),
        ("SFX_Door_Wood_01.wav", "door wood", "", ""),
        ("123456__some_user__loud-bang-2.flac", "loud bang", "", ""),
        ("DOORWood_Old Cellar Door Slam_ABC_LIB_s12-t01.wav", "old cellar door slam", "DOORWood", "foley"),
        ("DOORWood-OPEN_Vendor-DoorCreak03_ABC_LIB.wav", "door creak", "DOORWood", "foley"),
        ("RAIN_HeavyRainOnTin_A_B.wav", "heavy rain on tin", "RAIN", "nature"),
        ("UIClick_TinyClick_IMPACT_starter_s7-t00.wav", "tiny click", "UIClick", "ui"),
        ("Footsteps/Gravel Path/01.wav", "footsteps gravel path", "", ""),
        ("porte-fermée été.wav", "porte fermée été", "", ""),
    ],
)
def test_captions_from_names(name: str, caption: str, ucs: str, kind: str) -> None:
    got = describe_name(BASE / name, BASE)
    assert (got.captions, got.ucs, got.kind) == ((caption,), ucs, kind)


def test_names_without_words_say_nothing() -> None:
    assert describe_name(BASE / "0001.wav", BASE).captions == ()
    assert describe_name(BASE / "1-100032-A-0.wav", BASE).captions == ()
    assert describe_name(BASE / "f3a9bc.wav", BASE).captions == ()


def test_variants_are_one_family() -> None:
    names = ["kick_01.wav", "Kick 2.wav", "sub/kick-003.flac", "kick.wav"]
    assert len({describe_name(BASE / name, BASE).family for name in names}) == 1
    other = {describe_name(BASE / name, BASE).family for name in ("DOORWood_Slam01_A_B.wav", "DOORMetl_Slam02_A_B.wav")}
    assert len(other) == 2


@given(st.text(max_size=40).filter(lambda name: "/" not in name and "\0" not in name and name not in ("", ".", "..")))
def test_any_name_gives_a_clean_caption_or_none(name: str) -> None:
    for caption in describe_name(BASE / (name + ".wav"), BASE).captions:
        assert caption == clean_caption(caption) == caption.strip()
        assert not any(char.isdigit() for char in caption)


def test_names_of_every_script_and_form() -> None:
    assert words_of("Ferme\u0301e_02") == "fermée"
    assert words_of("घंटी 3") == "घंटी"
    assert words_of("雨_01") == "雨"
    assert words_of("'don't' STOP²") == "don't stop"


def test_catids_and_kinds() -> None:
    assert all(is_catid(word) for word in ("DOORWood", "UIClick", "AMBForst", "THUN"))
    assert not any(is_catid(word) for word in ("SFX", "Door", "DOORS", "Kick", "", "wood"))
    assert kind_of("GUNPis") == "weapon"
    assert kind_of("EXPLReal") == "explosion"
    assert kind_of("THUN") == "nature"
    assert kind_of("XYZQab") == "other"


def test_a_table_with_more_columns(tmp_path: Path) -> None:
    text = (
        "File;Caption;caption2;UCS;Kind;Loop;License;split\n"
        "a.wav;big dog barks;dog bark;ANMLDog;animal;1;CC0-1.0;test\n"
        "sub\\b.wav;  rain \n;;;;;;\n"
    )
    table = parse_table(tmp_path / "t.csv", text)
    row = table.find(tmp_path / "x" / "A.WAV", tmp_path)
    assert row is not None
    assert (row.captions, row.ucs, row.kind, row.loop) == (("big dog barks", "dog bark"), "ANMLDog", "animal", True)
    assert (row.license, row.split) == ("CC0-1.0", "test")
    assert table.unused() == ["sub/b.wav"]
    second = table.find(tmp_path / "sub" / "b.wav", tmp_path)
    assert second is not None
    assert second.captions == ("rain",)
    assert table.find(tmp_path / "c.wav", tmp_path) is None


@given(st.text(max_size=200))
def test_any_text_is_a_table_or_one_clear_error(text: str) -> None:
    for head in ("", "file,caption\n"):
        with contextlib.suppress(ImpactError):
            assert "" not in parse_table(Path("t.csv"), head + text).rows


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("file,caption\na.wav,fermée\n".encode("latin-1"))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for name, text in [("latin.csv", "UTF-8"), ("other.csv", "columns file and caption"), ("none.csv", "cannot read")]:
        with pytest.raises(ImpactError, match=text) as caught:
            read_table(tmp_path / name)
        assert caught.value.code == "bad_file"


def test_metadata_chunks_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    assert metadata_captions(path) == ((), "")
    ixml = b"<BWFXML><USER><CATID>GLASBrk</CATID><DESCRIPTION>Bottle breaks on stone</DESCRIPTION></USER></BWFXML>"
    add_chunks(path, (b"iXML", ixml))
    add_chunks(path, bext("sSPEED=024.000-ND\r\nsTAKE=01\r\nBottle breaks"), first=True)
    assert metadata_captions(path) == (("Bottle breaks on stone", "Bottle breaks"), "GLASBrk")
    assert soundfile.info(str(path)).frames > 0


def test_metadata_that_bites_is_left_out(tmp_path: Path) -> None:
    bombs = [
        b'<!DOCTYPE a [<!ENTITY b "ccc">]><BWFXML><DESCRIPTION>&b;</DESCRIPTION></BWFXML>',
        b"<BWFXML><DESCRIPTION>never closed",
        b"",
    ]
    for index, ixml in enumerate(bombs):
        path = write(tmp_path / f"{index}.wav")
        add_chunks(path, (b"iXML", ixml))
        assert metadata_captions(path) == ((), "")
    cut = write(tmp_path / "cut.wav")
    cut.write_bytes(cut.read_bytes()[:60] + b"bext\xff\xff\xff\xff")
    assert metadata_captions(cut) == ((), "")


@given(st.binary(max_size=200))
def test_any_bytes_have_chunks_or_none(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.wav"
    for head in (b"", b"RIFF\0\0\0\0WAVE", b"RF64\0\0\0\0WAVEds64"):
        path.write_bytes(head + data)
        assert set(riff_chunks(path, frozenset({b"bext", b"iXML"}))) <= {b"bext", b"iXML"}


def test_the_better_description_wins(tmp_path: Path) -> None:
    source, data = tmp_path / "in", tmp_path / "out"
    for index, name in enumerate(["by_name", "by_bext", "by_text", "by_table"]):
        path = write(source / f"{name}.wav", seed=index)
        if index >= 1:
            add_chunks(path, bext("words of the chunk"))
        if index >= 2:
            (source / f"{name}.txt").write_text("words of the text\n\nanother line\n")
    (source / "captions.csv").write_text(
        "file,caption,caption2\nby_table.wav,words of the table,short\nnobody.wav,x y z\n"
    )
    report = import_folder(source, data)
    assert captions_of(data) == {
        "by_name.wav": ("by name",),
        "by_bext.wav": ("words of the chunk",),
        "by_text.wav": ("words of the text", "another line"),
        "by_table.wav": ("words of the table", "short"),
    }
    assert report.sounds == 4
    assert report.problems == ["captions.csv: no sound is named nobody.wav"]


def test_sounds_are_prepared_and_listed(tmp_path: Path) -> None:
    source, data = tmp_path / "in", tmp_path / "out"
    write(source / "door" / "DOORWood_Slam_A_B.flac", 0.5, 48000, channels=2)
    seen: list[tuple[int, int, str]] = []
    report = import_folder(source, data, license="CC0-1.0", progress=lambda *step: seen.append(step))
    assert seen == [(1, 1, "door/DOORWood_Slam_A_B.flac")]
    (sound,) = SoundStore(data).read_index()
    audio, rate = SoundStore(data).read_audio(sound)
    assert rate == 44100
    assert audio.ndim == 1
    assert np.abs(audio).max() == pytest.approx(0.89, abs=0.01)
    assert sound.seconds == pytest.approx(len(audio) / rate, abs=1e-4)
    assert sound.seconds == pytest.approx(0.5, abs=0.05)
    assert (sound.ucs, sound.kind, sound.license, sound.license_ok) == ("DOORWood", "foley", "CC0-1.0", True)
    assert report.seconds == pytest.approx(sound.seconds, abs=1e-3)


def test_broken_files_are_listed_and_the_rest_goes_in(tmp_path: Path) -> None:
    source, data = tmp_path / "in", tmp_path / "out"
    write(source / "good.wav")
    write(source / "0001.wav")
    (source / "text.wav").write_text("no sound")
    soundfile.write(source / "silent.wav", np.zeros(8000), 16000)
    soundfile.write(source / "empty.wav", np.zeros(0), 16000)
    soundfile.write(source / "numbers.wav", np.full(900, np.nan), 16000, subtype="FLOAT")
    (source / "._good.wav").write_text("hidden")
    report = import_folder(source, data)
    assert report.sounds == 1
    assert {line.split(":")[0] for line in report.problems} == {
        "0001.wav",
        "text.wav",
        "silent.wav",
        "empty.wav",
        "numbers.wav",
    }
    assert captions_of(data) == {"good.wav": ("good",)}


def test_a_long_file_is_cut(tmp_path: Path) -> None:
    write(tmp_path / "in" / "wind.wav", 3.0)
    report = import_folder(tmp_path / "in", tmp_path / "out", limit_seconds=1.0)
    assert report.seconds == pytest.approx(1.0, abs=0.05)


def test_a_second_run_reads_only_what_is_new(tmp_path: Path) -> None:
    source, data = tmp_path / "in", tmp_path / "out"
    first = write(source / "first.wav")
    second = write(source / "second.wav", seed=1)
    import_folder(source, data)
    before = {path: path.stat().st_mtime_ns for path in (data / "audio").iterdir()}
    write(source / "third.wav", seed=2)
    first.with_suffix(".txt").write_text("a better caption")
    os.remove(second)
    report = import_folder(source, data)
    assert report.sounds == 2
    assert captions_of(data) == {"first.wav": ("a better caption",), "third.wav": ("third",)}
    after = {path: path.stat().st_mtime_ns for path in (data / "audio").iterdir()}
    assert before.items() <= after.items()
    write(first, 0.4, seed=5)
    os.utime(first, ns=(1, 1))
    import_folder(source, data)
    assert {round(s.seconds, 1) for s in SoundStore(data).read_index() if s.source.endswith("first.wav")} == {0.4}


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    source, data = tmp_path / "in", tmp_path / "out"
    for index in range(8):
        write(source / f"sound number {'abcdefgh'[index] * 3}.wav", seed=index)

    def stop(done: int, total: int, name: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_folder(source, data, workers=1, progress=stop)
    cached = set((data / "audio").glob("*.flac"))
    assert 3 <= len(cached) < 8
    times = {path: path.stat().st_mtime_ns for path in cached}
    assert import_folder(source, data).sounds == 8
    assert {path: path.stat().st_mtime_ns for path in cached} == times


def test_two_libraries_share_a_data_set(tmp_path: Path) -> None:
    write(tmp_path / "one" / "bang.wav")
    write(tmp_path / "two" / "bang.wav", seed=1)
    for _ in range(2):
        import_folder(tmp_path / "one", tmp_path / "out")
        import_folder(tmp_path / "two", tmp_path / "out")
    sounds = SoundStore(tmp_path / "out").read_index()
    assert len(sounds) == 2
    assert {sound.source.split(":")[-2].rsplit("/", 1)[-1] for sound in sounds} == {"one", "two"}


def test_sounds_of_another_origin_stay(tmp_path: Path) -> None:
    store = SoundStore(tmp_path / "out")
    other = Sound("s1", "audio/s1.flac", 1.0, "ui", ("click",), "", False, "CC0-1.0", True, "train", "package:a/b.ogg")
    store.write_index([other])
    write(tmp_path / "in" / "bang.wav")
    import_folder(tmp_path / "in", tmp_path / "out")
    assert other in store.read_index()
    assert len(store.read_index()) == 2


def test_the_data_set_may_lie_inside_the_library_but_not_be_it(tmp_path: Path) -> None:
    write(tmp_path / "bang.wav")
    for _ in range(2):
        assert import_folder(tmp_path, tmp_path / "data").sounds == 1
    with pytest.raises(ImpactError) as caught:
        import_folder(tmp_path, tmp_path)
    assert caught.value.code == "bad_argument"


def test_libraries_without_a_sound_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "bang.wav").write_text("no sound")
    for name in ("missing", "empty", "broken"):
        with pytest.raises(ImpactError) as caught:
            import_folder(tmp_path / name, tmp_path / "out")
        assert caught.value.code == "bad_file"
    assert not (tmp_path / "out" / "index.csv").exists()


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path) -> None:
    write(tmp_path / "in" / "bang.wav")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ImpactError) as caught:
        import_folder(tmp_path / "in", tmp_path / "file")
    assert caught.value.code == "bad_argument"


def test_numbered_files_with_a_table_are_shared_out_by_caption(tmp_path: Path) -> None:
    rows = ["file,caption"]
    for index in range(9):
        write(tmp_path / "in" / f"{index:04d}.wav", 0.05, seed=index)
        rows.append(f"{index:04d}.wav,sound of {'abc'[index % 3] * 3}")
    (tmp_path / "in" / "captions.csv").write_text("\n".join(rows))
    import_folder(tmp_path / "in", tmp_path / "out")
    splits: dict[str, set[str]] = {}
    for sound in SoundStore(tmp_path / "out").read_index():
        splits.setdefault(sound.captions[0], set()).add(sound.split)
    assert all(len(split) == 1 for split in splits.values())
    assert set.union(*splits.values()) == {"train", "valid", "test"}


def test_a_split_of_the_table_wins(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a bang.wav")
    (tmp_path / "in" / "captions.csv").write_text("file,caption,split\na bang.wav,bang,valid\n")
    import_folder(tmp_path / "in", tmp_path / "out")
    assert [sound.split for sound in SoundStore(tmp_path / "out").read_index()] == ["valid"]


def test_shares_are_about_right_and_stay_as_the_library_grows() -> None:
    families = [f"family {index}" for index in range(3000)]
    small, large = share_out(families[:1500]), share_out(families)
    assert all(large[family] == split for family, split in small.items())
    shares = {split: list(large.values()).count(split) / 3000 for split in ("train", "valid", "test")}
    assert shares["test"] == pytest.approx(0.06, abs=0.015)
    assert shares["valid"] == pytest.approx(0.03, abs=0.012)
    assert share_out(["one", "two"]) == {"one": "train", "two": "train"}


@given(st.sets(st.text(min_size=1, max_size=8), min_size=3, max_size=12))
def test_three_families_fill_three_splits(families: set[str]) -> None:
    assert set(share_out(families).values()) == {"train", "valid", "test"}
