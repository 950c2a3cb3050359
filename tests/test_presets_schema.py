"""What a preset may say: every key's type and range, slots and their use, and how it becomes a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.errors import ImpactError
from impact_plugin.presets.load import load_bank, read_bank
from impact_plugin.presets.schema import KEYS, Preset, PresetError, expand, parse_preset
from impact_plugin.request import SEEDS, Request

GOOD = """
knock:
  prompt: "{n} knocks on {what}"
  slots:
    what: [wood, metal]
    n: {min: 2, max: 4}
  seconds: 1.5
  lufs: -20
  tags: [door]
plain:
  prompt: bass {{drum}}
  seed: 5
"""


def bank(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bank.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def good(tmp_path: Path) -> dict[str, Preset]:
    return load_bank(bank(tmp_path, GOOD))


def test_every_key_of_the_contract() -> None:
    keys = "prompt slots negative seconds variants iterations guidance loop seed ucs tags gain_db fade_in fade_out"
    assert {*keys.split(), "peak_db", "lufs", "notes"} == set(KEYS)
    full: dict[str, Any] = {
        "prompt": "{a} door",
        "slots": {"a": ["oak", "steel"]},
        "negative": "music",
        "seconds": 2,
        "variants": 3,
        "iterations": 12,
        "guidance": 2.5,
        "loop": True,
        "seed": 7,
        "ucs": "DOORWood",
        "tags": ["door", "wood"],
        "gain_db": -2,
        "fade_in": 0.1,
        "fade_out": 0,
        "peak_db": -3.0,
        "notes": "two lines\nof text",
    }
    preset = parse_preset("full", full)
    assert preset.to_data() == full
    request = preset.request(1)
    assert (request.variants, request.loop, request.peak_db, request.fade_in, request.ucs) == (
        3,
        True,
        -3.0,
        0.1,
        "DOORWood",
    )


@pytest.mark.parametrize(
    ("text", "code", "line", "words"),
    [
        ("a:\n  prompt: x\n  secnds: 2\n", "unknown_key", 3, "did you mean seconds"),
        ("a:\n  prompt: x\n  duration: 2\n", "unknown_key", 3, "did you mean seconds"),
        ("a:\n  prompt: x\n  rate: 44100\n", "unknown_key", 3, "rate"),
        ("a:\n  prompt: x\n\n  seconds: 0\n", "bad_argument", 4, "from 0.05"),
        ("a:\n  prompt: x\n  seconds: '2'\n", "bad_argument", 3, "a number from 0.05 to 3600, not '2'"),
        ("a:\n  prompt: x\n  variants: 2.5\n", "bad_argument", 3, "whole number"),
        ("a:\n  prompt: x\n  variants: true\n", "bad_argument", 3, "not true"),
        ("a:\n  prompt: x\n  loop: 1\n", "bad_argument", 3, "true or false"),
        ("a:\n  prompt: 808\n", "bad_argument", 2, "quotes"),
        ("a:\n  prompt: x\n  guidance:\n", "bad_argument", 3, "no value"),
        ("a:\n  prompt: x\n  ucs: door\n", "bad_argument", 3, "CatID"),
        ("a:\n  prompt: x\n  peak_db: 1\n", "bad_argument", 3, "from -60 to -0.1"),
        ("a:\n  prompt: x\n  seed: 16777216\n", "bad_argument", 3, "16777215"),
        ("a:\n  prompt: x\n  lufs: -20\n  peak_db: -3\n", "bad_argument", 3, "not both"),
        ("a:\n  prompt: x\n  tags: loud\n", "bad_argument", 3, "tags"),
        ("a:\n  prompt: x\n  tags:\n    - ok\n    - Not OK\n", "bad_argument", 5, "small letters"),
        ("a:\n  prompt: x\n  slots: [1]\n", "bad_argument", 3, "slots"),
        ("a:\n  prompt: '{b}'\n  slots:\n    b:\n      - x\n      - yes\n", "bad_argument", 6, "quotes"),
        ("a:\n  prompt: '{b}'\n  slots:\n    b:\n      min: 1\n      max: 0\n", "bad_argument", 5, "min"),
        ("a:\n  prompt: '{b}'\n  slots:\n    b:\n      min: 1\n      maxx: 2\n", "bad_argument", 6, "maxx"),
        ("a:\n  prompt: '{b}'\n  slots:\n    b: {min: 1, max: 2, step: 3}\n", "bad_argument", 4, "step"),
        ("a:\n  prompt: '{b}'\n  slots:\n    b: []\n", "bad_argument", 4, "1 to 1000"),
        ("a:\n  prompt: '{b}'\n  slots:\n    b: wood\n", "bad_argument", 4, "list of words"),
        ("a:\n  prompt: '{b}'\n  slots:\n    b: [x, x]\n", "bad_argument", 4, "twice"),
        ("a:\n  prompt: '{b}'\n  slots:\n    b: [x]\n    c: [y]\n", "bad_argument", 5, "used nowhere"),
        ("a:\n  prompt: '{b}'\n  slots: {c: [x]}\n", "unknown_key", 2, "slot"),
        ("a:\n  prompt: '{b}'\n", "unknown_key", 2, "not in slots"),
        ("a:\n  prompt: '{b:>99}'\n  slots: {b: [x]}\n", "bad_argument", 2, "name in braces"),
        ("a:\n  prompt: '{b.real}'\n  slots: {b: [x]}\n", "unknown_key", 2, "b.real"),
        ("a:\n  prompt: 'x {'\n", "bad_argument", 2, "brace"),
        ("a:\n  seconds: 2\n", "bad_argument", 1, "no prompt"),
        ("a:\n  prompt: x\nb: 3\n", "bad_argument", 3, "mapping"),
        ("a/b:\n  prompt: x\n", "bad_argument", 1, "name"),
        ("808:\n  prompt: x\n", "bad_file", 1, "quotes"),
        ("a:\n  prompt: x\na:\n  prompt: y\n", "bad_file", 3, "twice"),
        ("a:\n  prompt: x\n  seconds: 2\n  seconds: 3\n", "bad_file", 4, "twice"),
        ("a: &b\n  prompt: x\nc: *b\n", "bad_file", 1, "aliases"),
        ("a:\n  prompt: [x\n", "bad_file", 3, "','"),
        ("- a\n", "bad_file", 0, "mapping"),
    ],
)
def test_mistakes_are_told_with_file_and_line(tmp_path: Path, text: str, code: str, line: int, words: str) -> None:
    path = bank(tmp_path, text)
    with pytest.raises(ImpactError) as caught:
        load_bank(path)
    assert caught.value.code == code
    assert caught.value.text.startswith(f"{path} line {line}:" if line else f"{path}:")
    assert words in caught.value.text


def test_the_longest_words_must_fit() -> None:
    words = ["a", "b" * 190]
    long = {"prompt": "{a} " * 11, "slots": {"a": words}}
    with pytest.raises(PresetError) as caught:
        parse_preset("a", long)
    assert caught.value.path == ("prompt",)
    assert parse_preset("a", {**long, "prompt": "{a} " * 10})


def test_all_mistakes_of_a_file_are_found(tmp_path: Path) -> None:
    path = bank(tmp_path, "a:\n  prompt: x\n  secs: 1\nb:\n  prompt: y\nc:\n  seconds: 1\n")
    presets, faults = read_bank(path)
    assert list(presets) == ["b"]
    assert [(fault.text.split(": ")[0], fault.field) for fault in faults] == [
        (f"{path} line 3", "secs"),
        (f"{path} line 6", None),
    ]


def test_unreadable_banks(tmp_path: Path) -> None:
    (tmp_path / "bank.yaml").write_bytes(b"a: \xff\xfe\x00")
    for path in (tmp_path / "bank.yaml", tmp_path / "none.yaml"):
        with pytest.raises(ImpactError) as caught:
            load_bank(path)
        assert caught.value.code == "bad_file"
    assert load_bank(bank(tmp_path, "# nothing yet\n\n  # and no more\n")) == {}
    assert load_bank(bank(tmp_path, "")) == {}


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    with pytest.raises(ImpactError):
        load_bank(bank(tmp_path, "a: !!python/object/apply:os.system ['true']\n"))


def test_preset_must_be_a_mapping() -> None:
    with pytest.raises(ImpactError):
        parse_preset("a", ["prompt"])


def test_slots_follow_the_seed(good: dict[str, Preset]) -> None:
    filled = {good["knock"].fill(seed)["prompt"] for seed in range(60)}
    assert filled == {f"{n} knocks on {what}" for n in (2, 3, 4) for what in ("wood", "metal")}
    assert good["knock"].fill(7) == good["knock"].fill(7)
    assert good["plain"].fill(1)["prompt"] == "bass {drum}"


def test_a_requests_own_keys_win(good: dict[str, Preset]) -> None:
    request = Request.parse(expand({"preset": "knock", "duration": 2, "seed": "5"}, good))
    assert (request.seconds, request.seed, request.preset) == (2.0, 5, "knock")
    assert request.prompt == good["knock"].fill(5)["prompt"]
    assert Request.parse(expand({"preset": "knock", "prompt": "mine"}, good)).prompt == "mine"
    drawn = expand({"preset": "knock"}, good)
    assert good["knock"].fill(drawn["seed"])["prompt"] == drawn["prompt"]
    assert expand({"preset": "plain"}, good)["seed"] == 5
    assert expand({"preset": "plain"}, good, seed=9)["seed"] == 5
    assert expand({"preset": "knock"}, good, seed=9)["seed"] == 9
    assert expand({"prompt": "x"}, good) == {"prompt": "x"}


def test_a_key_that_says_it_otherwise_takes_the_presets_place(good: dict[str, Preset]) -> None:
    request = Request.parse(expand({"preset": "knock", "peak_db": -3}, good))
    assert (request.peak_db, request.lufs) == (-3.0, None)
    request = Request.parse(expand({"preset": "knock", "bars": 2, "bpm": 120}, good))
    assert (request.bars, request.seconds, request.lufs) == (2.0, None, -20.0)
    with pytest.raises(ImpactError, match="not both"):
        Request.parse({"prompt": "x", "peak_db": -3, "lufs": -20})


def test_slots_can_be_filled_by_hand(good: dict[str, Preset]) -> None:
    values = expand({"preset": "knock", "slot.what": "old oak", "slot.n": "3", "seed": 1}, good)
    assert values == {
        "prompt": "3 knocks on old oak",
        "preset": "knock",
        "seconds": 1.5,
        "lufs": -20,
        "seed": 1,
    }
    assert expand({"preset": "knock", "slot.n": 4.0, "seed": 1}, good)["prompt"].startswith("4 knocks")
    braces = expand({"preset": "knock", "slot.what": "{n}", "seed": 1}, good)["prompt"]
    assert braces.endswith("knocks on {n}")
    left = expand({"preset": "knock", "slot.what": "auto", "seed": 1}, good)["prompt"]
    assert left == good["knock"].fill(1)["prompt"]


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        ({"preset": "knok"}, "unknown_preset", "knock"),
        ({"preset": 7}, "unknown_preset", "7"),
        ({"preset": "knock", "slot.wat": "x"}, "unknown_key", "did you mean what"),
        ({"preset": "plain", "slot.what": "x"}, "unknown_key", "no slots"),
        ({"preset": "knock", "slot.n": "9"}, "bad_argument", "from 2 to 4"),
        ({"preset": "knock", "slot.n": "nan"}, "bad_argument", "from 2 to 4"),
        ({"preset": "knock", "slot.what": "a\nb"}, "bad_argument", "slot.what"),
        ({"preset": "knock", "slot.": "x"}, "unknown_key", "slot."),
        ({"prompt": "x", "slot.what": "x"}, "bad_argument", "name the preset"),
        ({"preset": "knock", "seed": "many"}, "bad_argument", "seed"),
    ],
)
def test_what_a_preset_refuses(good: dict[str, Preset], request_: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(ImpactError) as caught:
        Request.parse(expand(request_, good))
    assert caught.value.code == code
    assert words in caught.value.text


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)
SLOTS = st.dictionaries(st.sampled_from(["a", "b", "c d", ""]), VALUES | st.lists(st.text("xyz"), max_size=3))
BODIES = st.dictionaries(
    st.sampled_from(KEYS) | st.text(max_size=8),
    VALUES | SLOTS | st.sampled_from(["{a}", "{b} {a}", "{", "x"]),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(BODIES, st.integers(0, SEEDS - 1))
def test_anything_is_a_preset_or_one_line(body: dict[str, Any], seed: int) -> None:
    try:
        preset = parse_preset("a", body)
    except PresetError as error:
        told = error.text
        assert told
        assert "\n" not in told
    else:
        assert Request.parse(preset.fill(seed)).prompt
        again = parse_preset("a", yaml.safe_load(yaml.safe_dump(preset.to_data())))
        assert again.fill(seed) == preset.fill(seed)
