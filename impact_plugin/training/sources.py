"""Sounds out of Debian packages: fetch a package, open it, hand out the bytes of the files a manifest names.

Knows packages, archives inside packages and content hashes. Does not know audio: see `prepare`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from impact_plugin.errors import ImpactError

INNER = "!/"  # `outer!/inner`: a member of a zip archive inside the package


@dataclass(frozen=True)
class SoundRow:
    """One row of a sound manifest; the columns are described in `docs/training.md`."""

    id: str
    package: str
    version: str
    path: str
    sha256: str
    kind: str
    captions: tuple[str, ...]
    ucs: str
    loop: bool
    license: str
    license_ok: bool
    split: str


def read_manifest(path: Path) -> list[SoundRow]:
    """Read a manifest CSV.

    Raises:
        ImpactError: `bad_file` when the file is missing or lacks a column.
    """
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            return [_row(fields) for fields in csv.DictReader(handle)]
    except OSError as error:
        raise ImpactError("bad_file", f"cannot read the manifest {path}: {error.strerror or error}") from error
    except KeyError as error:
        raise ImpactError("bad_file", f"{path}: the manifest has no column {error}") from error


def _row(fields: dict[str, str]) -> SoundRow:
    captions = tuple(c for c in (fields["caption"], fields["caption2"], fields["caption3"]) if c)
    return SoundRow(
        id=fields["id"],
        package=fields["package"],
        version=fields["version"],
        path=fields["path"],
        sha256=fields["sha256"],
        kind=fields["kind"],
        captions=captions,
        ucs=fields["ucs"],
        loop=fields["loop"] == "1",
        license=fields["license"],
        license_ok=fields["license_ok"] == "1",
        split=fields["split"],
    )


def fetch_package(package: str, version: str, folder: Path) -> Path:
    """The package's `.deb` in `folder`, downloaded with `apt-get download` if it is not there yet.

    The exact version is tried first, then whatever the archive has now: the content hash of each file decides.

    Raises:
        ImpactError: `unsupported` without apt, `bad_file` when the download fails.
    """
    found = sorted(folder.glob(f"{package}_*.deb"))
    if found:
        return found[-1]
    if which("apt-get") is None:
        raise ImpactError(
            "unsupported",
            f"{package}: apt-get is not here; collect on Debian, or put {package}_*.deb into {folder}",
        )
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".partial" / package
    partial.mkdir(parents=True, exist_ok=True)
    last = ""
    for name in (f"{package}={version}", package):
        done = subprocess.run(
            ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name],
            cwd=partial,
            capture_output=True,
            text=True,
            check=False,
        )
        fetched = sorted(partial.glob("*.deb"))
        if done.returncode == 0 and fetched:
            target = folder / fetched[-1].name
            os.replace(fetched[-1], target)
            partial.rmdir()
            return target
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
    raise ImpactError("bad_file", f"{package}: download failed ({last}); run `apt-get update` and try again")


def package_files(deb: Path, paths: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield `(path, bytes)` for every wanted path that the package holds, `outer!/inner` included.

    The package is streamed once, nothing is unpacked to disk.

    Raises:
        ImpactError: `unsupported` without dpkg-deb, `bad_file` when the package cannot be read.
    """
    if which("dpkg-deb") is None:
        raise ImpactError("unsupported", "dpkg-deb is not here: collecting the sounds needs Debian's dpkg")
    inner: dict[str, list[str]] = {}
    for path in paths:
        outer, mark, member = path.partition(INNER)
        if mark:
            inner.setdefault(outer, []).append(member)
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as process:
        if process.stdout is None:  # pragma: no cover - Popen gives a pipe when asked for one
            raise ImpactError("internal", "dpkg-deb gave no output")
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for entry in archive:
                    name = entry.name.removeprefix("./")
                    if not entry.isfile() or (name not in paths and name not in inner):
                        continue
                    stream = archive.extractfile(entry)
                    data = stream.read() if stream else b""
                    if name in paths:
                        yield name, data
                    if name in inner:
                        yield from _zip_members(name, data, inner[name])
        except (tarfile.TarError, zipfile.BadZipFile) as error:
            raise ImpactError("bad_file", f"{deb.name}: cannot be read ({error}); delete it and try again") from error


def _zip_members(outer: str, data: bytes, members: list[str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        present = set(archive.namelist())
        for member in members:
            if member in present:
                yield f"{outer}{INNER}{member}", archive.read(member)


def content_hash(data: bytes) -> str:
    """First 16 hex digits of the SHA-256, as the manifest writes it."""
    return hashlib.sha256(data).hexdigest()[:16]
