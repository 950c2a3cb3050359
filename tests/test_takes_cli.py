"""`impact takes` and `impact generate --like`, from the words on the command line to the bytes on the disk."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import wavinfo
import yaml
from typer.testing import CliRunner, Result

from impact_plugin.audio.files import PARTIAL, encode_sound
from impact_plugin.cli.app import app
from impact_plugin.takes.file import read_record
from impact_plugin.takes.record import MORE, ROW, Change, TakeRecord
from impact_plugin.takes.save import save_take

Impact = Callable[..., Result]

COMMANDS = ("list", "search", "show", "rate", "export", "prune", "scan")


@pytest.fixture
def impact(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Impact:
    """Run `impact` with the tiny bundle, in an empty current folder and with an empty home of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("IMPACT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMPACT_THREADS", "1")
    monkeypatch.setenv("IMPACT_BUNDLES", str(tiny_bundle))

    def run(*args: str) -> Result:
        return CliRunner().invoke(app, list(args))

    return run


def make(impact: Impact, *args: str) -> dict[str, Any]:
    """One take of a short sound."""
    (row,) = rows(impact("generate", *args, "--model", "tiny", "--set", "head_steps=5", "--json"))
    return row


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def failed(result: Result, code: str, status: int = 2) -> str:
    assert result.exit_code == status, result.output
    assert result.stderr.startswith(f"impact: {code}: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(impact: Impact, command: str) -> None:
    result = impact("takes", command, "--help")
    assert result.exit_code == 0
    assert f"impact takes {command}" in result.stdout
    assert command in impact("takes", "--help").stdout


def test_what_was_generated_is_listed(impact: Impact) -> None:
    assert impact("takes", "list").stdout == "no takes yet\n"
    one = make(impact, "dog barks", "--seconds", "0.2", "--seed", "1", "-o", "a.wav")
    two = make(impact, "door slams", "--seconds", "0.3", "--seed", "2", "-o", "d/", "--set", "label=hero")
    newest, oldest = rows(impact("takes", "list", "--json"))
    assert list(newest) == [*ROW, *MORE]
    assert (newest["seed"], newest["label"], newest["ucs"], newest["rating"]) == (2, "hero", "DOORWood", 0)
    assert Path(newest["path"]) == Path(two["path"]).absolute()
    assert {**oldest, "path": one["path"]} == {**one, **{name: oldest[name] for name in MORE}}
    table = impact("takes", "list").stdout
    assert "dog barks" in table
    assert str(Path("a.wav").absolute()) in table
    assert [row["seed"] for row in rows(impact("takes", "list", "--limit", "1", "--json"))] == [2]
    assert rows(impact("takes", "list", "--model", "other", "--json")) == []


def test_show_reads_the_file_itself(impact: Impact, tmp_path: Path) -> None:
    make(impact, "dog barks", "--seconds", "0.2", "--seed", "1", "-o", "a.wav")
    shutil.rmtree(tmp_path / "home")
    Path("a.wav").rename("b.wav")
    data = rows(impact("takes", "show", "b.wav", "--json"))[0]
    assert (data["prompt"], data["seed"], data["model"], data["path"]) == ("dog barks", 1, "tiny", "b.wav")
    assert data["fingerprint"]
    assert data["request"]["head_steps"] == 5
    text = impact("takes", "show", "b.wav").stdout
    assert "prompt          dog barks\n" in text
    assert "  seconds       0.2\n" in text


def test_show_by_id_and_name(impact: Impact) -> None:
    make(impact, "dog barks", "--seconds", "0.2", "--seed", "1", "-o", "deep/a.wav")
    take = rows(impact("takes", "list", "--json"))[0]["take"]
    for name in (take, take[:5], "a", "deep/a.wav"):
        assert rows(impact("takes", "show", name, "--json"))[0]["take"] == take
    failed(impact("takes", "show", "a.wav"), "bad_file")  # some other a.wav is not meant
    failed(impact("takes", "show", "nothing"), "unknown_id")
    failed(impact("takes", "show", "nothing.wav"), "bad_file")
    failed(impact("takes", "show", ""), "bad_argument")
    Path("deep/a.wav").unlink()
    assert "is gone" in failed(impact("takes", "show", take), "bad_file")


def test_files_that_are_no_takes(impact: Impact) -> None:
    Path("foreign.wav").write_bytes(encode_sound(np.zeros(10, np.float32), 44100))
    Path("text.wav").write_text("text")
    assert "no record of a take" in failed(impact("takes", "show", "foreign.wav"), "bad_file")
    assert "neither a WAV nor a FLAC" in failed(impact("takes", "show", "text.wav"), "bad_file")
    for command in (("takes", "rate", "foreign.wav", "3"), ("generate", "--like", "foreign.wav")):
        failed(impact(*command), "bad_file")


def test_search(impact: Impact) -> None:
    make(impact, "dog barks", "--seconds", "0.2", "-o", "a.wav")
    make(impact, "wooden door", "--seconds", "0.2", "-o", "b.wav")
    assert [row["prompt"] for row in rows(impact("takes", "search", "wood door", "--json"))] == ["wooden door"]
    assert impact("takes", "search", "zebra").stdout == "no take fits\n"
    assert rows(impact("takes", "search", "zebra", "--json")) == []


def test_ratings_go_with_the_file(impact: Impact, tmp_path: Path) -> None:
    make(impact, "dog barks", "--seconds", "0.2", "-o", "a.wav")
    make(impact, "dog barks", "--seconds", "0.2", "-o", "b.flac")
    assert impact("takes", "rate", "a.wav", "4").stdout == "a.wav  ****\n"
    assert rows(impact("takes", "rate", "b.flac", "2", "--json"))[0]["rating"] == 2
    assert [row["rating"] for row in rows(impact("takes", "list", "--rating", "3", "--json"))] == [4]
    shutil.rmtree(tmp_path / "home")
    assert impact("takes", "scan", ".").exit_code == 0
    assert [row["rating"] for row in rows(impact("takes", "list", "--json"))] == [2, 4]
    assert impact("takes", "rate", "a.wav", "0").stdout == "a.wav  no rating\n"
    for rating in ("6", "-1", "x", "1.5"):
        failed(impact("takes", "rate", "a.wav", rating), "bad_argument")


def test_export(impact: Impact) -> None:
    make(impact, "dog, barks", "--seconds", "0.2", "-o", "a.wav", "--seed", "1")
    make(impact, "door", "--seconds", "0.2", "-o", "d/a.wav", "--seed", "2")
    impact("takes", "rate", "a.wav", "5")
    assert rows(impact("takes", "export", "--to", "best", "--rating", "4", "--json"))[0]["path"] == "best/a.wav"
    assert Path("best/a.wav").read_bytes() == Path("a.wav").read_bytes()
    assert impact("takes", "export", "--to", "best").stdout.split() == ["best/a_2.wav", "best/a_3.wav"]
    assert impact("takes", "export", "d/a.wav", "--to", "kit").stdout == "kit/a.wav\n"
    table = list(csv.DictReader(io.StringIO(impact("takes", "export", "--csv", "--text", "dog").stdout)))
    assert [(row["prompt"], row["seed"], row["rating"]) for row in table] == [("dog, barks", "1", "5")]
    assert list(table[0]) == [*ROW, *MORE]
    failed(impact("takes", "export"), "bad_argument")
    failed(impact("takes", "export", "--csv", "--to", "x"), "bad_argument")
    failed(impact("takes", "export", "nothing.wav", "--csv"), "bad_file")


def test_prune(impact: Impact, tmp_path: Path) -> None:
    for number, rating in enumerate((0, 1, 5)):
        make(impact, "dog", "--seconds", "0.2", "-o", f"{number}.wav")
        impact("takes", "rate", f"{number}.wav", str(rating))
    Path("foreign.wav").write_bytes(encode_sound(np.zeros(10, np.float32), 44100))
    left = Path(f".{'a' * 12}{PARTIAL}")
    left.touch()
    import os

    os.utime(left, (1, 1))
    result = impact("takes", "prune", "--below", "3")
    assert f"would delete  {Path('1.wav').absolute()}\n" in result.stdout
    assert "1 temporary files removed, 0 rows without a file forgotten" in result.stdout
    assert "add --yes" in result.stdout
    assert Path("1.wav").exists()
    assert rows(impact("takes", "prune", "--below", "3", "--yes", "--json"))[0]["deleted"] is True
    assert impact("takes", "prune", "--unrated", "--older-than", "1", "--yes").exit_code == 0
    assert sorted(path.name for path in Path().iterdir()) == ["0.wav", "2.wav", "foreign.wav"]
    assert impact("takes", "prune", "--unrated", "--yes").exit_code == 0
    Path("2.wav").unlink()
    assert "1 rows without a file forgotten" in impact("takes", "prune").stdout
    assert [path.name for path in Path().iterdir()] == ["foreign.wav"]


def test_scan(impact: Impact, tmp_path: Path) -> None:
    make(impact, "dog", "--seconds", "0.2", "-o", "a.wav")
    make(impact, "cat", "--seconds", "0.2", "-o", "b.wav")
    Path("sub").mkdir()
    Path("a.wav").rename("sub/a.wav")
    Path("cut.wav").write_bytes(Path("b.wav").read_bytes()[:-9])
    result = impact("takes", "scan", ".", "--json")
    assert rows(result)[0] == {
        "added": 0, "changed": 0, "moved": 1, "gone": 0, "broken": 1, "others": 0, "takes": 2,
    }  # fmt: skip
    assert "cut short" in result.stderr
    assert len(rows(impact("takes", "list", "--json"))) == 2
    Path("b.wav").unlink()
    assert "1 gone, 1 broken, 1 takes in all" in impact("takes", "scan", "--rebuild", ".").stdout
    failed(impact("takes", "scan", "nowhere"), "bad_argument")


def test_an_index_that_cannot_be_used_costs_a_remark(impact: Impact, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "data").write_text("a file where a folder should be")
    result = impact("generate", "dog", "--seconds", "0.2", "--model", "tiny", "-o", "a.wav", "--json")
    assert len(rows(result)) == 1
    assert result.stderr.startswith("impact: the takes are saved, but not listed")
    assert result.stderr.count("\n") == 1
    assert rows(impact("takes", "show", "a.wav", "--json"))[0]["prompt"] == "dog"
    failed(impact("takes", "list"), "bad_argument")


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_like_makes_the_same_sound(impact: Impact, format: str) -> None:
    args = ("--guidance", "3", "--negative", "cat", "--rate", "22050", "--set", "gain_db=-6", "--set", "fade_out=0.1")
    first = make(impact, "dog barks", "--seconds", "0.7", "-o", f"a.{format}", "--variants", "1", *args)
    second = rows(impact("generate", "--like", f"a.{format}", "-o", f"b.{format}", "--json"))[0]
    assert np.array_equal(soundfile.read(f"a.{format}")[0], soundfile.read(f"b.{format}")[0])
    for name in ("prompt", "seed", "seconds", "rate", "iterations", "guidance", "model"):
        assert first[name] == second[name], name
    one, two = read_record(Path(f"a.{format}")), read_record(Path(f"b.{format}"))
    assert (two.parent, two.request, two.fingerprint) == (one.take, one.request, one.fingerprint)
    shown = impact("takes", "show", f"b.{format}").stdout
    assert f"made from       {one.take}" in shown
    assert f"made into       {two.take}" in impact("takes", "show", one.take).stdout


def test_like_a_variant_and_a_take_of_a_list(impact: Impact) -> None:
    Path("p.csv").write_text("prompt,seconds,seed,variants\ndog,0.4,3,3\ncat,0.5,3,1\n")
    impact("generate", "--from", "p.csv", "-o", "out", "--model", "tiny", "--set", "head_steps=5")
    assert impact("generate", "--like", "out/1_2.wav", "-o", "again.wav").exit_code == 0
    crowd, alone = soundfile.read("out/1_2.wav")[0], soundfile.read("again.wav")[0]
    assert np.abs(crowd - alone).max() < 1e-3 * np.abs(crowd).max()
    assert read_record(Path("again.wav")).seed == 5


def test_like_with_something_else(impact: Impact) -> None:
    make(impact, "dog barks", "--seconds", "0.4", "--seed", "8", "-o", "a.wav")
    row = rows(impact("generate", "cat", "--like", "a.wav", "--set", "duration=0.5", "-o", "b.wav", "--json"))[0]
    assert (row["prompt"], row["seconds"], row["seed"]) == ("cat", 0.5, 8)
    failed(impact("generate", "--like", "a.wav", "--preset", "x"), "bad_argument")
    failed(impact("generate", "--like", "a.wav", "--from", "p.txt"), "bad_argument")
    failed(impact("generate", "--like", "nothing"), "unknown_id")
    assert "seconds" in failed(impact("generate", "--like", "a.wav", "--seconds", "x"), "bad_argument")


def test_like_follows_the_words_that_were_put_in_on_the_way(impact: Impact) -> None:
    make(impact, "dog barks", "--seconds", "2", "--iterations", "6", "-o", "a.wav", "--seed", "2")
    record = read_record(Path("a.wav"))
    changed = record.model_copy(update={"changes": (Change(iteration=3, prompt="wind", weight=1.0),)})
    save_take(Path(), "changed", soundfile.read("a.wav", dtype="float32")[0], changed)
    for name in ("a", "changed"):
        assert impact("generate", "--like", f"{name}.wav", "-o", f"like-{name}.wav").exit_code == 0
    plain, like, other = (soundfile.read(f"{name}.wav")[0] for name in ("a", "like-a", "like-changed"))
    assert np.array_equal(plain, like)
    assert not np.array_equal(plain, other)
    assert read_record(Path("like-changed.wav")).changes == changed.changes
    assert impact("generate", "--like", "like-changed.wav", "-o", "again.wav").exit_code == 0
    assert np.array_equal(soundfile.read("again.wav")[0], other)


def test_like_wants_the_same_model(impact: Impact, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(impact, "dog", "--seconds", "0.3", "--seed", "1", "-o", "a.wav")
    fingerprint = read_record(Path("a.wav")).fingerprint
    bundles = Path("bundles").absolute()
    shutil.copytree(tiny_bundle, bundles / "renamed")  # the same model under another name will do
    monkeypatch.setenv("IMPACT_BUNDLES", str(bundles))
    assert rows(impact("generate", "--like", "a.wav", "-o", "b.wav", "--json"))[0]["prompt"] == "dog"
    assert np.array_equal(soundfile.read("a.wav")[0], soundfile.read("b.wav")[0])

    info = yaml.safe_load((bundles / "renamed" / "bundle.yaml").read_text())
    info["parts"]["text"]["config"]["max_tokens"] = 31
    (bundles / "renamed" / "bundle.yaml").write_text(yaml.safe_dump(info))
    words = failed(impact("generate", "--like", "a.wav", "-o", "c.wav"), "model_missing")
    assert f"tiny, which is not here (fingerprint {fingerprint})" in words
    (bundles / "renamed").rename(bundles / "tiny")
    words = failed(impact("generate", "--like", "a.wav", "-o", "c.wav"), "model_missing")
    assert "another version of tiny" in words
    result = impact("generate", "--like", "a.wav", "-o", "c.wav", "--model", "tiny", "--json")
    assert len(rows(result)) == 1
    assert f"made with tiny ({fingerprint})" in result.stderr
    assert "the sound will differ" in result.stderr


def test_like_a_take_that_does_not_know_its_model(impact: Impact) -> None:
    make(impact, "dog", "--seconds", "0.3", "--seed", "1", "-o", "a.wav")
    record = read_record(Path("a.wav")).model_copy(update={"fingerprint": ""})
    save_take(Path(), "old", np.zeros(10, np.float32), record)
    result = impact("generate", "--like", "old.wav", "-o", "b.wav")
    assert result.exit_code == 0
    assert "the sound may differ" in result.stderr
    assert np.array_equal(soundfile.read("a.wav")[0], soundfile.read("b.wav")[0])


def test_a_take_of_a_later_version(impact: Impact) -> None:
    make(impact, "dog", "--seconds", "0.3", "-o", "a.wav")
    record: TakeRecord = read_record(Path("a.wav"))
    later = record.model_copy(update={"request": {**record.request, "shimmer": 3}})
    save_take(Path(), "later", np.zeros(10, np.float32), later)
    words = failed(impact("generate", "--like", "later.wav"), "unknown_key")
    assert "later.wav" in words
    assert "shimmer" in words


def test_generated_files_say_what_they_are(impact: Impact) -> None:
    make(impact, "glass bottle shatters", "--seconds", "0.3", "--seed", "6", "--rate", "48000", "-o", "here/")
    (path,) = Path("here").iterdir()
    assert path.name == "GLASBrk_GlassBottleShatters_IMPACT_tiny_s6-t00.wav"
    info = wavinfo.WavInfoReader(str(path))
    assert info.bext.description == info.info.title == "glass bottle shatters"
    assert (info.fmt.sample_rate, info.fmt.bits_per_sample, info.data.frame_count) == (48000, 24, 14400)
    texts = {element.tag: element.text for element in info.ixml.parsed.iter()}
    assert (texts["SEED"], texts["DIGITIZER_SAMPLE_RATE"], texts["catId"]) == ("6", "16000", "GLASBrk")
