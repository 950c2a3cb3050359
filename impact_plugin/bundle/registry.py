"""Where bundles lie and what their names mean.

Knows three places, in order: folders in ``$IMPACT_BUNDLES``, the user's data folder, the bundles shipped inside the
package. A bundle's name is its folder's name. Does not open weights.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from impact_plugin.bundle.nearest import suggestion
from impact_plugin.bundle.schema import FILE_NAME, BundleInfo, read_info
from impact_plugin.errors import ImpactError

DEFAULT: Final = "starter"
VARIABLE: Final = "IMPACT_BUNDLES"

Source = Literal["environment", "user", "shipped"]


@dataclass(frozen=True, slots=True)
class BundleEntry:
    """A bundle that was found.

    Attributes:
        name: what ``--model`` takes.
        path: its folder.
        source: which of the three places it is in.
        info: what its `bundle.yaml` says; None if that is broken.
        problem: what is wrong with it; None if nothing.
    """

    name: str
    path: Path
    source: Source
    info: BundleInfo | None
    problem: ImpactError | None


def shipped_folder() -> Path:
    """The folder of the bundles inside the package."""
    import impact_plugin

    return Path(impact_plugin.__file__).resolve().parent / "bundles"


def user_folder() -> Path:
    """The folder for bundles that the user makes or imports; it need not exist."""
    from impact_plugin.paths import data_folder

    return data_folder() / "bundles"


def places() -> list[tuple[Source, Path]]:
    """Folders that hold bundles, those that win first. An entry of the variable may itself be a bundle's folder."""
    named = [Path(entry).expanduser() for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry.strip()]
    return [*(("environment", path) for path in named), ("user", user_folder()), ("shipped", shipped_folder())]


def bundle_paths() -> dict[str, tuple[Source, Path]]:
    """Name to place of every bundle; the first place that has a name wins. Unreadable places hold nothing."""
    found: dict[str, tuple[Source, Path]] = {}
    for source, place in places():
        if (place / FILE_NAME).is_file():
            found.setdefault(place.resolve().name, (source, place))
            continue
        try:
            folders = sorted(place.iterdir())
        except OSError:
            continue
        for folder in folders:
            if not folder.name.startswith(".") and (folder / FILE_NAME).is_file():
                found.setdefault(folder.name, (source, folder))
    return found


def list_bundles() -> list[BundleEntry]:
    """Every bundle, broken ones with their problem, sorted by name."""
    entries = []
    for name, (source, path) in sorted(bundle_paths().items()):
        try:
            entries.append(BundleEntry(name, path, source, read_info(path / FILE_NAME), None))
        except ImpactError as problem:
            entries.append(BundleEntry(name, path, source, None, problem))
    return entries


def resolve_bundle(name_or_path: str | Path | None = None) -> Path:
    """The folder of a bundle.

    Args:
        name_or_path: a name; a bundle's folder or its `bundle.yaml`; None: the starter bundle.

    Raises:
        ImpactError: ``model_missing`` with the nearest names.
    """
    wanted = DEFAULT if name_or_path is None else name_or_path
    named = bundle_paths() if isinstance(wanted, str) else {}
    if isinstance(wanted, str) and wanted in named:
        return named[wanted][1]
    text = str(wanted)
    looks_like_path = isinstance(wanted, Path) or "/" in text or "\\" in text
    try:
        path = Path(text).expanduser()
        if path.name == FILE_NAME and path.is_file():
            return path.parent
        if text.strip() and (path / FILE_NAME).is_file():
            return path
        looks_like_path = looks_like_path or path.is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL character, an unknown home
        looks_like_path = False
    if looks_like_path:
        raise ImpactError("model_missing", f"no {FILE_NAME} in {text[:400]}: not a model bundle", "model")
    known = list(named)
    hint = suggestion(text, known) if known else "none is installed"
    raise ImpactError("model_missing", f"no model bundle {text[:200]!r}; {hint} (see `impact models list`)", "model")
