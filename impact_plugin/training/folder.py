"""`impact data folder`: a user's own sound library as a data set.

Knows which description of a sound wins (table, sidecar, metadata, name), how sounds are shared out to the splits, and
how to go on after an interruption. Reading of descriptions is in `captions`, cleaning of audio in `prepare`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from impact_plugin.audio.find import sound_files
from impact_plugin.errors import ImpactError
from impact_plugin.training.captions import (
    TABLE_NAMES,
    Described,
    Table,
    describe_name,
    kind_of,
    metadata_captions,
    read_table,
    sidecar_captions,
)
from impact_plugin.training.collect import CollectReport
from impact_plugin.training.prepare import RATE, Audio, prepare_sound
from impact_plugin.training.store import INDEX, Sound, SoundStore

Progress = Callable[[int, int, str], None]  # sounds done, sounds, name

SPLITS = ("train", "valid", "test")
TEST_SHARE, VALID_SHARE = 0.06, 0.03
LIMIT_SECONDS = 120.0
LICENSE = "own library"


@dataclass(frozen=True)
class _Item:
    path: Path
    id: str
    described: Described


def import_folder(
    source: Path,
    folder: Path,
    *,
    captions: Path | None = None,
    license: str = LICENSE,
    limit_seconds: float = LIMIT_SECONDS,
    workers: int = 2,
    progress: Progress | None = None,
) -> CollectReport:
    """Make or complete the data set `folder` from the sounds below `source`.

    Sounds that are already in the data set are not read again; rows of other sources stay in its index. A sound that
    cannot be used is one line in the report's problems.

    Args:
        captions: CSV table; by default `captions.csv` or `metadata.csv` in `source`, if there is one.
        license: noted for each sound whose table row names none.
        limit_seconds: only the beginning of a longer file is read.
        workers: sounds worked on at once.
        progress: called after each sound.

    Raises:
        ImpactError: `bad_file` when `source` holds no usable sound or the table cannot be read; `disk_full` or
            `bad_argument` when the data set cannot be written.
    """
    if not source.is_dir():
        raise ImpactError("bad_file", f"{source} is no folder", "dir")
    if folder.resolve() == source.resolve():
        raise ImpactError(
            "bad_argument", f"{folder} is the library itself: name another folder for the data set", "output"
        )
    table = _table(source, captions)
    store = SoundStore(folder)
    _make_writable(store)
    report = CollectReport()
    items = []
    for path in sound_files(source, skip=folder):
        item = _item(path, source, table)
        if item is None:
            report.problems.append(f"{path.relative_to(source).as_posix()}: no caption could be found")
        else:
            items.append(item)
    report.problems += _work(items, source, store, limit_seconds, workers, progress)
    ready = [item for item in items if store.has(item.id)]
    if not ready:
        first = report.problems[0] if report.problems else f"{source} holds no sound files"
        raise ImpactError("bad_file", f"no sound could be used: {first}", "dir")
    if table:
        report.problems += [f"{table.path.name}: no sound is named {name}" for name in table.unused()]
    splits = share_out({_family(item) for item in ready})
    prefix = _prefix(source)
    sounds = [_row(item, source, store, splits[_family(item)], license) for item in ready]
    others = [sound for sound in _index(store) if not sound.source.startswith(prefix)]
    store.write_index([*others, *sounds])
    report.sounds = len(sounds)
    report.seconds = sum(sound.seconds for sound in sounds)
    return report


def share_out(families: Iterable[str]) -> dict[str, str]:
    """A split for each family by the hash of its name, so that a family stays where it is while the library grows.

    About 6 % of the families go to `test` and 3 % to `valid`. From three families on no split is empty, for which a
    small library's families with the lowest hashes are taken; fewer than three are all for training.
    """
    order = sorted(families, key=_fraction)
    if len(order) < len(SPLITS):
        return dict.fromkeys(order, "train")
    fractions = [_fraction(family) for family in order]
    tests = sum(fraction < TEST_SHARE for fraction in fractions)
    valids = sum(fraction < TEST_SHARE + VALID_SHARE for fraction in fractions) - tests
    tests = min(max(tests, 1), len(order) - 2)
    valids = min(max(valids, 1), len(order) - tests - 1)
    sides = ["test"] * tests + ["valid"] * valids + ["train"] * (len(order) - tests - valids)
    return dict(zip(order, sides, strict=True))


def _fraction(family: str) -> float:
    return int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "big") / 2.0**64


def _table(source: Path, captions: Path | None) -> Table | None:
    if captions is not None:
        return read_table(captions)
    found = next((source / name for name in TABLE_NAMES if (source / name).is_file()), None)
    return read_table(found) if found else None


def _item(path: Path, source: Path, table: Table | None) -> _Item | None:
    """What is known of a sound, or None without a caption. The id follows from name, size and time of the file."""
    name = describe_name(path, source)
    row = table.find(path, source) if table else None
    described = row or Described()
    captions, ucs = described.captions or sidecar_captions(path), described.ucs
    if not captions:
        captions, metadata_ucs = metadata_captions(path)
        ucs = ucs or metadata_ucs
    captions, ucs = captions or name.captions, ucs or name.ucs
    if not captions:
        return None
    described = replace(
        described,
        captions=captions,
        ucs=ucs,
        kind=described.kind or (kind_of(ucs) if ucs else "other"),
        family=name.family or captions[0].lower(),
    )
    stat = path.stat()
    key = f"{path.relative_to(source).as_posix()}\n{stat.st_size}\n{stat.st_mtime_ns}"
    return _Item(path, "u" + hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:15], described)


def _work(
    items: list[_Item], source: Path, store: SoundStore, limit: float, workers: int, progress: Progress | None
) -> list[str]:
    """Prepare the sounds that are missing; returns one line for each that cannot be used.

    Only a few wait at a time, so that an interruption or a full disk ends the run at once.
    """
    problems: list[str] = []
    done = 0
    waiting: dict[Future[str | None], _Item] = {}

    def take_in(futures: Iterable[Future[str | None]]) -> None:
        nonlocal done
        for future in futures:
            name = waiting.pop(future).path.relative_to(source).as_posix()
            if problem := future.result():
                problems.append(f"{name}: {problem}")
            done += 1
            if progress:
                progress(done, len(items), name)

    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        try:
            for item in items:
                waiting[pool.submit(_prepare, item, store, limit)] = item
                if len(waiting) >= 2 * max(workers, 1):
                    take_in(wait(waiting, return_when=FIRST_COMPLETED).done)
            take_in(wait(waiting).done)
        finally:
            pool.shutdown(cancel_futures=True)
    return sorted(problems)


def _prepare(item: _Item, store: SoundStore, limit: float) -> str | None:
    """Bring one sound into the data set, unless it is there; returns what is wrong with it.

    Raises:
        ImpactError: when the data set cannot be written.
    """
    if store.has(item.id):
        return None
    try:
        audio, rate = _read(item.path, limit)
    except ImpactError as error:
        return str(error)
    prepared = prepare_sound(audio, rate)
    if prepared is None:
        return "the sound is silent or too short"
    try:
        store.write_audio(item.id, prepared, RATE)
    except (OSError, soundfile.LibsndfileError) as error:
        raise _write_error(error, store) from error
    return None


def _read(path: Path, limit: float) -> tuple[Audio, int]:
    """The first `limit` seconds of a file, (frames, channels) float32, and its rate in hz.

    Raises:
        ImpactError: `bad_file`.
    """
    try:
        with open(path, "rb") as handle, soundfile.SoundFile(handle) as sound:
            audio = sound.read(round(limit * sound.samplerate), dtype="float32", always_2d=True)
            rate = int(sound.samplerate)
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        raise ImpactError("bad_file", "not a readable sound") from error
    if audio.size == 0:
        raise ImpactError("bad_file", "the sound file is empty")
    if not np.isfinite(audio).all():
        raise ImpactError("bad_file", "the sound file holds samples that are not numbers")
    return audio, rate


def _row(item: _Item, source: Path, store: SoundStore, split: str, license: str) -> Sound:
    described = item.described
    path = store.audio_path(item.id)
    info = soundfile.info(str(path))
    return Sound(
        id=item.id,
        file=path.relative_to(store.folder).as_posix(),
        seconds=info.frames / info.samplerate,
        kind=described.kind,
        captions=described.captions,
        ucs=described.ucs,
        loop=described.loop,
        license=described.license or license,
        license_ok=True,
        split=described.split if described.split in SPLITS else split,
        source=_prefix(source) + item.path.relative_to(source).as_posix(),
    )


def _family(item: _Item) -> str:
    return item.described.family


def _prefix(source: Path) -> str:
    return f"folder:{source.resolve().as_posix()}:"


def _index(store: SoundStore) -> list[Sound]:
    return store.read_index() if (store.folder / INDEX).exists() else []


def _make_writable(store: SoundStore) -> None:
    from impact_plugin.audio.files import make_folder

    make_folder(store.audio_folder)


def _write_error(error: Exception, store: SoundStore) -> ImpactError:
    """What a failed write means: libsndfile tells no error number, so the free space decides."""
    from impact_plugin.audio.files import disk_error

    if isinstance(error, OSError):
        return disk_error(error, store.folder)
    import errno
    import shutil

    full = shutil.disk_usage(store.folder).free < 1 << 20
    return disk_error(
        OSError(errno.ENOSPC if full else errno.EIO, os.strerror(errno.ENOSPC if full else errno.EIO)), store.folder
    )
