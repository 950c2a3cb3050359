"""The core with a real engine: jobs of several clients, their events, their ends, and what may go wrong on the way."""

from __future__ import annotations

import random
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import torch
from daemon_kit import ENDLESS, PATIENCE, QUICK, Recorder, running_core, wait_for

from impact_plugin.daemon.core import Core
from impact_plugin.daemon.events import DaemonEvent
from impact_plugin.engine.engine import Engine
from impact_plugin.errors import ImpactError
from impact_plugin.request import Request
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


# Many jobs


def test_a_live_job_does_not_wait_for_a_long_one(core: Core) -> None:
    told = Recorder(core)
    core.submit("a", "long", ENDLESS)
    told.until("progress", "long")
    began = time.monotonic()
    core.submit("a", "live", QUICK)
    told.until("end", "live")
    assert time.monotonic() - began < PATIENCE / 2
    assert [row["id"] for row in core.queue()] == ["long"]
    core.cancel("a", "long")
    told.until("end", "long")


def test_higher_priority_goes_first(core: Core) -> None:
    told = Recorder(core)
    core.submit("a", "first", {**ENDLESS, "priority": 1})
    told.until("progress", "first")
    core.submit("b", "later", {**QUICK, "priority": 0, "seconds": 4, "variants": 64})
    core.submit("c", "now", {**QUICK, "priority": 2})
    told.until("end", "now")
    assert [row["id"] for row in core.queue()] == ["first", "later"]


def test_cancel_all_stops_all_of_one_client_and_nothing_else(core: Core) -> None:
    told = Recorder(core)
    for number in range(4):
        core.submit("a", number, {**ENDLESS, "variants": 1})
    core.submit("b", "kept", {**QUICK, "iterations": 20, "seconds": 2})
    told.until("progress", 0)
    assert core.cancel("a", "all") == 4
    assert core.cancel("c", "all") == 0
    for number in range(4):
        assert told.until("end", number, "a").values == ("cancelled",)
        assert "result" not in told.names(number, "a")
    assert told.until("end", "kept").values == ("ok",)


def test_two_hundred_jobs_of_eight_clients_with_cancels(tiny: Bundle, core: Core) -> None:
    dice = random.Random(4)
    told = Recorder(core)
    jobs = [(f"client {number % 8}", f"job {number // 8}", number) for number in range(200)]
    victims = {number for number in range(200) if dice.random() < 0.25}
    requests = {
        number: {
            "prompt": dice.choice(["dog", "rain on tin", "a door slams", "bell"]),
            "seconds": dice.choice([0.1, 0.3, 0.6, 1.0]),
            "iterations": dice.choice([1, 2, 5]),
            "head_steps": 4,
            "seed": 1000 + number,
            "priority": dice.choice([0, 0, 1]),
        }
        for number in range(200)
    }

    wrong: list[str] = []

    def client(name: str) -> None:
        for owner, job, number in jobs:
            if owner == name:
                core.submit(owner, job, requests[number])
        for owner, job, number in jobs:
            if owner == name and number in victims:
                try:
                    core.cancel(owner, job)
                except ImpactError as error:
                    wrong.extend([error.code] if error.code != "unknown_id" else [])  # it had ended

    threads = [threading.Thread(target=client, args=(f"client {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.wait(lambda events: sum(event.name == "end" for event in events) >= 200)
    time.sleep(0.2)
    assert wrong == []
    sounds: dict[int, str] = {}
    for owner, job, number in jobs:
        events = told.of(job, owner)
        names = [event.name for event in events]
        assert (names[0], names[-1], names.count("end")) == ("queued", "end", 1), names
        if number not in victims:
            assert events[-1].values == ("ok",)
        if events[-1].values == ("ok",):
            (sounds[number],) = [event.as_json()["path"] for event in events if event.name == "result"]
    assert told.broken == []
    assert core.queue() == []
    engine = Engine(tiny, threads=1)
    for number in dice.sample(sorted(sounds), 12):
        crowd, _ = soundfile.read(sounds[number], dtype="float32")
        plan = engine.plan(Request.parse(requests[number]))
        (alone,) = [event.audio for event in engine.run(plan) if hasattr(event, "gain_db")]
        assert np.abs(crowd - alone).max() <= 1e-3 * max(np.abs(alone).max(), 1e-9)  # -60 dB


# What may go wrong


class _Faulty:
    """A part of a bundle, one of whose methods goes through `gate` first."""

    def __init__(self, part: Any, method: str, gate: Any) -> None:
        self._part, self._method, self._gate = part, method, gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name != self._method:
            return found

        def through(*arguments: Any, **keys: Any) -> Any:
            self._gate(*arguments, **keys)
            return found(*arguments, **keys)

        return through


def memory_for(rows: int) -> Any:
    """A device whose memory holds a batch of so many sounds."""

    def gate(latents: torch.Tensor, *others: Any) -> None:
        if latents.shape[0] > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return gate


def test_without_memory_the_batch_is_halved(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_core(tiny, tmp_path) as core:
        told = Recorder(core)
        told.until("ready")
        with monkeypatch.context() as patch:
            patch.setattr(tiny, "model", _Faulty(tiny.model, "encode", memory_for(2)))
            core.submit("a", "four", {**QUICK, "variants": 4, "seed": 1})
            assert told.until("end", "four").values == ("ok",)
    assert "fail" not in told.names("four")
    engine = Engine(tiny, threads=1)
    plan = engine.plan(Request.parse({**QUICK, "variants": 4, "seed": 1}))
    alone = [event.audio for event in engine.run(plan) if hasattr(event, "gain_db")]
    paths = [event.as_json()["path"] for event in told.of("four") if event.name == "result"]
    for path, audio in zip(paths, alone, strict=True):
        assert np.abs(soundfile.read(path, dtype="float32")[0] - audio).max() < 1e-3 * np.abs(audio).max()


def test_what_does_not_fit_at_all_fails_and_the_daemon_lives(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_core(tiny, tmp_path) as core:
        told = Recorder(core)
        told.until("ready")
        with monkeypatch.context() as patch:
            patch.setattr(tiny, "model", _Faulty(tiny.model, "encode", memory_for(0)))
            core.submit("a", "none", QUICK)
            assert told.until("end", "none").values == ("failed",)
        assert told.until("fail", "none").values[0] == "out_of_memory"
        assert core.job("a", "none")["error"]["code"] == "out_of_memory"
        core.submit("a", "next", QUICK)
        assert told.until("end", "next").values == ("ok",)
        assert core.status()["state"] == "ready"


def test_a_broken_job_takes_no_other_with_it(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gate(latents: torch.Tensor, *others: Any) -> None:
        if latents.shape[1] == 16:  # the longest sound of the batch is the broken one
            raise RuntimeError("a bug")

    with running_core(tiny, tmp_path) as core:
        told = Recorder(core)
        told.until("ready")
        with monkeypatch.context() as patch:
            patch.setattr(tiny, "model", _Faulty(tiny.model, "encode", gate))
            for name, seconds in (("good", 0.5), ("bad", 1.0), ("fine", 0.5)):
                core.submit(name, name, {**QUICK, "seconds": seconds, "iterations": 20})
            ends = {name: told.until("end", name).values[0] for name in ("good", "bad", "fine")}
        assert ends == {"good": "ok", "bad": "failed", "fine": "ok"}
        assert told.until("fail", "bad").values[0] == "internal"


def test_a_take_that_cannot_be_made_fails_its_job_alone(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gate(latents: torch.Tensor, *, seeds: list[int], quality: str) -> None:
        if seeds == [13] and quality == "final":
            raise RuntimeError("unlucky")

    with running_core(tiny, tmp_path) as core:
        told = Recorder(core)
        told.until("ready")
        monkeypatch.setattr(tiny, "codec", _Faulty(tiny.codec, "decode", gate))
        core.submit("a", "bad", {**QUICK, "seed": 12, "variants": 3})
        core.submit("a", "good", {**QUICK, "seed": 1})
        assert told.until("end", "bad").values == ("failed",)
        assert told.until("end", "good").values == ("ok",)
        assert told.names("bad").count("result") == 1
        assert told.names("bad").count("fail") == 1
        assert told.names("bad")[-1] == "end"


def test_previews_that_fail_harm_nothing(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_core(tiny, tmp_path) as core:
        told = Recorder(core)
        told.until("ready")
        (tmp_path / "previews").write_text("a file where the folder should be")
        core.submit("a", "j", {**QUICK, "iterations": 6, "previews_every": 1})
        assert told.until("end", "j").values == ("ok",)
        assert "preview" not in told.names("j")
        assert "fail" not in told.names("j")


def test_previews_keep_to_their_share(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(latents: torch.Tensor, *, seeds: list[int], quality: str) -> None:
        if quality == "preview":
            time.sleep(0.2)

    with running_core(tiny, tmp_path, share=0.25) as core:
        told = Recorder(core)
        told.until("ready")
        monkeypatch.setattr(tiny, "codec", _Faulty(tiny.codec, "decode", slow))
        core.submit("a", "j", {"prompt": "x", "seconds": 4, "iterations": 30, "previews_every": 1, "head_steps": 100})
        began = time.monotonic()
        told.until("end", "j")
        spent = 0.2 * told.names("j").count("preview")
        assert spent <= 0.25 * (time.monotonic() - began) + 0.2
        assert told.names("j").count("preview") < 15


def test_a_deleted_takes_folder_is_made_again(core: Core) -> None:
    told = Recorder(core)
    shutil.rmtree(core.takes.folder)
    core.submit("a", "j", QUICK)
    assert told.until("end", "j").values == ("ok",)
    assert told.broken == []


def test_takes_that_find_no_place_are_kept_and_written_later(core: Core) -> None:
    told = Recorder(core)
    shutil.rmtree(core.takes.folder)
    core.takes.folder.write_text("in the way")
    core.submit("a", "j", {**QUICK, "variants": 2, "seed": 4})
    assert told.until("end", "j").values == ("failed",)
    assert told.names("j").count("fail") == 1
    assert told.until("fail", "j").values[0] == "bad_file"
    assert core.status()["unsaved"] == 2
    core.takes.folder.unlink()
    core.resume()
    wait_for(lambda: core.status()["unsaved"] == 0)
    assert sorted(record.seed for record in core.takes.index.find()) == [4, 5]
    assert [row["variant"] for row in core.job("a", "j")["results"]] == [0, 1]
    assert told.names("j")[-1] == "end"  # nothing comes after it


def test_a_model_that_cannot_be_opened_is_told(tiny: Bundle, tmp_path: Path) -> None:
    def load() -> Engine:
        raise ImpactError("bad_file", "the weights are broken")

    with running_core(tiny, tmp_path, engine=load) as core:
        wait_for(lambda: core.error)
        assert core.error is not None
        assert core.error.code == "bad_file"
        assert core.status()["state"] == "broken"


# The end, and the next start


def test_stopping_lets_what_runs_come_to_its_end(tiny: Bundle, tmp_path: Path) -> None:
    with running_core(tiny, tmp_path) as core:
        told = Recorder(core)
        core.submit("a", "runs", {**QUICK, "iterations": 20, "seconds": 2})
        told.until("start", "runs")
        assert core.stop(PATIENCE)
        assert told.of("runs")[-1].values == ("ok",)
        assert refused(core, "a", "late", QUICK) == "busy"


def test_what_was_not_finished_waits_for_the_next_start(tiny: Bundle, tmp_path: Path) -> None:
    with running_core(tiny, tmp_path) as core:
        told = Recorder(core)
        core.submit("a", "runs", {**ENDLESS, "seed": 3})
        told.until("progress", "runs")
        for number in range(3):
            core.submit("a", number, {**QUICK, "priority": -1, "seed": number})
        core.set_prompt("a", 1, "thunder")
        assert not core.stop(0.05)
        assert "end" not in told.names("runs")
        assert told.until("fail", "runs").values[0] == "busy"
    with running_core(tiny, tmp_path) as core:
        told = Recorder(core)
        told.until("ready")
        status = core.status()
        assert (status["state"], status["paused"], status["interrupted"], status["running"]) == ("paused", 4, 1, 0)
        states = {row["id"]: row["state"] for row in core.queue()}
        assert states["runs"] == "interrupted"
        assert set(states.values()) == {"interrupted", "paused"}
        assert refused(core, "a", 1, QUICK) == "duplicate_id"
        core.submit("a", "new", QUICK)  # new work is not held up by old
        told.until("end", "new")
        assert core.cancel("a", "runs") == 1
        assert told.until("end", "runs").values == ("cancelled",)
        assert core.resume() == 3
        assert core.resume() == 0
        for number in range(3):
            result = told.until("result", number).as_json()
            assert (result["seed"], told.until("end", number).values) == (number, ("ok",))
        record = read_record(Path(told.until("result", 1).as_json()["path"]))
        assert [change.prompt for change in record.changes] == ["thunder"]
    with running_core(tiny, tmp_path, started=False) as core:
        assert core.queue() == []


def test_takes_that_were_finished_before_a_crash_are_not_made_twice(tiny: Bundle, tmp_path: Path) -> None:
    with running_core(tiny, tmp_path) as core:
        told = Recorder(core)
        core.submit("a", "j", {**QUICK, "variants": 3, "seed": 7})
        told.until("end", "j")
        paths = [event.as_json()["path"] for event in told.of("j") if event.name == "result"]
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    cut = [line for line in lines if '"do":"end"' not in line and '"do":"stop"' not in line]
    cut = [line for line in cut if '"variant":2' not in line]
    (tmp_path / "journal.jsonl").write_text("\n".join(cut) + "\n")
    with running_core(tiny, tmp_path) as core:
        told = Recorder(core)
        core.resume()
        assert told.until("end", "j").values == ("ok",)
        again = [event.as_json() for event in told.of("j") if event.name == "result"]
        assert [row["variant"] for row in again] == [0, 1, 2]
        assert [row["path"] for row in again[:2]] == paths[:2]
        assert again[2]["path"] != paths[2]
        assert again[2]["path"].endswith("_2.wav")
        assert len(list(core.takes.folder.glob("*.wav"))) == 4
