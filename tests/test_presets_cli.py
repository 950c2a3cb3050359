"""`impact presets` and `impact generate --preset`: lists, mistakes, slots by hand, the contact sheet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from impact_plugin.cli.app import app

Impact = Callable[..., Result]


@pytest.fixture
def impact(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Impact:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMPACT_THREADS", "1")
    monkeypatch.setenv("IMPACT_BUNDLES", str(tiny_bundle))
    monkeypatch.setenv("IMPACT_HOME", str(tmp_path / "home"))

    def run(*args: str) -> Result:
        return CliRunner().invoke(app, list(args))

    return run


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "config" / "presets"
    folder.mkdir(parents=True)
    return folder


def failed(result: Result, status: int, code: str) -> str:
    assert result.exit_code == status, result.output
    assert result.stderr.splitlines()[-1].startswith(f"impact: {code}: "), result.stderr
    assert "Traceback" not in result.output
    return result.stderr


def rows(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_list(impact: Impact) -> None:
    everything = rows(impact("presets", "list", "--json"))
    doors = rows(impact("presets", "list", "--tag", "door", "--json"))
    assert len(everything) >= 60
    assert 0 < len(doors) < len(everything)
    assert all("door" in str(row["tags"]) for row in doors)
    water = rows(impact("presets", "list", "--bank", "water", "--json"))
    assert {row["bank"] for row in water} == {"water"}
    assert "doors/gate" in impact("presets", "list", "--tag", "door").stdout
    assert "did you mean door" in failed(impact("presets", "list", "--tag", "dor"), 2, "bad_argument")
    assert "did you mean doors" in failed(impact("presets", "list", "--bank", "dors"), 2, "bad_argument")


def test_show(impact: Impact, own: Path) -> None:
    (own / "mine.yaml").write_text("glass_break:\n  prompt: my glass\n")
    assert rows(impact("presets", "show", "glass_break", "--json"))[0]["prompt"] == "my glass"
    (shipped,) = rows(impact("presets", "show", "impacts/glass_break", "--json"))
    assert shipped["ucs"] == "GLASBrk"
    assert Path(str(shipped["file"])).name == "impacts.yaml"
    assert "slots:" in impact("presets", "show", "impacts/glass_break").stdout
    (filled,) = rows(impact("presets", "show", "impacts/glass_break", "--seed", "3", "--json"))
    assert "{" not in str(filled["prompt"])
    assert "slots" not in filled
    error = failed(impact("presets", "show", "glas_break"), 2, "unknown_preset")
    assert "did you mean glass_break" in error
    assert len(failed(impact("presets", "show", "xyzzy"), 2, "unknown_preset")) < 200


def test_check_tells_every_mistake(impact: Impact, own: Path) -> None:
    assert "no mistake" in impact("presets", "check").stdout
    (own / "a.yaml").write_text("a:\n  prompt: x\n  secnds: 2\n")
    assert "a.yaml line 3: a: unknown key 'secnds': did you mean seconds" in failed(
        impact("presets", "check"), 2, "unknown_key"
    )
    (own / "b.yaml").write_text("b:\n  prompt: x\nc: {}\n")
    (own / "c.yaml").write_text("b:\n  prompt: y\n")
    told = failed(impact("presets", "check", str(own)), 2, "bad_argument").splitlines()
    assert len(told) == 4
    assert "3 mistakes" in told[-1]
    assert any("c.yaml line 1: b: this name is taken" in line for line in told)
    result = impact("presets", "check", str(own), "--json")
    assert result.exit_code == 2
    found = {Path(row["file"]).name: row for row in map(json.loads, result.stdout.splitlines())}
    assert [len(row["faults"]) for row in found.values()] == [1, 1, 1]
    assert found["a.yaml"]["faults"][0]["field"] == "secnds"
    assert found["b.yaml"]["presets"] == 1
    assert "1 preset, no mistake" in impact("presets", "check", str(own / "c.yaml")).stdout
    failed(impact("presets", "check", "missing.yaml"), 2, "bad_file")


def test_path(impact: Impact, tmp_path: Path) -> None:
    assert impact("presets", "path").stdout.strip() == str(tmp_path / "home" / "config" / "presets")
    (row,) = rows(impact("presets", "path", "--json"))
    assert (Path(str(row["builtin"])) / "doors.yaml").is_file()


def test_generate_with_slots_by_hand(impact: Impact) -> None:
    make = ("generate", "--preset", "glass_break", "--model", "tiny", "--seconds", "0.3", "--iterations", "2", "--json")
    (row,) = rows(impact(*make, "--set", "slot.what=green bottle", "--set", "slot.how=shatter", "--seed", "4"))
    assert row["prompt"] == "green bottle shatter"
    assert "GLASBrk_" in str(row["path"])
    (drawn,) = rows(impact(*make, "--seed", "4"))
    (again,) = rows(impact(*make, "--seed", "4"))
    assert drawn["prompt"] == again["prompt"]
    assert "did you mean what" in failed(impact(*make, "--set", "slot.waht=x"), 2, "unknown_key")
    assert "given twice" in failed(impact(*make, "--set", "slot.what=x", "--set", "slot.what=y"), 2, "bad_argument")
    assert "name the preset" in failed(impact("generate", "x", "--set", "slot.what=x"), 2, "bad_argument")


def test_slots_in_a_table(impact: Impact) -> None:
    Path("p.csv").write_text("preset,slot.what,seed\nglass_break,red bottle,1\nimpacts/thud,,2\n")
    made = rows(
        impact(
            "generate",
            "--from",
            "p.csv",
            "-o",
            "out",
            "--seconds",
            "0.2",
            "--iterations",
            "2",
            "--model",
            "tiny",
            "--json",
        )
    )
    assert str(made[0]["prompt"]).startswith("red bottle ")
    assert str(made[1]["prompt"]).split()[-1] in ("thud", "thump")


def test_a_broken_file_of_the_users_does_not_stop_the_others(impact: Impact, own: Path) -> None:
    (own / "bad.yaml").write_text("a: [\n")
    result = impact(
        "generate", "--preset", "thud", "--seconds", "0.2", "--iterations", "2", "--model", "tiny", "--json"
    )
    assert len(rows(result)) == 1
    assert "bad.yaml line" in result.stderr
    assert "bad.yaml line" in failed(impact("generate", "--preset", "a"), 2, "unknown_preset")


def test_sheet(impact: Impact, own: Path) -> None:
    from PIL import Image

    (own / "mine.yaml").write_text("a:\n  prompt: '{x} door'\n  slots: {x: [y]}\n  seconds: 30\n  tags: [mine]\n")
    (own / "more.yaml").write_text(
        "b:\n  prompt: bell $5\n  seconds: 0.05\n  tags: [mine]\nc:\n  prompt: x\n  tags: [mine]\n"
    )
    result = impact(
        "presets",
        "sheet",
        "-o",
        "pictures/s.png",
        "--tag",
        "mine",
        "--columns",
        "2",
        "--iterations",
        "2",
        "--model",
        "tiny",
        "--json",
    )
    assert [(row["preset"], row["prompt"]) for row in sorted(rows(result), key=lambda row: str(row["preset"]))] == [
        ("mine/a", "y door"),
        ("more/b", "bell $5"),
        ("more/c", "x"),
    ]
    seconds = {row["preset"]: row["seconds"] for row in rows(result)}
    assert (seconds["mine/a"], seconds["more/b"]) == (4.0, 0.05)
    with Image.open("pictures/s.png") as picture:
        assert picture.size == (424, 256)
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50
    failed(impact("presets", "sheet", "-o", "s.jpg"), 2, "bad_argument")
    failed(impact("presets", "sheet", "-o", "s.png", "--tag", "mein"), 2, "bad_argument")
