"""The index: what it finds, what two processes do to it, and that the files alone make it again."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.audio.files import PARTIAL, encode_sound
from impact_plugin.errors import ImpactError
from impact_plugin.takes.file import read_record
from impact_plugin.takes.index import TakeIndex
from impact_plugin.takes.record import TakeRecord
from impact_plugin.takes.save import save_take
from impact_plugin.takes.scan import Changes, scan
from impact_plugin.takes.store import TakeStore
from impact_plugin.takes.words import folded, query

WAVE = np.zeros(50, np.float32)
RECORD = TakeRecord(
    id="1",
    variant=0,
    prompt="dog",
    seed=1,
    seconds=0.1,
    rate=44100,
    iterations=4,
    guidance=3.0,
    model="starter",
    elapsed_s=1.0,
)
PROMPTS = [
    "glass bottle shatters on concrete",
    "Heavy WOODEN door slams",
    "très fort, une porte",
    "玻璃瓶碎裂",
    "100% wind_noise",
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TakeStore]:
    (tmp_path / "takes").mkdir()
    store = TakeStore(tmp_path / "takes", tmp_path / "index" / "takes.sqlite3")
    yield store
    store.close()


def make(store: TakeStore, **values: object) -> TakeRecord:
    format = "flac" if values.get("seed", 0) == 3 else "wav"
    return store.save(WAVE, RECORD.model_copy(update=values), format=format)


def fill(store: TakeStore) -> list[TakeRecord]:
    """Takes of all kinds, the oldest first."""
    made = []
    for number, prompt in enumerate(PROMPTS):
        parent = made[-1].take if made else None
        values = {"prompt": prompt, "seed": number, "made": f"2025-01-0{number + 1}T00:00:00+00:00", "parent": parent}
        made.append(make(store, **values, label="Hero Take" if number == 1 else None, ucs="GLASBrk"))
    return made


def found(index: TakeIndex, text: str = "", **options: object) -> list[int]:
    return [record.seed for record in index.find(text, **options)]  # type: ignore[arg-type]


def content(index: TakeIndex) -> list[dict[str, object]]:
    """Everything an index says, in one order."""
    return sorted((record.model_dump() for record in index.find(missing=True)), key=lambda row: str(row["path"]))


def test_the_newest_come_first(store: TakeStore) -> None:
    fill(store)
    assert found(store.index) == [4, 3, 2, 1, 0]
    assert found(store.index, limit=2) == [4, 3]
    assert len(store.index) == 5


@pytest.mark.parametrize("full_text", [True, False])
@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("glass", [4, 3, 2, 1, 0]),  # the CatID in every file's name
        ("bottle", [0]),
        ("BOTTLE glass", [0]),
        ("bott shat", [0]),
        ("ottle", []),
        ("bottle door", []),
        ("door", [1]),
        ("wood", [1]),
        ("tres", [2]),
        ("TRÈS", [2]),
        ("hero", [1]),
        ("starter", [4, 3, 2, 1, 0]),
        ("GLASBrk", [4, 3, 2, 1, 0]),
        ("瓶", [3]),
        ("玻璃 starter", [3]),
        ("100", [4]),
        ("100%", [4]),
        ("%", [4, 3, 2, 1, 0]),
        ("wind noise", [4]),
        ("wind_noise", [4]),
        ('"door" OR', []),
        ("door*", [1]),
        ("NEAR(", []),
        ("   ", [4, 3, 2, 1, 0]),
    ],
)
def test_search(store: TakeStore, full_text: bool, text: str, seeds: list[int]) -> None:
    fill(store)
    with TakeIndex(store.index.path, full_text=full_text) as index:
        assert found(index, text) == seeds


def test_rating_and_model(store: TakeStore) -> None:
    made = fill(store)
    store.rate(Path(made[1].path), 3)
    store.rate(Path(made[2].path), 5)
    make(store, model="other", seed=9, made="2025-02-01")
    assert found(store.index, rating=3) == [2, 1]
    assert found(store.index, rating=4) == [2]
    assert found(store.index, model="other") == [9]
    assert found(store.index, "door", rating=3) == [1]


@settings(deadline=None, max_examples=80)
@given(st.text(max_size=60), st.text(max_size=12))
def test_both_ways_to_search_agree(tmp_path_factory: pytest.TempPathFactory, prompt: str, text: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "search"
    folder.mkdir(exist_ok=True)
    saved = save_take(folder, "a", WAVE, RECORD.model_copy(update={"prompt": prompt}), overwrite=True)
    answers = []
    for full_text in (True, False):
        path = folder / "index.sqlite3"
        path.unlink(missing_ok=True)
        with TakeIndex(path, full_text=full_text) as index:
            index.add(saved)
            answers.append((found(index, text), found(index, prompt[:20])))
    assert answers[0] == answers[1]


@given(st.text(max_size=80))
def test_every_text_has_the_words_it_is_searched_by(text: str) -> None:
    wanted, words = query(text), folded(text)
    assert all(f" {word}" in words for word in wanted.words)
    assert all(part in words for part in wanted.parts)
    assert not set('"%_*\\') & set(words)


def test_line_of_descent(store: TakeStore) -> None:
    made = fill(store)
    assert [record.seed for record in store.index.ancestors(made[3])] == [2, 1, 0]
    assert [record.seed for record in store.index.children(made[0].take)] == [1]
    assert store.index.ancestors(made[0]) == []
    assert store.index.ancestors(RECORD.model_copy(update={"parent": "feedfeedfeedfeed"})) == []


def test_a_circle_of_parents_ends(store: TakeStore) -> None:
    one = make(store, take="a" * 16, parent="b" * 16)
    make(store, take="b" * 16, parent="a" * 16)
    assert [record.take for record in store.index.ancestors(one)] == ["b" * 16]


def test_index_from_the_files_alone_equals_the_index(store: TakeStore, tmp_path: Path) -> None:
    made = fill(store)
    store.rate(Path(made[0].path), 4)
    (store.folder / "sub").mkdir()
    store.save(WAVE, RECORD.model_copy(update={"seed": 77}), folder=store.folder / "sub", stem="own name")
    shutil.copy(made[1].path, store.folder / "copy.wav")
    store.refresh()
    with TakeIndex(tmp_path / "again.sqlite3") as again:
        assert again.empty
        changes = scan(again, [store.folder])
        assert changes == Changes(added=7)
        assert content(again) == content(store.index)
        assert again.states() == store.index.states()
        assert scan(again, [store.folder]) == Changes()
        assert scan(again, [store.folder], anew=True) == Changes()
        assert content(again) == content(store.index)


def test_what_happens_behind_its_back(store: TakeStore) -> None:
    made = fill(store)
    folder = store.folder
    Path(made[0].path).unlink()
    (folder / "deep").mkdir()
    os.rename(made[1].path, folder / "deep" / "moved.wav")
    Path(made[2].path).write_bytes(Path(made[4].path).read_bytes())  # another take under its name
    (folder / "foreign.wav").write_bytes(encode_sound(WAVE, 44100))
    (folder / "text.flac").write_text("no sound")
    (folder / "cut.wav").write_bytes(Path(made[4].path).read_bytes()[:-3])
    (folder / f".{'a' * 12}{PARTIAL}").write_bytes(Path(made[4].path).read_bytes())
    (folder / ".hidden.wav").write_bytes(Path(made[4].path).read_bytes())
    (folder / "folder.wav").mkdir()
    assert found(store.index) == [4, 3, 2]  # what is gone is not shown, even before anybody looked
    changes = store.refresh()
    assert (changes.added, changes.changed, changes.moved, changes.gone, changes.others) == (0, 1, 1, 1, 2)
    ((path, text),) = changes.broken
    assert path.name == "cut.wav"
    assert "cut short: 3 bytes" in text
    assert sorted(found(store.index)) == [1, 3, 4, 4]
    assert Path(store.index.named(made[1].take)[0].path).name == "moved.wav"
    assert len(store.index) == 5  # the deleted one is remembered, unseen
    again = store.refresh()
    assert (again.added, again.changed, again.moved) == (0, 0, 0)
    assert store.forget_missing() == 1
    assert len(store.index) == 4


def test_a_disk_that_comes_back(store: TakeStore, tmp_path: Path) -> None:
    fill(store)
    os.rename(store.folder, tmp_path / "away")
    assert store.refresh().gone == 5
    assert found(store.index) == []
    os.rename(tmp_path / "away", store.folder)
    assert found(store.index) == [4, 3, 2, 1, 0]
    os.rename(store.folder, tmp_path / "away")
    store.refresh(anew=True)
    assert len(store.index) == 0


def test_a_take_that_another_program_rewrote(store: TakeStore) -> None:
    made = fill(store)
    Path(made[0].path).write_bytes(encode_sound(WAVE, 44100))
    assert store.refresh().others == 1
    assert found(store.index) == [4, 3, 2, 1]


def test_threads_share_an_index(store: TakeStore) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for seed in range(8):
                make(store, seed=100 * number + seed + 10, prompt="many")
                list(store.index.find("many"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(found(store.index, "many")) == 32


WRITER = """
import sys
import numpy as np
from pathlib import Path
from impact_plugin.takes.record import TakeRecord
from impact_plugin.takes.store import TakeStore
store = TakeStore(Path(sys.argv[1]), Path(sys.argv[2]))
record = TakeRecord(id=sys.argv[3], variant=0, prompt="two at once", seed=1, seconds=0.1, rate=44100, iterations=1,
                    guidance=1, model="m", elapsed_s=0)
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
for number in range(25):
    saved = store.save(np.full(50, number / 100, np.float32), record, stem="same name")
    if number % 5 == 0:
        store.rate(Path(saved.path), 3)
        store.refresh()
print(store.problem)
"""


def test_two_processes_write_at_once(store: TakeStore) -> None:
    command = [
        sys.executable,
        "-B",
        "-c",
        WRITER,
        str(store.folder),
        str(store.folder.with_name("index") / "takes.sqlite3"),
    ]
    assert not store.folder.with_name("index").exists()  # they have to make it, too
    processes = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=100)
        assert (process.returncode, out.strip()) == (0, "")
    names = sorted(path.name for path in store.folder.iterdir())
    assert names == sorted(["same name.wav", *(f"same name_{number}.wav" for number in range(2, 76))])
    assert len(found(store.index)) == 75
    assert len(found(store.index, rating=3)) == 15
    assert {record.id for record in store.index.find()} == {"0", "1", "2"}
    assert store.refresh() == Changes()


KILLED = WRITER.replace("range(25)", "range(10000)").replace("np.full(50, ", "np.full(200_000, ")


def test_a_killed_process_leaves_no_half_take(store: TakeStore) -> None:
    path = store.folder.with_name("index") / "takes.sqlite3"
    process = None
    for number in range(3):
        process = subprocess.Popen(
            [sys.executable, "-B", "-c", KILLED, str(store.folder), str(path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            before = len(list(store.folder.iterdir()))
            process.stdin.write(b"go\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            while len(list(store.folder.iterdir())) < before + 3 + number:
                time.sleep(0.001)
            process.kill()
    for file in store.folder.glob("[!.]*"):
        assert read_record(file).prompt == "two at once"
        assert soundfile.info(file).frames == 200_000
    indexed = {record.path for record in store.index.find(missing=True)}
    assert indexed <= {str(file) for file in store.folder.glob("[!.]*")}
    changes = store.refresh()
    assert (changes.gone, changes.broken) == (0, [])
    assert len(store.index) == len(list(store.folder.glob("[!.]*")))
    store.clean(older_than_s=0)
    assert not list(store.folder.glob(".*"))


def test_a_writer_who_waits_too_long_says_who_is_busy(store: TakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impact_plugin.takes.index.PATIENCE_S", 0.2)
    fill(store)
    other = sqlite3.connect(store.index.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert len(found(store.index)) == 5  # reading goes on
        with pytest.raises(ImpactError) as caught:
            store.index.forget(store.folder / "x.wav")
        assert (caught.value.code, caught.value.exit_status) == ("busy", 1)
        saved = make(store, seed=50)  # a take is saved all the same
        assert Path(saved.path).is_file()
        assert "busy" in store.problem
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert store.refresh().added == 1
    assert 50 in found(store.index)


@pytest.mark.parametrize("harm", [b"this is no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_broken_index_is_put_aside_and_made_again(store: TakeStore, harm: bytes) -> None:
    fill(store)
    path = store.index.path
    store.close()
    for file in path.parent.iterdir():
        file.unlink()
    path.write_bytes(harm)
    assert found(store.index) == [4, 3, 2, 1, 0]
    assert path.with_name("takes.sqlite3.broken").read_bytes() == harm


def test_an_index_that_is_deleted_while_it_is_open(store: TakeStore) -> None:
    fill(store)
    shutil.rmtree(store.index.path.parent)
    make(store, seed=70, made="2026-01-01")
    assert found(store.index) == [70, 4, 3, 2, 1, 0]
    assert store.problem == ""


def test_an_index_of_another_version_is_filled_again(store: TakeStore) -> None:
    fill(store)
    base = sqlite3.connect(store.index.path)
    base.execute("PRAGMA user_version = 99")
    base.execute("ALTER TABLE takes RENAME COLUMN prompt TO words_said")
    base.commit()
    base.close()
    store.close()
    assert found(store.index, "door") == [1]
    assert store.refresh() == Changes()


def test_words_are_caught_up_after_a_program_that_has_no_word_index(store: TakeStore) -> None:
    fill(store)
    saved = make(store, seed=60, prompt="zebra")
    with TakeIndex(store.index.path, full_text=False) as plain:
        plain.forget(saved.path)
        plain.add(save_take(store.folder, "x", WAVE, RECORD.model_copy(update={"prompt": "yak", "seed": 61})))
        plain.add(save_take(store.folder, "x", WAVE, RECORD.model_copy(update={"prompt": "yak", "seed": 62})))
    store.close()
    assert sorted(found(store.index, "yak")) == [61, 62]


def test_an_index_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "index.sqlite3", tmp_path / "folder"):
        with pytest.raises(ImpactError) as caught:
            TakeIndex(path)
        assert caught.value.code == "bad_argument"
        store = TakeStore(tmp_path, path)
        assert Path(make(store).path).is_file()
        assert store.problem


def test_what_is_not_there_is_not_indexed(store: TakeStore) -> None:
    for path in ("nowhere.wav", "bad\udcff.wav", "nul\0.wav"):
        with pytest.raises(ImpactError) as caught:
            store.index.add(RECORD.model_copy(update={"path": path}))
        assert caught.value.code == "bad_file"
    assert len(store.index) == 0
