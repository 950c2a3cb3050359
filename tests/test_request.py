"""The request schema: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import math
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.errors import ImpactError
from impact_plugin.request import (
    ALIASES,
    SEEDS,
    Request,
    assignments,
    canonical,
    expects,
    pairs_to_mapping,
)


def refused(mapping: dict[str, Any]) -> ImpactError:
    with pytest.raises(ImpactError) as caught:
        Request.parse(mapping)
    return caught.value


def test_defaults() -> None:
    request = Request.parse({"prompt": "dog barks"})
    assert (request.variants, request.seed, request.seconds, request.priority) == (1, None, None, 0)
    assert request.to_dict() == {"prompt": "dog barks"}


@pytest.mark.parametrize("value", [4, 4.0, "4", "4.0", " 4 ", "4e0"])
def test_numbers_of_any_writing(value: object) -> None:
    request = Request.parse({"prompt": "x", "seconds": value, "variants": value, "seed": value, "rate": 44100.0})
    assert (request.seconds, request.variants, request.seed, request.rate) == (4.0, 4, 4, 44100)
    assert isinstance(request.variants, int)


@pytest.mark.parametrize(("value", "expected"), [(1, True), (0.0, False), ("on", True), ("no", False), (True, True)])
def test_flags(value: object, expected: bool) -> None:
    assert Request.parse({"prompt": "x", "loop": value}).loop is expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seconds", 0),
        ("seconds", -1),
        ("seconds", 1e9),
        ("seconds", "nan"),
        ("seconds", math.nan),
        ("seconds", math.inf),
        ("seconds", "two"),
        ("seconds", [2]),
        ("seconds", True),
        ("seconds", "1_0"),
        ("variants", 0),
        ("variants", 65),
        ("variants", 1.5),
        ("variants", 10**400),
        ("seed", -1),
        ("seed", SEEDS),
        ("seed", "0x10"),
        ("iterations", 0),
        ("iterations", 257),
        ("guidance", -0.1),
        ("guidance", 21),
        ("rate", 7999),
        ("rate", 192001),
        ("loop", "maybe"),
        ("loop", 2),
        ("bars", 0),
        ("bpm", 0),
        ("order", "sideways"),
        ("sampler", "euler"),
        ("ucs", "not a cat id"),
        ("amount", 2),
        ("position", -0.5),
        ("peak_db", 0),
        ("priority", 1000),
    ],
)
def test_bad_values_name_key_and_range(key: str, value: object) -> None:
    error = refused({"prompt": "x", key: value})
    assert error.code == "bad_argument"
    assert error.field == key
    assert error.text.startswith(f"{key} must be {expects(key)}, not ")
    assert "\n" not in error.text
    assert len(error.text) < 200


@pytest.mark.parametrize("prompt", ["", "   ", "\x00\n\t"])
def test_empty_prompt(prompt: str) -> None:
    error = refused({"prompt": prompt})
    assert (error.code, error.field) == ("bad_argument", "prompt")
    assert "empty" in error.text


def test_missing_prompt_is_told_from_an_empty_one() -> None:
    assert "missing" in refused({"seconds": 2}).text


def test_long_prompt() -> None:
    assert Request.parse({"prompt": "x" * 2000}).prompt == "x" * 2000
    error = refused({"prompt": "x" * 10_000})
    assert error.code == "bad_argument"
    assert "10000" in error.text
    assert "2000" in error.text
    assert "xxxx" not in error.text


def test_prompt_is_one_clean_line() -> None:
    assert Request.parse({"prompt": " dog\nbarks\x07 "}).prompt == "dog barks"
    assert Request.parse({"prompt": 808.0}).prompt == "808"


def test_broken_unicode_is_refused() -> None:
    assert "Unicode" in refused({"prompt": "a\ud800"}).text


def test_unknown_key_names_the_nearest() -> None:
    error = refused({"prompt": "x", "itterations": 3})
    assert (error.code, error.field) == ("unknown_key", "itterations")
    assert "iterations" in error.text
    assert "keys are" in refused({"prompt": "x", "qqqqqq": 3}).text
    assert refused({"prompt": "x", 3: 3}).code == "unknown_key"  # type: ignore[dict-item]


def test_aliases_of_the_elevenlabs_api() -> None:
    request = Request.parse({"text": "rain", "duration_seconds": None, "prompt_influence": 0.3})
    assert (request.prompt, request.seconds) == ("rain", None)
    assert request.guidance == pytest.approx(3.7)
    assert "--format" in refused({"text": "rain", "output_format": "mp3"}).text
    assert refused({"text": "rain", "prompt_influence": 1.5}).field == "prompt_influence"
    assert refused({"text": "rain", "duration_seconds": 0}).text.startswith("duration_seconds must be")


def test_a_key_under_two_names() -> None:
    assert "same key" in refused({"prompt": "a", "text": "b"}).text


@pytest.mark.parametrize("word", ["", "auto", "Default", None])
def test_words_for_not_given(word: str | None) -> None:
    assert Request.parse({"prompt": "x", "seconds": word, "seed": word, "ucs": word}).to_dict() == {"prompt": "x"}


def test_random_seed() -> None:
    assert Request.parse({"prompt": "x", "seed": "random"}).seed is None


def test_preview_interval_asks_for_previews() -> None:
    assert Request.parse({"prompt": "x", "previews_every": 2}).preview
    assert not Request.parse({"prompt": "x", "previews_every": 2, "preview": 0}).preview


def test_fixed_keys_win() -> None:
    assert Request.parse({"prompt": "a"}, prompt="b").prompt == "b"


def test_pairs() -> None:
    request = Request.parse_pairs(["seconds", 2, "variants", "3"], prompt="dog")
    assert (request.prompt, request.seconds, request.variants) == ("dog", 2.0, 3)
    for pairs, word in ((["seconds"], "no value"), ([1, 2], "key"), (["seed", 1, "seed", 2], "twice")):
        with pytest.raises(ImpactError) as caught:
            pairs_to_mapping(pairs)
        assert caught.value.code == "bad_argument"
        assert word in caught.value.text
    with pytest.raises(ImpactError) as caught:
        pairs_to_mapping(["secnds"])
    assert caught.value.code == "unknown_key"


def test_assignments() -> None:
    assert assignments(["a=b=c", " seed =3"]) == {"a": "b=c", "seed": "3"}
    for item in ("seed", "=3"):
        with pytest.raises(ImpactError):
            assignments([item])
    with pytest.raises(ImpactError):
        assignments(["seed=1", "seed=2"])


def test_help_covers_every_key_and_alias() -> None:
    rows = Request.fields_help()
    assert [row.name for row in rows] == list(Request.model_fields)
    assert all(row.text and row.expects for row in rows)
    assert {alias for row in rows for alias in row.aliases} == set(ALIASES)


def test_contract_keys_exist() -> None:
    keys = "seconds variants seed iterations guidance negative preset loop bars bpm rate priority preview"
    keys += " previews_every play ucs label"
    assert set(keys.split()) <= set(Request.model_fields)


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.text(alphabet=string.digits + ".-+eE_ ", max_size=12),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.binary(max_size=5),
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*Request.model_fields, *ALIASES, "other_key"]), _VALUES, max_size=6))
def test_anything_is_parsed_or_refused_in_one_line(mapping: dict[str, Any]) -> None:
    try:
        request = Request.parse(mapping)
    except ImpactError as refusal:
        error = refusal
    else:
        assert Request.parse(request.to_dict()) == request
        return
    assert error.code in {"bad_argument", "unknown_key"}
    assert "\n" not in error.text
    assert len(error.text.encode()) < 1000


@settings(deadline=None)
@given(st.lists(_VALUES, max_size=6))
def test_any_pairs_are_parsed_or_refused(pairs: list[Any]) -> None:
    code = ""
    try:
        Request.parse_pairs(pairs, prompt="x")
    except ImpactError as error:
        code = error.code
    assert code in {"", "bad_argument", "unknown_key"}


@settings(deadline=None)
@given(st.floats(min_value=0.05, max_value=3600))
def test_numbers_survive_their_text(seconds: float) -> None:
    assert Request.parse({"prompt": "x", "seconds": repr(seconds)}).seconds == seconds


def test_canonical_keeps_what_the_caller_wrote() -> None:
    values, written = canonical({"duration": 2, "text": "x"})
    assert values == {"seconds": 2, "prompt": "x"}
    assert written == {"seconds": "duration", "prompt": "text"}
