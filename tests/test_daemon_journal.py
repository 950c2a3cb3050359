"""The queue on disk: what survives which end, whatever the file looks like."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from impact_plugin.daemon import journal as module
from impact_plugin.daemon.bus import Bus
from impact_plugin.daemon.journal import Journal, Paper
from impact_plugin.daemon.ledger import MAX_CRASHES, Ledger
from impact_plugin.errors import ImpactError


def paper(number: int, **keys: Any) -> Paper:
    return Paper(number, "c", f"job {number}", {"prompt": "rain", "seed": number}, "osc", 1.5, **keys)


def abandon(journal: Journal) -> None:
    """What a kill -9 leaves: an open file."""
    if journal._file is not None:
        journal._file.close()


def read(path: Path) -> Journal:
    """A journal as the next daemon finds it."""
    opened = Journal(path)
    abandon(opened)
    return opened


def numbers(path: Path) -> list[int]:
    return [one.number for one in read(path).restored]


def test_what_was_accepted_and_not_ended_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.jsonl"
    one = Journal(path)
    for number in (1, 2, 3):
        one.accept(paper(number))
    one.prompt(3, "storm", 0.5)
    one.start(1)
    one.result(1, 0, "/takes/a.wav")
    one.start(2)
    one.end(2, "ok")
    abandon(one)
    two = Journal(path)
    assert [(p.number, p.client, p.id, p.request, p.origin, p.at) for p in two.restored] == [
        (1, "c", "job 1", {"prompt": "rain", "seed": 1}, "osc", 1.5),
        (3, "c", "job 3", {"prompt": "rain", "seed": 3}, "osc", 1.5),
    ]
    first, third = two.restored
    assert (first.interrupted, first.crashes, first.results) == (True, 1, {0: "/takes/a.wav"})
    assert (third.interrupted, third.crashes, third.prompts) == (False, 0, [("storm", 0.5)])
    assert two.next_number == 4
    two.close()


def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "j"
    one = Journal(path)
    one.accept(paper(7))
    one.end(7, "ok")
    one.close()
    two = Journal(path)
    two.close()
    assert read(path).next_number == 8


def test_an_end_in_good_order_is_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "j"
    one = Journal(path)
    one.accept(paper(1))
    one.start(1)
    one.close()
    (restored,) = read(path).restored
    assert (restored.interrupted, restored.crashes) == (True, 0)


def test_crashes_are_counted_only_while_it_ran(tmp_path: Path) -> None:
    path = tmp_path / "j"
    found = []
    for ran in (True, False, True, False):
        opened = Journal(path)
        if not opened.restored:
            opened.accept(paper(1))
        if ran:
            opened.start(1)
        abandon(opened)
        again = Journal(path)
        found.append(again.restored[0].crashes)
        abandon(again)
    assert found == [1, 1, 2, 2]
    assert again.restored[0].interrupted


def test_a_job_that_was_running_at_two_crashes_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    for _ in range(MAX_CRASHES):
        opened = Journal(path)
        if not opened.restored:
            opened.accept(paper(1))
            opened.accept(paper(2))
        opened.start(1)
        abandon(opened)
    last = Journal(path)
    ledger = Ledger(last, Bus())
    assert [entry.number for entry in ledger.live()] == [2]
    ended = ledger.find("c", "job 1")
    assert ended.state == "failed"
    assert ended.error is not None
    assert "not run again" in ended.error[1]
    assert ledger.resume() == 1
    abandon(last)
    assert numbers(path) == [2]


def test_a_request_that_this_version_does_not_take_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "j"
    one = Journal(path)
    one.accept(Paper(1, "c", "new", {"prompt": "x", "wings": 2}))
    one.accept(paper(2))
    abandon(one)
    two = Journal(path)
    ledger = Ledger(two, Bus())
    assert ledger.find("c", "new").state == "failed"
    assert [entry.number for entry in ledger.live()] == [2]
    two.close()


def test_lines_that_cannot_be_read_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "j"
    good = json.dumps(paper(5).to_line()).encode()
    bad = [b"{", b"[]", b"null", b'{"do":"accept"}', b'{"do":"end","n":"x"}', b"\xff\xfe\x00", b"[" * 100_000, b"{}"]
    path.write_bytes(b"\n".join([*bad, good, b'{"do":"accept","n":6,"cli']))
    assert numbers(path) == [5]
    assert "left out" in caplog.text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_cut_anywhere_it_holds_what_was_written_before(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    one = Journal(path)
    live: set[int] = set()
    marks: list[tuple[int, set[int]]] = [(path.stat().st_size, set())]
    try:
        for number in range(1, data.draw(st.integers(1, 12))):
            one.accept(paper(number))
            live.add(number)
            marks.append((path.stat().st_size, set(live)))
            if data.draw(st.booleans()):
                victim = data.draw(st.sampled_from(sorted(live)))
                one.end(victim, "ok")
                live.discard(victim)
                marks.append((path.stat().st_size, set(live)))
    finally:
        abandon(one)
    whole = path.read_bytes()
    cut = data.draw(st.integers(marks[0][0], len(whole)))
    path.write_bytes(whole[:cut])
    before = [found for size, found in marks if size <= cut][-1]
    after = [found for size, found in marks if size - 1 <= cut][-1]  # the last line may lack its line feed only
    assert set(numbers(path)) in (before, after)
    assert set(numbers(path)) in (before, after)  # and reading it once more changes nothing


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.binary(max_size=400))
def test_any_bytes_can_be_opened_and_lose_no_whole_line(tmp_path: Path, head: bytes, tail: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(head + b"\n" + json.dumps(paper(5).to_line()).encode() + b"\n" + tail)
    assert 5 in numbers(path)


def test_it_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_AT", 100)
    path = tmp_path / "j"
    one = Journal(path)
    one.accept(paper(1))
    for number in range(2, 300):
        one.accept(paper(number))
        one.start(number)
        one.end(number, "ok")
    assert len(path.read_bytes().splitlines()) < 120
    abandon(one)
    assert numbers(path) == [1]
    assert read(path).next_number == 300


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limit to set")
def test_without_room_a_job_is_refused_and_nothing_is_broken(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "j"
    one = Journal(path)
    one.accept(paper(1))
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        with pytest.raises(ImpactError) as caught:
            one.accept(paper(2))
        one.end(1, "ok")  # owed until there is room
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "disk_full"
    assert path.stat().st_size == size
    one.accept(paper(3))
    abandon(one)
    assert numbers(path) == [3]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImpactError) as caught:
        Journal(tmp_path / "file" / "journal.jsonl")
    assert caught.value.code == "bad_argument"
