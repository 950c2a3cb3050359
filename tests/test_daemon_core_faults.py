"""Many jobs at once, what may go wrong with them, and what is left of them for the next start."""

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
    finals = []

    def gate(latents: torch.Tensor, *, seeds: list[int], quality: str) -> None:
        if quality == "final":
            finals.append(seeds)
            if len(finals) == 2:
                raise RuntimeError("unlucky")

    with running_core(tiny, tmp_path) as core:
        told = Recorder(core)
        told.until("ready")
        monkeypatch.setattr(tiny, "codec", _Faulty(tiny.codec, "decode", gate))
        core.submit("a", "bad", {**QUICK, "variants": 3})
        assert told.until("end", "bad").values == ("failed",)
        core.submit("a", "good", QUICK)
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
