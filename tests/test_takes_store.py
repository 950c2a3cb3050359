"""Takes as a whole: found by any name, fenced, rated, deleted."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.audio.files import PARTIAL, encode_sound
from impact_plugin.errors import ImpactError
from impact_plugin.paths import takes_folder, takes_index
from impact_plugin.takes.export import copy_take, unwanted
from impact_plugin.takes.fence import fence
from impact_plugin.takes.record import TakeRecord
from impact_plugin.takes.store import TakeStore

WAVE = np.zeros(50, np.float32)
RECORD = TakeRecord(
    id="1",
    variant=0,
    prompt="dog barks",
    seed=5,
    seconds=0.1,
    rate=44100,
    iterations=4,
    guidance=3.0,
    model="starter",
    elapsed_s=1.0,
    ucs="ANMLDog",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TakeStore]:
    (tmp_path / "takes").mkdir()
    store = TakeStore(tmp_path / "takes", tmp_path / "takes.sqlite3")
    yield store
    store.close()


def code(name: str, store: TakeStore, **options: object) -> str:
    with pytest.raises(ImpactError) as caught:
        store.path_of(name, **options)  # type: ignore[arg-type]
    assert "\n" not in caught.value.text
    return caught.value.code


def test_the_users_own_folders_are_the_default() -> None:
    store = TakeStore()
    assert store.folder == takes_folder()
    assert store.index.path == takes_index()
    store.close()


def test_a_take_by_any_name(store: TakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = store.save(WAVE, RECORD)
    path = Path(saved.path)
    assert path.name == "ANMLDog_DogBarks_IMPACT_starter_s5-t00.wav"
    monkeypatch.chdir(store.folder)
    for name in (str(path), path.name, path.stem, saved.take, saved.take[:6], f"../takes/{path.name}"):
        assert store.path_of(name).resolve() == path.resolve(), name
        assert store.read(name).take == saved.take
    monkeypatch.chdir(tmp_path)
    for name in (path.name, path.stem):
        assert store.path_of(name) == path


def test_names_that_are_no_takes(store: TakeStore) -> None:
    store.save(WAVE, RECORD.model_copy(update={"take": "abcd000000000000"}))
    gone = store.save(WAVE, RECORD.model_copy(update={"take": "abcd111111111111"}))
    Path(gone.path).unlink()
    assert code("", store) == code(" ", store) == code("a\0b", store) == "bad_argument"
    assert code("nothing.wav", store) == code("some/where", store) == "bad_file"
    assert code("ffff", store) == code("abc", store) == code("dog", store) == "unknown_id"
    assert code("abcd", store) == "bad_argument"
    assert code("abcd1", store) == "bad_file"
    with pytest.raises(ImpactError) as caught:
        store.path_of("ANMLDog_DogBark_IMPACT_starter_s5-t00")
    assert "did you mean ANMLDog_DogBarks_IMPACT_starter_s5-t00" in caught.value.text


def test_two_takes_of_one_name(store: TakeStore, tmp_path: Path) -> None:
    store.save(WAVE, RECORD, stem="x")
    store.save(WAVE, RECORD, stem="x", folder=tmp_path)
    assert code("x", store) == "bad_argument"
    assert store.path_of("x.wav") == store.folder / "x.wav"


def test_a_copy_stands_in_for_a_take_that_is_gone(store: TakeStore) -> None:
    saved = store.save(WAVE, RECORD)
    copy = store.folder / "copy.wav"
    copy.write_bytes(Path(saved.path).read_bytes())
    store.refresh()
    Path(saved.path).unlink()
    assert store.path_of(saved.take) == copy


def test_a_take_is_rated_in_file_and_index(store: TakeStore) -> None:
    saved = store.save(WAVE, RECORD)
    assert store.rate(Path(saved.path), 5).rating == 5
    assert store.read(saved.take).rating == 5
    assert [record.rating for record in store.index.find()] == [5]
    assert store.refresh().changed == 0


def test_only_takes_are_deleted(store: TakeStore) -> None:
    saved = store.save(WAVE, RECORD)
    foreign = store.folder / "foreign.wav"
    foreign.write_bytes(encode_sound(WAVE, 44100))
    with pytest.raises(ImpactError) as caught:
        store.delete(foreign)
    assert caught.value.code == "bad_file"
    assert foreign.exists()
    store.delete(Path(saved.path))
    assert not Path(saved.path).exists()
    assert len(store.index) == 0


def test_temporary_files_of_every_folder_are_cleared(store: TakeStore, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    store.save(WAVE, RECORD, folder=tmp_path / "far", stem="x")
    left = [folder / f".{'a' * 12}{PARTIAL}" for folder in (store.folder, tmp_path / "far", tmp_path)]
    for file in left:
        file.touch()
        os.utime(file, (1, 1))
    assert sorted(store.clean()) == sorted(left[:2])
    assert left[2].exists()


def test_copies_never_overwrite(store: TakeStore, tmp_path: Path) -> None:
    saved = store.save(WAVE, RECORD, stem="x", format="flac")
    assert [copy_take(Path(saved.path), tmp_path).name for _ in range(2)] == ["x.flac", "x_2.flac"]
    assert (tmp_path / "x_2.flac").read_bytes() == Path(saved.path).read_bytes()


def test_which_takes_are_unwanted(store: TakeStore) -> None:
    for rating, year in ((0, 2020), (1, 2020), (3, 2020), (0, 2999), (2, 2999)):
        store.save(WAVE, RECORD.model_copy(update={"rating": rating, "made": f"{year}-01-01T00:00:00+00:00"}))

    def chosen(**options: object) -> list[tuple[int, str]]:
        return sorted((record.rating, record.made[:4]) for record in unwanted(store, **options))  # type: ignore[arg-type]

    assert chosen() == []
    assert chosen(below=3) == [(1, "2020"), (2, "2999")]
    assert chosen(unrated=True) == [(0, "2020"), (0, "2999")]
    assert chosen(unrated=True, older_than_days=1) == [(0, "2020")]
    assert chosen(below=2, unrated=True) == [(0, "2020"), (0, "2999"), (1, "2020")]
    assert chosen(older_than_days=30) == [(0, "2020"), (1, "2020"), (3, "2020")]


def test_fence(tmp_path: Path) -> None:
    root, other, outside = tmp_path / "root", tmp_path / "other", tmp_path / "rootless"
    for folder in (root / "sub", other, outside):
        folder.mkdir(parents=True)
    (outside / "a.wav").touch()
    assert fence("a.wav", [root]) == root / "a.wav"
    assert fence(root / "sub" / ".." / "a.wav", [root]) == root / "a.wav"
    assert fence(other / "b.wav", [root, other]) == other / "b.wav"
    bad = ["", "../a.wav", "../rootless/a.wav", str(outside / "a.wav"), "sub/../../x", "/etc/passwd", "a\0b", "\udcff"]
    for path in [*bad, ".", str(root), "x" * 5000 + "/../../../x"]:
        with pytest.raises(ImpactError) as caught:
            fence(path, [root, other], "take")
        assert (caught.value.code, caught.value.field) == ("bad_argument", "take")
    with pytest.raises(ImpactError):
        fence("a.wav", [])


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_do_not_lead_over_the_fence(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.wav").touch()
    (tmp_path / "root" / "link.wav").symlink_to(tmp_path / "secret.wav")
    (tmp_path / "root" / "up").symlink_to(tmp_path)
    (tmp_path / "root" / "loop").symlink_to("loop")
    for path in ("link.wav", "up/secret.wav", "up/root/../secret.wav"):
        with pytest.raises(ImpactError):
            fence(path, [tmp_path / "root"])
    (tmp_path / "alias").symlink_to("root")
    assert fence("a.wav", [tmp_path / "alias"]) == tmp_path / "root" / "a.wav"


@settings(deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(["..", ".", "a", "", "/", "~", "C:"]), max_size=8).map("/".join))
def test_nothing_gets_over_the_fence(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.getbasetemp().resolve()
    with contextlib.suppress(ImpactError):
        path = fence(text, [root])
        assert os.path.commonpath([os.path.realpath(path), root]) == str(root)
        assert path != root


def test_names_from_the_network_stay_inside(store: TakeStore, tmp_path: Path) -> None:
    inside = store.save(WAVE, RECORD)
    outside = store.save(WAVE, RECORD, folder=tmp_path, stem="outside")
    roots = [store.folder]
    assert store.path_of(inside.take, roots=roots) == Path(inside.path).resolve()
    assert store.path_of(Path(inside.path).name, roots=roots) == Path(inside.path).resolve()
    assert store.path_of(inside.path, roots=roots) == Path(inside.path).resolve()
    for name in (outside.path, "../outside.wav", outside.take, "/etc/passwd"):
        assert code(name, store, roots=roots) == "bad_argument", name
    assert code("nothing.wav", store, roots=roots) == "bad_file"
    assert code("nothing", store, roots=roots) == "unknown_id"
