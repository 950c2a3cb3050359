"""Names of bundles and the places they are looked for in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from conftest import write_tiny_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from impact_plugin.bundle.load import load_bundle
from impact_plugin.bundle.registry import (
    VARIABLE,
    bundle_paths,
    list_bundles,
    resolve_bundle,
    shipped_folder,
    user_folder,
)
from impact_plugin.errors import ImpactError


def missing(name: str | Path) -> ImpactError:
    with pytest.raises(ImpactError) as caught:
        resolve_bundle(name)
    assert caught.value.code == "model_missing"
    assert caught.value.field == "model"
    return caught.value


def test_path_of_any_kind(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tiny_bundle, str(tiny_bundle), tiny_bundle / "bundle.yaml"):
        assert resolve_bundle(path) == tiny_bundle
    monkeypatch.chdir(tiny_bundle.parent)
    assert resolve_bundle("tiny").resolve() == tiny_bundle.resolve()
    monkeypatch.chdir(tiny_bundle)
    assert resolve_bundle(".").resolve() == tiny_bundle.resolve()


def test_variable_names_folders_of_bundles_or_bundles(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing("tiny")
    for entry in (tiny_bundle, tiny_bundle.parent):
        monkeypatch.setenv(VARIABLE, os.pathsep.join(["/no/such/folder", "", str(entry)]))
        assert resolve_bundle("tiny") == tiny_bundle
        assert bundle_paths()["tiny"] == ("environment", tiny_bundle)
        assert load_bundle("tiny").path == tiny_bundle


def test_users_folder_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = write_tiny_bundle(user_folder() / "mine")
    try:
        assert resolve_bundle("mine") == mine
        assert "did you mean 'mine'?" in missing("mien").text
        assert [(entry.name, entry.source) for entry in list_bundles() if entry.source == "user"] == [("mine", "user")]
        assert (shipped_folder().name, user_folder().name) == ("bundles", "bundles")
        other = write_tiny_bundle(tmp_path / "mine")
        monkeypatch.setenv(VARIABLE, str(other.parent))
        assert resolve_bundle("mine") == other
    finally:
        shutil.rmtree(mine)


def test_broken_bundle_is_listed_with_its_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("broken", ".hidden", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "bundle.yaml").write_text("format: 9\n")
    (tmp_path / ".hidden" / "bundle.yaml").write_text("format: 1\n")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    entries = {entry.name: entry for entry in list_bundles()}
    assert entries["broken"].info is None
    problem = entries["broken"].problem
    assert problem is not None
    assert problem.code == "bad_file"
    assert not {".hidden", "empty", "file"} & set(entries)


@pytest.mark.parametrize("name", ["", " ", "zork", "../zork", "/no/such/bundle", "a\0b", "~nobody-here/x", "x" * 9999])
def test_what_is_not_there(name: str) -> None:
    error = missing(name)
    assert "\n" not in error.text
    assert len(error.text) < 600


def test_folder_without_bundle(tmp_path: Path) -> None:
    assert "no bundle.yaml" in missing(tmp_path).text
    assert "no bundle.yaml" in missing(str(tmp_path)).text
    assert "no bundle.yaml" in missing(tmp_path / "none").text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=40).filter(lambda name: name.strip(". /\\") not in ("", "starter")))
def test_any_name(tmp_path: Path, name: str) -> None:
    missing(name)
