"""The library: whose preset wins, broken edits, and files that change while it is watched."""

from __future__ import annotations

import logging
import os
import queue
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from impact_plugin.errors import ImpactError
from impact_plugin.presets.library import Change, Library, load_presets
from impact_plugin.presets.watch import Watcher

SECONDS = 20.0


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    write(folder / "doors.yaml", slam="door slam", creak="door creak")
    write(folder / "water.yaml", drip="water drip")
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own"


def write(path: Path, text: str | None = None, **prompts: str) -> None:
    """Write a bank as careful editors do, so that it is whole at once."""
    path.parent.mkdir(exist_ok=True)
    body = text if text is not None else "".join(f"{name}:\n  prompt: {words}\n" for name, words in prompts.items())
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(body, encoding="utf-8")
    os.replace(partial, path)


def prompt(library: Library, name: str) -> str:
    return str(library[name].values["prompt"])


def test_the_users_own_win(shipped: Path, own: Path) -> None:
    write(own / "mine.yaml", slam="my slam")
    write(own / "doors.yaml", creak="my creak")
    library = Library(shipped, own)
    assert set(library) == {"slam", "creak", "drip"}
    assert prompt(library, "slam") == "my slam"
    assert prompt(library, "doors/slam") == "door slam"
    assert prompt(library, "mine/slam") == "my slam"
    assert prompt(library, "creak") == prompt(library, "doors/creak") == "my creak"
    assert library["slam"].full_name == "mine/slam"
    assert "doors/none" not in library
    assert not library.faults
    assert load_presets(shipped, own) == dict(library)


def test_a_name_given_twice_in_a_folder(shipped: Path, own: Path) -> None:
    write(own / "a.yaml", x="first")
    write(own / "b.yaml", x="second", y="other")
    library = Library(shipped, own)
    assert prompt(library, "x") == "first"
    assert prompt(library, "b/x") == "second"
    assert "y" in library
    (fault,) = library.faults
    assert f"{own / 'b.yaml'} line 1: x: this name is taken in {own / 'a.yaml'} line 1" in fault.text
    with pytest.raises(ImpactError, match="taken"):
        load_presets(shipped, own)
    assert library.reload() == []


def test_a_broken_edit_keeps_the_last_good_version_and_says_so_once(shipped: Path) -> None:
    library = Library(shipped)
    write(shipped / "doors.yaml", "slam:\n  prompt: x\n  secnds: 1\n")
    (change,) = library.reload()
    assert change.error is not None
    assert change.error.code == "unknown_key"
    assert "doors.yaml line 3: slam: unknown key" in change.text
    assert "last good version stays (2 presets)" in change.text
    assert prompt(library, "slam") == "door slam"
    assert "drip" in library
    assert [fault.code for fault in library.faults] == ["unknown_key"]
    os.utime(shipped / "doors.yaml", (1, 1))
    assert library.reload() == []
    write(shipped / "doors.yaml", "slam: [\n")
    (other,) = library.reload()
    assert other.error is not None
    assert other.error.code == "bad_file"
    write(shipped / "doors.yaml", slam="mended")
    (mended,) = library.reload()
    assert (mended.error, mended.presets) == (None, 1)
    assert prompt(library, "slam") == "mended"
    assert "creak" not in library
    assert not library.faults


def test_a_file_that_was_never_right_gives_nothing(shipped: Path) -> None:
    write(shipped / "bad.yaml", "a:\n  prompt: x\nb: 3\n")
    library = Library(shipped)
    assert set(library) == {"slam", "creak", "drip"}
    assert "line 3: b:" in library.faults[0].text
    with pytest.raises(ImpactError, match="line 3"):
        load_presets(shipped)


def test_removed_and_new_files(shipped: Path) -> None:
    library = Library(shipped)
    (shipped / "water.yaml").unlink()
    write(shipped / "more.yml", new="new")
    write(shipped / "ignored.txt", other="other")
    write(shipped / ".hidden.yaml", other="other")
    changes = {change.file.name: change for change in library.reload()}
    assert {name: (change.removed, change.presets) for name, change in changes.items()} == {
        "more.yml": (False, 1),
        "water.yaml": (True, 0),
    }
    assert set(library) == {"slam", "creak", "new"}


def test_no_folders_at_all(tmp_path: Path) -> None:
    library = Library(tmp_path / "none")
    assert dict(library) == {}
    assert library.reload() == []


Heard = queue.Queue[Change]


@pytest.fixture
def heard(shipped: Path, own: Path) -> Iterator[tuple[Library, Heard]]:
    library, heard = Library(shipped, own), Heard()
    with Watcher(library, lambda changes: [heard.put(change) for change in changes][:0]):
        yield library, heard


def test_edits_are_picked_up(
    heard: tuple[Library, Heard], shipped: Path, own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library, changes = heard
    with caplog.at_level(logging.INFO, "impact_plugin.presets.watch"):
        write(shipped / "doors.yaml", slam="edited")
        assert changes.get(timeout=SECONDS).file.name == "doors.yaml"
        assert prompt(library, "slam") == "edited"
        write(own / "mine.yaml", slam="mine")  # the folder itself is new
        assert changes.get(timeout=SECONDS).file.name == "mine.yaml"
        assert prompt(library, "slam") == "mine"
        write(own / "mine.yaml", "slam: [")
        assert changes.get(timeout=SECONDS).error is not None
        assert prompt(library, "slam") == "mine"
        write(own / "mine.yaml", slam="mended")
        assert changes.get(timeout=SECONDS).error is None
        assert prompt(library, "slam") == "mended"
        shutil.rmtree(own)
        assert changes.get(timeout=SECONDS).removed
        assert prompt(library, "slam") == "edited"
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "last good version stays" in warnings[0]
    assert changes.empty()


def test_a_watcher_stops_and_starts_again(shipped: Path) -> None:
    library, changes = Library(shipped), Heard()
    watcher = Watcher(library, lambda found: changes.put(found[0]))
    watcher.start()
    watcher.start()
    watcher.stop()
    watcher.stop()
    write(shipped / "doors.yaml", slam="unseen")
    with pytest.raises(queue.Empty):
        changes.get(timeout=0.3)
    watcher.start()
    assert changes.get(timeout=SECONDS).file.name == "doors.yaml"
    watcher.stop()


def test_a_listener_that_fails_does_not_stop_the_watcher(shipped: Path) -> None:
    library, calls = Library(shipped), queue.Queue[int]()

    def listen(changes: list[Change]) -> None:
        calls.put(len(changes))
        raise ValueError("a listener's mistake")

    with Watcher(library, listen):
        write(shipped / "doors.yaml", slam="one")
        assert calls.get(timeout=SECONDS) == 1
        write(shipped / "doors.yaml", slam="two")
        assert calls.get(timeout=SECONDS) == 1
    assert prompt(library, "slam") == "two"


def test_without_watches_the_folders_are_looked_at(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose watches are used up makes watchfiles raise OSError; edits are found all the same."""
    import watchfiles

    from impact_plugin.presets import watch

    def full(*_paths: str, **_options: object) -> Iterator[None]:
        raise OSError(28, "no space left for watches")

    monkeypatch.setattr(watchfiles, "watch", full)
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.05)
    library, changes = Library(shipped), Heard()
    with Watcher(library, lambda found: changes.put(found[0])):
        write(shipped / "doors.yaml", slam="polled")
        assert changes.get(timeout=SECONDS).file.name == "doors.yaml"
    assert prompt(library, "slam") == "polled"
