"""`impact data collect`: every sound that a manifest names, fetched, checked by hash, prepared and cached.

Knows the order of work and how to go on after an interruption. Offline when the cache is full: packages are only
fetched for sounds that are still missing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from impact_plugin.errors import ImpactError
from impact_plugin.training.prepare import RATE, prepare_sound, read_sound
from impact_plugin.training.sources import (
    SoundRow,
    content_hash,
    fetch_package,
    package_files,
    read_manifest,
)
from impact_plugin.training.store import Sound, SoundStore

#: 6,900 freely licensed sounds with captions, by package, path and hash; its columns are in `docs/training.md`.
FREE_SOUNDS = Path(__file__).parent / "manifests" / "free_sounds.csv"

Progress = Callable[[int, int, str], None]  # packages done, packages, name of the package


@dataclass
class CollectReport:
    """What a collection brought. `problems` holds one line for each sound that could not be had."""

    sounds: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def collect(
    manifest: Path,
    folder: Path,
    *,
    packages: Path | None = None,
    keep_packages: bool = True,
    workers: int = 2,
    progress: Progress | None = None,
) -> CollectReport:
    """Fill the data set `folder` with the manifest's sounds.

    Args:
        manifest: CSV, see `docs/training.md`.
        folder: data set to make or to complete.
        packages: where `.deb` files are kept (default: `folder/packages`).
        keep_packages: False deletes each package once its sounds are taken out.
        workers: packages worked on at once.
        progress: called after each package.

    Raises:
        ImpactError: when the manifest cannot be read or not a single sound could be had.
    """
    rows = read_manifest(manifest)
    store = SoundStore(folder)
    packages = packages or folder / "packages"
    missing: dict[tuple[str, str], list[SoundRow]] = {}
    for row in rows:
        if not store.has(row.id):
            missing.setdefault((row.package, row.version), []).append(row)
    report = CollectReport()
    with ProcessPoolExecutor(max_workers=max(workers, 1)) as pool:
        jobs = [
            (package, pool.submit(_collect_package, package, version, group, folder, packages, keep_packages))
            for (package, version), group in sorted(missing.items(), key=lambda item: -len(item[1]))
        ]
        for done, (package, job) in enumerate(jobs, start=1):
            report.problems += job.result()
            if progress:
                progress(done, len(jobs), package)
    sounds = [_indexed(row, store) for row in rows if store.has(row.id)]
    if not sounds:
        first = report.problems[0] if report.problems else "the manifest names none"
        raise ImpactError("bad_file", f"no sound could be collected: {first}")
    store.write_index(sounds)
    report.sounds = len(sounds)
    report.seconds = sum(sound.seconds for sound in sounds)
    return report


def _collect_package(
    package: str, version: str, rows: list[SoundRow], folder: Path, packages: Path, keep: bool
) -> list[str]:
    """Take one package's sounds out; returns one line for each that could not be had."""
    store = SoundStore(folder)
    try:
        deb = fetch_package(package, version, packages)
        wanted: dict[str, list[SoundRow]] = {}
        for row in rows:
            wanted.setdefault(row.path, []).append(row)
        problems = []
        for path, data in package_files(deb, set(wanted)):
            for row in wanted.pop(path, []):
                problem = _collect_sound(row, data, store)
                if problem:
                    problems.append(f"{row.id} {package}: {problem}")
        problems += [
            f"{row.id} {package}: {row.path} is not in the package" for group in wanted.values() for row in group
        ]
    except ImpactError as error:
        return [f"{row.id} {package}: {error}" for row in rows]
    if not keep:
        deb.unlink()
    return problems


def _collect_sound(row: SoundRow, data: bytes, store: SoundStore) -> str | None:
    if content_hash(data) != row.sha256:
        return f"{row.path} has another content than the manifest says"
    try:
        audio, rate = read_sound(data)
    except ImpactError as error:
        return f"{row.path}: {error}"
    prepared = prepare_sound(audio, rate)
    if prepared is None:
        return f"{row.path} is silent"
    store.write_audio(row.id, prepared, RATE)
    return None


def _indexed(row: SoundRow, store: SoundStore) -> Sound:
    path = store.audio_path(row.id)
    info = soundfile.info(str(path))
    return Sound(
        id=row.id,
        file=path.relative_to(store.folder).as_posix(),
        seconds=info.frames / info.samplerate,
        kind=row.kind,
        captions=row.captions,
        ucs=row.ucs,
        loop=row.loop,
        license=row.license,
        license_ok=row.license_ok,
        split=row.split,
        source=f"{row.package}:{row.path}",
    )
