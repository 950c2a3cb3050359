"""`impact generate` in this process: files, rows, names, and what stays clean when something is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from impact_plugin.audio.files import PARTIAL
from impact_plugin.cli.app import app
from impact_plugin.request import Request
from impact_plugin.takes.file import read_record
from impact_plugin.takes.record import ROW

Impact = Callable[..., Result]


@pytest.fixture
def impact(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Impact:
    """Run `impact generate` with the tiny bundle in an empty current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("IMPACT_THREADS", "1")
    monkeypatch.setenv("IMPACT_BUNDLES", str(tiny_bundle))

    def run(*args: str, model: str | None = "tiny") -> Result:
        chosen = ["--model", model] if model else []
        return CliRunner().invoke(app, ["generate", *args, *chosen, "--set", "head_steps=5"])

    return run


def files(folder: Path | str = ".") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_one_take(impact: Impact) -> None:
    result = impact("glass bottle shatters on concrete", "-o", "out.wav", "--seconds", "1.5", "--rate", "48000")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("out.wav  1.50 s  seed ")
    assert result.stderr == ""
    assert files() == ["out.wav"]
    info = soundfile.info("out.wav")
    assert (info.samplerate, info.frames, info.channels, info.subtype) == (48000, 72000, 1, "PCM_24")
    audio, _ = soundfile.read("out.wav")
    assert -20 <= 20 * np.log10(np.abs(audio).max()) <= -0.1


def test_rows_are_the_contracts_and_nothing_else_is_on_stdout(impact: Impact) -> None:
    result = impact("dog", "--seconds", "1", "--seed", "7", "--variants", "2", "--json", "-o", "new/folder/")
    one, two = rows(result)
    assert list(one) == list(ROW)
    assert (one["id"], one["variant"], two["variant"]) == ("1", 0, 1)
    assert (one["seed"], two["seed"], one["prompt"], one["rate"], one["seconds"]) == (7, 8, "dog", 16000, 1.0)
    assert (one["iterations"], one["guidance"], one["model"], one["first_preview_s"]) == (4, 2.0, "tiny", None)
    assert one["elapsed_s"] > 0
    assert Path(one["path"]).parent == Path("new/folder")
    assert Path(one["path"]).is_file()
    assert result.stderr == ""


def test_names_after_the_universal_category_system(impact: Impact) -> None:
    assert impact("heavy wooden door slams", "--seconds", "0.5", "--seed", "3").exit_code == 0
    assert impact("heavy wooden door slams", "--seconds", "0.5", "--seed", "3", "--set", "ucs=DOORMetl").exit_code == 0
    assert files() == [
        "DOORMetl_HeavyWoodenDoorSlams_IMPACT_tiny_s3-t00.wav",
        "DOORWood_HeavyWoodenDoorSlams_IMPACT_tiny_s3-t00.wav",
    ]


def test_nothing_is_overwritten_unless_asked(impact: Impact) -> None:
    for _ in range(2):
        assert impact("dog", "--seconds", "0.2", "-o", "a.wav", "--seed", "1").exit_code == 0
    assert files() == ["a.wav", "a_2.wav"]
    assert np.array_equal(soundfile.read("a.wav")[0], soundfile.read("a_2.wav")[0])
    first = Path("a.wav").read_bytes()
    assert impact("dog", "--seconds", "0.2", "-o", "a.wav", "--seed", "2", "--overwrite").exit_code == 0
    assert files() == ["a.wav", "a_2.wav"]
    assert Path("a.wav").read_bytes() != first


def test_same_seed_same_samples_and_a_variant_alone(impact: Impact) -> None:
    impact("dog", "--seconds", "1", "-o", "a.wav", "--seed", "5", "--variants", "2")
    impact("dog", "--seconds", "1", "-o", "b.wav", "--seed", "6")
    impact("dog", "--seconds", "1", "-o", "c.wav", "--seed", "6")
    assert files() == ["a_0.wav", "a_1.wav", "b.wav", "c.wav"]
    crowd, alone, again = (soundfile.read(f"{name}.wav")[0] for name in ("a_1", "b", "c"))
    assert np.array_equal(alone, again)
    assert np.abs(crowd - alone).max() < 1e-3 * np.abs(alone).max()


def test_a_take_says_how_to_make_it_again(impact: Impact) -> None:
    impact("dog", "--seconds", "1", "-o", "a.wav", "--guidance", "3", "--negative", "cat")
    record = read_record(Path("a.wav"))
    request = Request.parse(record.request)
    pairs = [f"--set={key}={value}" for key, value in request.to_dict().items() if key not in ("prompt", "head_steps")]
    assert impact(record.prompt, "-o", "b.wav", *pairs).exit_code == 0
    assert np.array_equal(soundfile.read("a.wav")[0], soundfile.read("b.wav")[0])


@pytest.mark.parametrize(
    ("args", "ending", "subtype"),
    [
        (("-o", "x.flac"), "flac", "PCM_24"),
        (("-o", "x.WAV", "--subtype", "FLOAT"), "wav", "FLOAT"),
        (("-o", "d/", "--format", "flac", "--subtype", "PCM_16"), "flac", "PCM_16"),
        (
            (
                "-o",
                "no_ending",
            ),
            "wav",
            "PCM_24",
        ),
    ],
)
def test_formats(impact: Impact, args: tuple[str, ...], ending: str, subtype: str) -> None:
    (row,) = rows(impact("dog", "--seconds", "0.3", "--json", *args))
    info = soundfile.info(row["path"])
    assert row["path"].endswith(f".{ending}")
    assert info.subtype == subtype


def test_previews(impact: Impact) -> None:
    result = impact("dog", "--seconds", "1", "-o", "a.wav", "--previews", "pre/views", "--rate", "44100", "--json")
    (row,) = rows(result)
    told = [line.split(" ", 1)[1] for line in result.stderr.splitlines()]
    assert told == [f"pre/views/a_i{iteration:03d}.wav" for iteration in (1, 2, 3)]
    for path in told:
        audio, rate = soundfile.read(path)
        assert rate == 44100
        assert len(audio) == 44100
        assert np.abs(audio).max() > 0.01
    assert 0 < row["first_preview_s"] <= row["elapsed_s"]
    assert len(files()) == 4


def test_preset(impact: Impact) -> None:
    (row,) = rows(impact("--preset", "glass_break", "--seconds", "0.5", "--seed", "4", "--json"))
    assert row["prompt"].split()[-1] in ("shatter", "break")
    assert "GLASBrk_" in row["path"]
    (again,) = rows(impact("--preset", "glass_break", "--seconds", "0.5", "--seed", "4", "--json"))
    assert again["prompt"] == row["prompt"]
    error = impact("--preset", "glas_break")
    assert error.exit_code == 2
    assert error.stderr.startswith("impact: unknown_preset: ")


def test_from_text(impact: Impact) -> None:
    Path("p.txt").write_text("dog barks\n\n  rain, on a roof  \n", encoding="utf-8")
    made = rows(impact("--from", "p.txt", "-o", "out", "--seconds", "0.5", "--seed", "1", "--json"))
    assert [(row["id"], row["prompt"]) for row in made] == [("1", "dog barks"), ("2", "rain, on a roof")]
    assert files("out") == ["1_0.wav", "2_0.wav"]
    one, two = (soundfile.read(f"out/{name}")[0] for name in files("out"))
    assert not np.array_equal(one, two)


def test_from_csv(impact: Impact) -> None:
    Path("p.csv").write_text(
        'id,prompt,seconds,seed,variants\nbark,dog barks,0.5,3,2\n,"rain, heavy",,4,\nünï/1,wind,0.25,,\n',
        encoding="utf-8-sig",
    )
    made = rows(impact("--from", "p.csv", "-o", "out", "--seconds", "0.75", "--json"))
    assert [row["id"] for row in made] == ["bark", "bark", "2", "ünï/1"]
    assert [row["seconds"] for row in made] == [0.5, 0.5, 0.75, 0.25]
    assert files("out") == ["2_0.wav", "bark_0.wav", "bark_1.wav", "ünï-1_0.wav"]
    assert [row["seed"] for row in made[:3]] == [3, 4, 4]


def test_from_many_rows_in_batches(impact: Impact) -> None:
    Path("p.txt").write_text("\n".join(f"sound number {number}" for number in range(20)))
    made = rows(impact("--from", "p.txt", "-o", "out", "--seconds", "0.2", "--json", "--seed", "1"))
    assert [row["id"] for row in made] == [str(number) for number in range(1, 21)]
    assert len({Path(row["path"]).read_bytes() for row in made}) == 20


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.csv", "prompt,seconds\ndog,1\ncat,0\n", "p.csv line 3: seconds must be a number from 0.05"),
        ("p.csv", "prompt,secnds\ndog,1\n", "p.csv line 1: unknown column 'secnds': did you mean seconds"),
        ("p.csv", "seconds\n1\n", "p.csv line 1: there is no column prompt"),
        ("p.csv", "prompt,seconds\ndog,1,2\n", "p.csv line 2: more cells than columns"),
        ("p.csv", "id,prompt\na,dog\na,cat\n", "p.csv line 3: the id a was given in line 2"),
        ("p.csv", "prompt,seconds\n,1\n", "p.csv line 2: the prompt is empty"),
        ("p.csv", "prompt,text\na,b\n", "p.csv line 1: prompt and text are the same"),
        ("p.csv", 'prompt\n"dog\n', "p.csv line 2: not valid CSV"),
        ("p.csv", "prompt,seconds\ndog,1\ncat,100\n", "p.csv line 3: seconds is at most 4"),
        ("p.csv", "prompt,loop\ndog,0\ncat,1\n", "p.csv line 3: seamless loops"),
        ("p.txt", "dog\n" + "x" * 3000 + "\n", "p.txt line 2: the prompt has 3000"),
        ("p.txt", "\n \n", "p.txt holds no prompts"),
        ("p.csv", "", "p.csv"),
    ],
)
def test_one_bad_row_and_nothing_is_made(impact: Impact, name: str, text: str, words: str) -> None:
    Path(name).write_text(text)
    result = impact("--from", name, "-o", "out", "--json")
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert files() == [name]
    assert not Path("out").exists()


def test_from_files_that_cannot_be_read(impact: Impact) -> None:
    Path("latin.txt").write_bytes("Tür".encode("latin-1"))
    for name in ("latin.txt", "missing.txt", "."):
        result = impact("--from", name, "-o", "out")
        assert (result.exit_code, result.stderr[:18]) == (2, "impact: bad_file: "), name


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("",), "bad_argument", "the prompt is empty"),
        (("x" * 10_000,), "bad_argument", "10000 characters, 2000 at most"),
        (("dog", "--seconds", "0"), "bad_argument", "seconds must be a number from"),
        (("dog", "--seconds", "-1"), "bad_argument", "seconds must be a number from"),
        (("dog", "--seconds", "1e9"), "bad_argument", "seconds must be a number from"),
        (("dog", "--seconds", "nan"), "bad_argument", "seconds must be a number from"),
        (("dog", "--seconds", "100"), "bad_argument", "at most 4"),
        (("dog", "--seed", "16777216"), "bad_argument", "seed must be a whole number from 0 to 16777215"),
        (("dog", "--variants", "0"), "bad_argument", "variants must be"),
        (("dog", "--rate", "1"), "bad_argument", "rate must be"),
        (("dog", "--set", "secnds=1"), "unknown_key", "did you mean seconds"),
        (("dog", "--set", "seconds"), "bad_argument", "KEY=VALUE"),
        (("dog", "--seconds", "1", "--set", "duration=2"), "bad_argument", "seconds is given twice"),
        (("dog", "--secnds", "1"), "bad_argument", "--seconds"),
        (("dog", "cat"), "bad_argument", "cat"),
        (("dog", "--from", "x.txt"), "bad_argument", "not both"),
        (("--seed", "1"), "bad_argument", "say what is to be heard"),
        (("dog", "-o", "a.mp3"), "bad_argument", "wav, flac"),
        (("dog", "-o", "a.wav", "--format", "flac"), "bad_argument", "does not go with"),
        (("dog", "--format", "flac", "--subtype", "FLOAT"), "bad_argument", "subtype"),
        (("dog", "-o", "file/out.wav"), "bad_argument", "cannot write file"),
        (("dog", "-o", "file/sub/"), "bad_argument", "cannot write file/sub"),
        (("dog", "--previews", "file/sub"), "bad_argument", "cannot write file/sub"),
        (("dog", "-o", "x" * 300 + "/"), "bad_argument", "cannot write"),
        (("dog", "--loop"), "unsupported", "not in this version"),
        (("dog", "--device", "abacus"), "bad_argument", "device"),
    ],
)
def test_bad_input(impact: Impact, args: tuple[str, ...], code: str, words: str) -> None:
    Path("file").write_text("a file, not a folder")
    result = impact(*args)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f"impact: {code}: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert files() == ["file"]


def test_missing_bundle(impact: Impact) -> None:
    result = impact("dog", "-o", "new/", model="no-such-model")
    assert result.exit_code == 2
    assert result.stderr.startswith("impact: model_missing: ")
    assert files() == []
    assert not Path("new").exists()


@pytest.mark.parametrize("harm", ["truncated", "tampered", "gone", "no yaml"])
@pytest.mark.parametrize("name", ["codec.safetensors", "generator.safetensors"])
def test_harmed_bundle(impact: Impact, tiny_bundle: Path, tmp_path: Path, harm: str, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    data = (copy / name).read_bytes()
    if harm == "truncated":
        (copy / name).write_bytes(data[: len(data) // 2])
    elif harm == "tampered":
        (copy / name).write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif harm == "gone":
        (copy / name).unlink()
    else:
        (copy / "bundle.yaml").write_text("format: 1\nname: [")
    result = impact("dog", "-o", "a.wav", model=str(copy))
    assert result.exit_code == 2
    assert result.stderr.startswith(("impact: bad_file: ", "impact: model_missing: ")), result.stderr
    assert result.stderr.count("\n") == 1
    assert files() == []


def test_too_little_room_is_seen_beforehand(impact: Impact, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    result = impact("dog", "-o", "d/")
    assert result.exit_code == 1
    assert result.stderr.startswith("impact: disk_full: ")
    assert files() == []


def test_unexpected_errors_are_one_line(impact: Impact, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **keys: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("impact_plugin.cli.rows.single_row", broken)
    result = impact("dog")
    assert result.exit_code == 1
    assert result.stderr == "impact: internal: ZeroDivisionError: by zero (IMPACT_DEBUG=1 shows the traceback)\n"
    monkeypatch.setenv("IMPACT_DEBUG", "1")
    assert isinstance(impact("dog").exception, ZeroDivisionError)


def test_interruption_leaves_nothing_half_written(impact: Impact, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def stop(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    result = impact("dog", "--seconds", "0.2", "-o", "a.wav")
    assert result.exit_code == 130
    assert files() == []
    assert not list(Path().glob(f".*{PARTIAL}"))


def test_playing_without_a_device_is_no_error(impact: Impact) -> None:
    result = impact("dog", "--seconds", "0.05", "-o", "a.wav", "--play")
    assert result.exit_code == 0
    assert files() == ["a.wav"]


def test_keys_are_listed(impact: Impact) -> None:
    result = impact("--keys", "--json")
    assert [row["key"] for row in rows(result)] == list(Request.model_fields)
    assert "whole number from 1 to 64" in impact("--keys").stdout
