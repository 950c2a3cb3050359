"""File names after the Universal Category System."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.takes.names import MAX_BYTES, candidates, fx_name, safe_stem, take_stem
from impact_plugin.takes.ucs import FALLBACK, guess_catid

FORBIDDEN = set('/\\:*?"<>|$`\0') | {chr(code) for code in range(32)}


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=60), st.integers(0, 2**24 - 1), st.integers(0, 63))
def test_any_prompt_gives_a_safe_name(prompt: str, model: str, seed: int, variant: int) -> None:
    stem = take_stem(prompt, catid="DOORWood", model=model, seed=seed, variant=variant)
    blocks = stem.split("_")
    assert len(blocks) == 5
    assert all(blocks)
    assert blocks[0] == "DOORWood"
    assert blocks[4] == f"s{seed}-t{variant:02d}"
    assert not FORBIDDEN & set(stem)
    assert not stem.startswith(".")
    assert len(f"{stem}_2.flac".encode()) <= MAX_BYTES
    assert len(blocks[1]) < 25


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_id_gives_a_safe_name(text: str) -> None:
    stem = safe_stem(text)
    assert stem
    assert not FORBIDDEN & set(stem)
    assert stem not in {".", ".."}
    assert not stem.startswith(".")
    assert len(stem.encode()) <= MAX_BYTES + 5
    assert "/" not in stem
    assert Path(stem).name == stem


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("glass bottle shatters on concrete", "GlassBottleShattersOn"),
        ("dog", "Dog"),
        ("../../etc/passwd", "EtcPasswd"),
        ("$(rm -rf ~); `ls`", "RmRfLs"),
        ("türknarren", "Turknarren"),
        ("!!!", "Sound"),
        ("Donaudampfschifffahrtsgesellschaft", "Donaudampfschifffahrtsge"),
        ("玻璃", "玻璃"),
    ],
)
def test_fx_names(prompt: str, name: str) -> None:
    assert fx_name(prompt) == name


def test_reserved_names_of_windows() -> None:
    assert safe_stem("CON") == "take-CON"
    assert safe_stem("lpt1.txt") == "take-lpt1.txt"
    assert safe_stem("row 1_a") == "row 1_a"


def test_candidates() -> None:
    names = [path.name for path in itertools.islice(candidates(Path("x"), "a", ".wav"), 3)]
    assert names == ["a.wav", "a_2.wav", "a_3.wav"]


@pytest.mark.parametrize(
    ("prompt", "catid"),
    [
        ("glass bottle shatters on concrete", "GLASBrk"),
        ("heavy wooden door slams shut", "DOORWood"),
        ("metal door creaks", "DOORMetl"),
        ("Dogs barking", "ANMLDog"),
        ("soft carpet", FALLBACK),
        ("footsteps on gravel", "FEETHmn"),
        ("laser gun shot", "LASRGun"),
        ("xyzzy", FALLBACK),
        ("", FALLBACK),
    ],
)
def test_guessed_catids(prompt: str, catid: str) -> None:
    assert guess_catid(prompt) == catid
    assert re.fullmatch(r"[A-Z]{2,}[a-z]{0,6}", catid)
