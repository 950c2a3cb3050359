"""The presets that come with the program: enough of them, all right, every prompt a valid request, all documented."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest

from impact_plugin.audio.level import Finish
from impact_plugin.paths import builtin_presets_folder
from impact_plugin.presets.library import Library, load_presets
from impact_plugin.presets.schema import KEYS, Preset
from impact_plugin.presets.slots import Words
from impact_plugin.request import Request, expects

REPO = Path(__file__).parent.parent
BANKS = {
    *("impacts", "doors", "footsteps", "foley", "weapons", "magic", "scifi", "ui", "water", "fire", "animals"),
    *("machines", "vehicles", "drums", "ambiences", "whooshes", "explosions", "cartoon", "alarms"),
}
#: The starter bundle makes sounds of at most this length, seconds.
STARTER_LIMIT = 12.0


@pytest.fixture(scope="module")
def presets() -> dict[str, Preset]:
    return load_presets(builtin_presets_folder())


def test_enough_in_every_bank(presets: dict[str, Preset]) -> None:
    assert len(presets) >= 60
    assert {preset.bank for preset in presets.values()} == BANKS
    assert all(sum(preset.bank == bank for preset in presets.values()) >= 5 for bank in BANKS)
    assert Library(builtin_presets_folder()).faults == ()


def test_every_prompt_is_a_valid_request(presets: dict[str, Preset]) -> None:
    for preset in presets.values():
        names = list(preset.slots)
        choices = [slot.words if isinstance(slot, Words) else ("2", "3", "4") for slot in preset.slots.values()]
        for words in itertools.product(*choices):
            request = preset.request(0, **{f"slot.{name}": word for name, word in zip(names, words, strict=True)})
            assert request.prompt
            assert not set("{}") & set(request.prompt)
            assert 0.05 <= (request.seconds or 1.0) <= STARTER_LIMIT
            assert len(request.prompt.split()) <= 8


def test_every_preset_is_found_by_its_tags(presets: dict[str, Preset]) -> None:
    assert all(preset.tags for preset in presets.values())
    by_tag = {tag: sum(tag in preset.tags for preset in presets.values()) for p in presets.values() for tag in p.tags}
    assert by_tag["door"] >= 10
    assert by_tag["bed"] >= 10


def test_a_preset_says_how_it_is_finished(presets: dict[str, Preset], tiny_bundle: Path) -> None:
    from impact_plugin.bundle.load import load_bundle
    from impact_plugin.engine.engine import Engine

    engine = Engine(load_bundle(tiny_bundle), threads=1)
    plan = engine.plan(presets["rain"].request(3, seconds=1.0))
    assert plan.finish == Finish(lufs=-26.0, fade_in=0.5, fade_out=0.5)
    assert (plan.seed, plan.prompt) == (3, presets["rain"].fill(3)["prompt"])


def test_the_wheel_holds_them() -> None:
    wheel = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["presets"] == "impact_plugin/presets/banks"
    assert builtin_presets_folder() == REPO / "presets"


def test_documentation_names_every_key_and_preset(presets: dict[str, Preset]) -> None:
    text = (REPO / "docs" / "presets.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, flags=re.MULTILINE))
    assert set(rows) == set(KEYS)
    for key in set(KEYS) & set(Request.model_fields):
        assert rows[key].strip() == ("true or false" if key == "loop" else expects(key)), key
    banks = dict(re.findall(r"^- \*\*(\w+)\*\*: (.+)$", text, flags=re.MULTILINE))
    assert set(banks) == BANKS
    for bank, names in banks.items():
        there = [preset.name for preset in presets.values() if preset.bank == bank]
        assert sorted(re.findall(r"`(\w+)`", names)) == sorted(there)
