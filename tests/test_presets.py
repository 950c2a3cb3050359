"""Presets: slots filled from the seed, mistakes told with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from impact_plugin.errors import ImpactError
from impact_plugin.presets.load import load_bank, load_presets
from impact_plugin.presets.schema import expand, parse_preset
from impact_plugin.request import Request

GOOD = """
knock:
  prompt: "{n} knocks on {what}"
  slots:
    what: [wood, metal]
    n: {min: 2, max: 4}
  seconds: 1.5
  tags: [door]
808:
  prompt: bass drum
"""


def bank(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bank.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_built_in_presets_are_right() -> None:
    presets = load_presets()
    assert presets
    for preset in presets.values():
        for seed in range(20):
            assert "{" not in (Request.parse(preset.fill(seed)).prompt or "{")


def test_slots_follow_the_seed(tmp_path: Path) -> None:
    presets = load_bank(bank(tmp_path, GOOD))
    assert set(presets) == {"knock", "808"}
    filled = {presets["knock"].fill(seed)["prompt"] for seed in range(50)}
    assert len(filled) == 6 and "3 knocks on metal" in filled
    assert presets["knock"].fill(7) == presets["knock"].fill(7)


def test_a_requests_own_keys_win(tmp_path: Path) -> None:
    presets = load_bank(bank(tmp_path, GOOD))
    request = Request.parse(expand({"preset": "knock", "duration": 2, "seed": "5"}, presets))
    assert (request.seconds, request.seed, request.preset) == (2.0, 5, "knock")
    assert request.prompt == presets["knock"].fill(5)["prompt"]
    assert Request.parse(expand({"preset": "knock", "prompt": "mine"}, presets)).prompt == "mine"
    drawn = expand({"preset": "knock"}, presets)
    assert presets["knock"].fill(drawn["seed"])["prompt"] == drawn["prompt"]
    assert expand({"prompt": "x"}, presets) == {"prompt": "x"}


def test_unknown_preset(tmp_path: Path) -> None:
    with pytest.raises(ImpactError) as caught:
        expand({"preset": "knok"}, load_bank(bank(tmp_path, GOOD)))
    assert caught.value.code == "unknown_preset" and "knock" in caught.value.text


@pytest.mark.parametrize(
    ("text", "code", "line", "words"),
    [
        ("a:\n  prompt: x\n  secnds: 2\n", "unknown_key", 3, "did you mean seconds"),
        ("a:\n  prompt: x\n\n  seconds: 0\n", "bad_argument", 4, "from 0.05"),
        ("a:\n  prompt: x\n  slots: [1]\n", "bad_argument", 3, "slots"),
        ("a:\n  prompt: '{b}'\n  slots: {c: [x]}\n", "unknown_key", 2, "slot"),
        ("a:\n  prompt: '{b:>99}'\n  slots: {b: [x]}\n", "bad_argument", 2, "name in braces"),
        ("a:\n  prompt: 'x {'\n", "bad_argument", 2, "brace"),
        ("a:\n  seconds: 2\n", "bad_argument", 1, "no prompt"),
        ("a:\n  prompt: x\nb: 3\n", "bad_argument", 3, "mapping"),
        ("a:\n  prompt: x\na:\n  prompt: y\n", "bad_argument", 3, "twice"),
        ("a:\n  prompt: [x\n", "bad_file", 3, "YAML"),
        ("- a\n", "bad_file", 1, "mapping"),
        ("a:\n  prompt: x\n  tags: loud\n", "bad_argument", 3, "tags"),
    ],
)
def test_mistakes_are_told_with_file_and_line(tmp_path: Path, text: str, code: str, line: int, words: str) -> None:
    path = bank(tmp_path, text)
    with pytest.raises(ImpactError) as caught:
        load_bank(path)
    assert caught.value.code == code
    assert caught.value.text.startswith(f"{path} line {line}") and words in caught.value.text


def test_unreadable_banks(tmp_path: Path) -> None:
    (tmp_path / "bank.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "bank.yaml", tmp_path / "none.yaml"):
        with pytest.raises(ImpactError) as caught:
            load_bank(path)
        assert caught.value.code == "bad_file"
    assert load_bank(bank(tmp_path, "# nothing yet\n")) == {}


def test_later_folders_win(tmp_path: Path) -> None:
    for name, prompt in (("one", "first"), ("two", "second")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "b.yaml").write_text(f"a: {{prompt: {prompt}}}")
    assert load_presets(tmp_path / "one", tmp_path / "two")["a"].values["prompt"] == "second"


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    with pytest.raises(ImpactError):
        load_bank(bank(tmp_path, "a: !!python/object/apply:os.system ['true']\n"))


def test_preset_must_be_a_mapping() -> None:
    with pytest.raises(ImpactError):
        parse_preset("a", ["prompt"])
