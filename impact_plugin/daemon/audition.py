"""Hearing takes on this machine: `play 1` jobs while they sharpen, and `play`/`stop` by hand.

Knows which of a job's sounds is the newest, and a player that looks after the device. Listening never holds up a job:
files are read in a thread of its own, and what cannot be read is left out.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from impact_plugin.audio.files import read_sound
from impact_plugin.daemon.core import Core
from impact_plugin.daemon.events import DaemonEvent
from impact_plugin.errors import ImpactError

if TYPE_CHECKING:
    from impact_plugin.audio.playback import Player

logger = logging.getLogger(__name__)

Key = tuple[str, str, int]
#: Sounds that may wait to be read; more than that is nobody's listening.
_WAITING: Final = 64
#: Sounds that can be stopped by name, the newest.
_REMEMBERED: Final = 256


class Audition:
    """Plays the sounds of a core.

    Args:
        player: what plays; closed by :meth:`close`.
    """

    def __init__(self, core: Core, player: Player) -> None:
        self._core = core
        self._player = player
        self._orders: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._heard: dict[Key, None] = {}
        self._thread = threading.Thread(target=self._run, name="impact-audition", daemon=True)
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        self._thread.start()
        self._unsubscribe = self._core.subscribe(self._hear)
        self._core.add_status("audio", lambda: self._player.status().device)
        self._core.add_status("audio_problem", lambda: self._player.reason)

    def close(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._orders.put(None)
            self._thread.join(5.0)
        self._player.close()

    def play(self, job: Mapping[str, Any], variant: int | None) -> None:
        """Play a job's take, or its newest preview when it is not done yet.

        Args:
            job: as `Core.job` tells it; variant: None = the first there is.

        Raises:
            ImpactError: `unknown_id` when there is nothing to hear yet; `unsupported` without a device.
        """
        if problem := self._player.look():
            raise ImpactError("unsupported", f"nothing can be heard: {problem}")
        sounds = {row["variant"]: row["path"] for row in [*job["previews"], *job["results"]]}
        wanted = min(sounds, default=None) if variant is None else variant
        if wanted is None or wanted not in sounds:
            raise ImpactError("unknown_id", f"job {str(job['id'])[:60]} has nothing to be heard yet", "id")
        key = (str(job["client"]), str(job["id"]), int(wanted))
        self._order(lambda: self._play(key, sounds[wanted], anew=True))

    def stop(self, job: Mapping[str, Any] | None, variant: int | None) -> None:
        """Stop a job's sound, or with None all of them."""
        if job is None:
            self._heard.clear()
            self._player.stop()
            return
        for key in [key for key in self._heard if key[:2] == (str(job["client"]), str(job["id"]))]:
            if variant is None or key[2] == variant:
                self._heard.pop(key, None)
                self._player.stop(key)

    def _hear(self, event: DaemonEvent) -> None:
        """Of a `play 1` job the first variant is heard, over and over as it sharpens."""
        if event.name not in ("preview", "result") or event.job is None:
            return
        key = (event.client, str(event.job), int(event.values[0]))
        path = str(event.values[1 if event.name == "result" else 2])
        if key in self._heard:
            self._order(lambda: self._play(key, path, anew=False))
        elif key[2] == 0 and self._core.job(event.client, event.job).get("play"):
            self._order(lambda: self._play(key, path, anew=True))

    def _play(self, key: Key, path: str, *, anew: bool) -> None:
        sound = read_sound(Path(path))
        if anew:
            self._heard[key] = None
            while len(self._heard) > _REMEMBERED:
                self._heard.pop(next(iter(self._heard)))
            self._player.play(key, sound.audio, sound.rate)
        else:
            self._player.update(key, sound.audio, sound.rate)

    def _order(self, work: Callable[[], None]) -> None:
        try:
            self._orders.put_nowait(work)
        except queue.Full:
            logger.warning("too many sounds are to be played: one is left out")

    def _run(self) -> None:
        while (work := self._orders.get()) is not None:
            try:
                work()
            except ImpactError as error:
                logger.info("not played: %s", error.text)
            except Exception:
                logger.exception("playing failed")
