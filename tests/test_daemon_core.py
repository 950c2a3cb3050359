"""The core with a real engine: jobs of several clients, their events, their ends, and what may go wrong on the way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from daemon_kit import ENDLESS, QUICK, Recorder, running_core

from impact_plugin.daemon.core import Core
from impact_plugin.daemon.events import DaemonEvent
from impact_plugin.errors import ImpactError
from impact_plugin.takes.file import read_record

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle


@pytest.fixture
def core(tiny: Bundle, tmp_path: Path) -> Any:
    with running_core(tiny, tmp_path) as made:
        yield made


def refused(core: Core, *arguments: Any, **keys: Any) -> str:
    with pytest.raises(ImpactError) as caught:
        core.submit(*arguments, **keys)
    return caught.value.code


# A job


def test_a_job_from_queued_to_end(core: Core) -> None:
    told = Recorder(core)
    core.submit(
        "a", "j", {"prompt": "glass breaks", "seconds": "1.5", "variants": 4, "iterations": 8, "preview": 1, "seed": 9}
    )
    told.until("end", "j")
    events = told.of("j")
    names = [event.name for event in events]
    assert names[:2] == ["queued", "start"]
    assert names[-1] == "end"
    assert names.count("start") == names.count("end") == names.count("queued") == 1
    assert names.count("progress") == 8
    assert names.count("result") == 4
    assert names.count("preview") >= 4
    assert names.index("preview") < len(names) / 2
    assert events[0].values == (0,)
    assert events[1].values == (9, 4, 1.5)
    assert events[-1].values == ("ok",)
    assert [event.values[:3] for event in events if event.name == "progress"] == [(n, 8, n / 8) for n in range(1, 9)]
    results = [event.as_json() for event in events if event.name == "result"]
    assert [(row["variant"], row["seed"], row["seconds"], row["rate"]) for row in results] == [
        (variant, 9 + variant, 1.5, 16000) for variant in range(4)
    ]
    assert told.broken == []  # every file was whole when it was announced
    assert all(told.files[row["path"]] == (24000, 16000) for row in results)
    previews = [event.as_json() for event in events if event.name == "preview"]
    assert {row["variant"] for row in previews} == {0, 1, 2, 3}
    assert all(told.files[row["path"]] == (24000, 16000) and 0 < row["iteration"] < 8 for row in previews)
    record = read_record(Path(results[2]["path"]))
    assert (record.prompt, record.seed, record.id, record.variant) == ("glass breaks", 11, "j", 2)
    assert record.first_preview_s is not None
    assert 0 < record.first_preview_s < record.elapsed_s
    assert {row.take for row in core.takes.index.find("glass")} == {
        read_record(Path(row["path"])).take for row in results
    }


def test_what_a_job_is_can_be_asked_for(core: Core) -> None:
    told = Recorder(core)
    core.submit("a", 7, {**QUICK, "preview": 1}, origin="osc")
    told.until("end", 7)
    for client in ("a", None):
        for name in (7, 7.0, "7"):
            row = core.job(client, name)
            assert (row["id"], row["client"], row["state"], row["origin"], row["error"]) == (7, "a", "ok", "osc", None)
            assert [result["variant"] for result in row["results"]] == [0]
    assert core.queue() == []
    for client, name in (("b", 7), (None, 8), ("a", ""), ("a", "\n")):
        with pytest.raises(ImpactError) as caught:
            core.job(client, name)
        assert caught.value.code == "unknown_id"


def test_the_same_seed_gives_the_same_sound_again(core: Core) -> None:
    told = Recorder(core)
    for name in ("one", "two"):
        core.submit("a", name, {**QUICK, "seed": 3})
        told.until("end", name)
    paths = [event.as_json()["path"] for event in told.events if event.name == "result"]
    assert len(set(paths)) == 2  # nothing is overwritten
    one, two = (soundfile.read(path)[0] for path in paths)
    assert np.array_equal(one, two)


def test_changed_words_are_followed_and_written_into_the_take(core: Core) -> None:
    told = Recorder(core)
    core.submit("a", "j", {"prompt": "dog", "seconds": 4, "iterations": 32, "seed": 1})
    told.wait(lambda events: any(event.name == "progress" and event.values[0] >= 10 for event in events))
    core.set_prompt("a", "j", "thunder", 0.5)
    told.until("end", "j")
    record = read_record(Path(told.until("result", "j").as_json()["path"]))
    ((change),) = record.changes
    assert (change.prompt, change.weight) == ("thunder", 0.5)
    assert 10 <= change.iteration < 32
    for prompt, weight, code in (("x", 1.0, "unknown_id"),):
        with pytest.raises(ImpactError) as caught:
            core.set_prompt("a", "j", prompt, weight)
        assert caught.value.code == code


def test_words_can_be_changed_before_a_job_starts(tiny: Bundle, tmp_path: Path) -> None:
    with running_core(tiny, tmp_path, started=False) as core:
        told = Recorder(core)
        core.submit("a", "j", QUICK)
        core.set_prompt("a", "j", "thunder")
        with pytest.raises(ImpactError) as caught:
            core.set_prompt("a", "j", "thunder", 1.5)
        assert caught.value.field == "weight"
        core.start()
        told.until("end", "j")
        (change,) = read_record(Path(told.until("result").as_json()["path"])).changes
        assert (change.prompt, change.iteration) == ("thunder", 0)


# Ids and clients


def test_ids_belong_to_their_client(core: Core) -> None:
    told = Recorder(core)
    core.submit("a", "j", ENDLESS)
    core.submit("b", "j", QUICK)
    assert refused(core, "a", "j", QUICK) == "duplicate_id"
    told.until("end", "j", "b")
    assert core.submit("b", "j", QUICK) == "j"  # it is over: the name is free again
    assert core.cancel("a", "j") == 1
    told.until("end", "j", "a")
    assert told.of("j", "a")[-1].values == ("cancelled",)
    told.wait(lambda events: sum(event.name == "end" and event.client == "b" for event in events) == 2)
    assert [event.values for event in told.of("j", "b") if event.name == "end"] == [("ok",), ("ok",)]


def test_numbers_in_any_form_are_the_same_job(core: Core) -> None:
    core.submit("a", 5.0, ENDLESS)
    assert refused(core, "a", "5", QUICK) == refused(core, "a", 5, QUICK) == "duplicate_id"
    assert core.queue()[0]["id"] == 5
    assert core.cancel("a", "5") == 1


def test_the_daemon_makes_an_id_when_there_is_none(core: Core) -> None:
    names = {core.submit("a", "", QUICK) for _ in range(3)}
    assert len(names) == 3
    assert "" not in names


def test_listeners_hear_what_concerns_them(core: Core) -> None:
    everybody, mine = Recorder(core), Recorder(core, client="a")
    for client in ("a", "b"):
        core.submit(client, "j", QUICK)
        everybody.until("end", "j", client)
    assert {event.client for event in mine.events} == {"a", ""}
    assert mine.names("j") == everybody.names("j", "a")
    mine.close()
    before = len(mine.events)
    core.submit("a", "k", QUICK)
    everybody.until("end", "k")
    assert len(mine.events) == before
    late: list[DaemonEvent] = []
    core.subscribe(late.append)
    assert [event.name for event in late] == ["ready"]
    assert late[0].as_json()["rate"] == 16000


def test_a_listener_that_fails_harms_nobody(core: Core) -> None:
    def broken(event: DaemonEvent) -> None:
        raise ValueError("no")

    core.subscribe(broken)
    told = Recorder(core)
    core.submit("a", "j", QUICK)
    assert told.until("end", "j").values == ("ok",)


def test_a_listener_may_call_the_core(core: Core) -> None:
    def chain(event: DaemonEvent) -> None:
        if event.name == "end" and event.job == "one":
            core.submit("a", "two", QUICK)

    core.subscribe(chain)
    told = Recorder(core)
    core.submit("a", "one", QUICK)
    told.until("end", "two")


# What is refused


@pytest.mark.parametrize(
    ("keys", "code", "field"),
    [
        ({"prompt": ""}, "bad_argument", "prompt"),
        ({"prompt": "x", "seconds": 99}, "bad_argument", "seconds"),
        ({"prompt": "x", "second": 1}, "unknown_key", "second"),
        ({"prompt": "x", "variants": 65}, "bad_argument", "variants"),
        ({"preset": "nothing"}, "unknown_preset", "preset"),
        ({"prompt": "x", "verb": "vary", "source": "y"}, "unsupported", "verb"),
    ],
)
def test_what_cannot_be_made_is_refused_at_once(core: Core, keys: dict[str, Any], code: str, field: str) -> None:
    told = Recorder(core)
    with pytest.raises(ImpactError) as caught:
        core.submit("a", "j", keys)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert told.of("j") == []
    assert core.queue() == []


def test_the_queue_is_bounded_for_each_client_and_for_all(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from impact_plugin.daemon import ledger

    monkeypatch.setattr(ledger, "MAX_JOBS", 5)
    monkeypatch.setattr(ledger, "MAX_JOBS_A_CLIENT", 3)
    with running_core(tiny, tmp_path, started=False) as core:
        told = Recorder(core)
        for number in range(3):
            core.submit("a", number, QUICK)
        assert refused(core, "a", "more", QUICK) == "queue_full"
        for number in range(2):
            core.submit("b", number, QUICK)
        assert refused(core, "c", "one", QUICK) == "queue_full"
        assert core.cancel("a", "all") == 3
        core.submit("c", "one", QUICK)
        core.start()
        told.until("end", "one")


def test_a_disk_without_room_is_seen_before_the_work(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(core.takes.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_500_000))
    assert refused(core, "a", "large", {**QUICK, "seconds": 4, "variants": 64}) == "disk_full"
    core.submit("a", "small", QUICK)


# Defaults and presets


def test_keys_win_over_presets_and_presets_over_defaults(tiny: Bundle, tmp_path: Path) -> None:
    presets = {"knock": {"prompt": "a {what} knock", "slots": {"what": ["dull"]}, "seconds": 0.7, "variants": 2}}
    with running_core(tiny, tmp_path, started=False, presets=presets) as core:
        core.set_default("a", "variants", 3)
        core.set_default("a", "duration", "1.5")
        core.set_default("a", "iterations", 2)
        core.submit("a", "plain", {"prompt": "x"})
        core.submit("a", "preset", {"preset": "knock"})
        core.submit("a", "own", {"preset": "knock", "seconds": 0.9, "iterations": "auto"})
        core.submit("b", "other", {"prompt": "x"})
        rows = {row["id"]: row for row in core.queue()}
        assert (rows["plain"]["variants"], rows["plain"]["seconds"]) == (3, 1.5)
        assert (rows["preset"]["variants"], rows["preset"]["seconds"], rows["preset"]["prompt"]) == (
            2,
            0.7,
            "a dull knock",
        )
        assert (rows["own"]["variants"], rows["own"]["seconds"]) == (2, 0.9)
        assert (rows["other"]["variants"], rows["other"]["seconds"]) == (1, None)
        assert all(isinstance(row["seed"], int) for row in rows.values())
        assert core.get_default("a", "iterations") == 2
        assert core.get_default("b", "variants") == 1
        core.set_default("a", "variants", "default")
        core.set_default("a", "bars", 2)  # rules seconds out where neither is given
        assert core.get_default("a", "variants") == 1
        core.submit("a", "seconds", {"prompt": "x", "seconds": 1})
        for key, value, code in (
            ("variant", 1, "unknown_key"),
            ("variants", 0, "bad_argument"),
            ("seed", 1, "bad_argument"),
        ):
            with pytest.raises(ImpactError) as caught:
                core.set_default("a", key, value)
            assert caught.value.code == code


def test_a_preset_can_be_a_default(tiny: Bundle, tmp_path: Path) -> None:
    with running_core(tiny, tmp_path, started=False, presets={"knock": {"prompt": "a knock", "seconds": 0.7}}) as core:
        core.set_default("a", "preset", "knock")
        core.submit("a", "j", {"prompt": "two knocks"})
        assert (core.queue()[0]["prompt"], core.queue()[0]["seconds"]) == ("two knocks", 0.7)
