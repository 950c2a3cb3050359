"""Hearing jobs: which sound is played when, with a player that writes down what it is given."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy.typing as npt
import pytest
from daemon_kit import QUICK, Recorder, running_core, wait_for

from impact_plugin.audio.playback import NullPlayer, Player, PlayerStatus
from impact_plugin.daemon.audition import Audition
from impact_plugin.daemon.core import Core
from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from impact_plugin.bundle.load import Bundle


class Notebook(Player):
    """A player without a device."""

    def __init__(self) -> None:
        self.did: list[tuple[str, Hashable, int]] = []

    def play(self, key: Hashable, audio: npt.NDArray, rate: int) -> None:  # type: ignore[type-arg]
        self.did.append(("play", key, len(audio)))

    def update(self, key: Hashable, audio: npt.NDArray, rate: int) -> None:  # type: ignore[type-arg]
        self.did.append(("update", key, len(audio)))

    def stop(self, key: Hashable | None = None) -> None:
        self.did.append(("stop", key, 0))

    def wait(self, timeout: float | None = None) -> bool:
        return True

    def look(self, timeout: float = 0.5) -> str:
        return ""

    def status(self) -> PlayerStatus:
        return PlayerStatus("notebook", 16000, "", 0, ())

    def close(self) -> None:
        self.did.append(("close", None, 0))


@pytest.fixture
def core(tiny: Bundle, tmp_path: Path) -> Iterator[Core]:
    with running_core(tiny, tmp_path) as made:
        yield made


def test_a_job_is_heard_while_it_sharpens(core: Core) -> None:
    player = Notebook()
    audition = Audition(core, player)
    audition.start()
    told = Recorder(core)
    core.submit("a", "quiet", QUICK)
    core.submit("a", "heard", {**QUICK, "iterations": 8, "previews_every": 2, "variants": 2, "play": 1})
    told.until("end", "heard")
    told.until("end", "quiet")
    key = ("a", "heard", 0)
    wait_for(lambda: len(player.did) == 4)
    assert player.did == [("play", key, 8000)] + [("update", key, 8000)] * 3  # 3 previews and the take
    assert core.status()["audio"] == "notebook"
    audition.close()
    assert player.did[-1] == ("close", None, 0)


def test_takes_are_played_and_stopped_by_hand(core: Core) -> None:
    player = Notebook()
    audition = Audition(core, player)
    audition.start()
    told = Recorder(core)
    core.submit("a", 5, {**QUICK, "variants": 3})
    told.until("end", 5)
    job = core.job("a", 5)
    audition.play(job, None)
    audition.play(job, 2)
    wait_for(lambda: len(player.did) == 2)
    assert player.did == [("play", ("a", "5", 0), 8000), ("play", ("a", "5", 2), 8000)]
    audition.stop(job, 2)
    audition.stop(job, None)
    audition.stop(None, None)
    assert [did[:2] for did in player.did[2:]] == [("stop", ("a", "5", 2)), ("stop", ("a", "5", 0)), ("stop", None)]
    with pytest.raises(ImpactError) as caught:
        audition.play(job, 3)
    assert caught.value.code == "unknown_id"
    Path(job["results"][1]["path"]).unlink()
    audition.play(job, 1)  # gone: left out
    audition.play(job, 0)
    wait_for(lambda: player.did[-1] == ("play", ("a", "5", 0), 8000))
    audition.close()


def test_without_a_device_it_says_so_and_jobs_go_on(core: Core) -> None:
    audition = Audition(core, NullPlayer("no device is there"))
    audition.start()
    told = Recorder(core)
    core.submit("a", "j", {**QUICK, "play": 1})
    assert told.until("end", "j").values == ("ok",)
    with pytest.raises(ImpactError) as caught:
        audition.play(core.job("a", "j"), None)
    assert caught.value.code == "unsupported"
    assert "no device is there" in caught.value.text
    assert core.status()["audio_problem"] == "no device is there"
    audition.close()
