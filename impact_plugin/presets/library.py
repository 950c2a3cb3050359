"""All presets that there are: those that come with the program, and the user's own, which win.

Knows folders, whose preset wins, and what to do with a broken edit: the file's last good version stays. Reads again
only what has changed. Safe to read from any thread while another reloads. Does not watch anything: see `watch`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from impact_plugin.errors import ImpactError
from impact_plugin.paths import builtin_presets_folder, presets_folder
from impact_plugin.presets.load import bank_files, read_bank
from impact_plugin.presets.schema import Preset

_Signature = tuple[int, int, int]


@dataclass(frozen=True)
class Change:
    """What became of one file. error: its first mistake, None = it is right; presets: how many it gives now."""

    file: Path
    presets: int
    error: ImpactError | None = None
    removed: bool = False

    @property
    def text(self) -> str:
        """One line for people."""
        if self.error is not None:
            kept = f"its last good version stays ({self.presets} presets)" if self.presets else "none of it is used"
            return f"{self.error.text}; {kept}"
        if self.removed:
            return f"{self.file} is gone, and its presets"
        return f"{self.file}: {self.presets} preset{'' if self.presets == 1 else 's'}"


@dataclass(frozen=True)
class _Bank:
    signature: _Signature
    presets: dict[str, Preset]
    error: ImpactError | None


@dataclass(frozen=True)
class _Table:
    """One state of the library; replaced as a whole."""

    by_name: dict[str, Preset]
    by_full_name: dict[str, Preset]
    faults: tuple[ImpactError, ...]


class Library(Mapping[str, Preset]):
    """Presets by name; also found by `bank/name`, which reaches one that a user's own hides.

    Args:
        folders: later ones win. Without any: the program's, then the user's own. They need not exist.

    Never raises for what files hold: see :attr:`faults`.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = folders or (builtin_presets_folder(), presets_folder())
        self._lock = threading.Lock()
        self._banks: dict[Path, _Bank] = {}
        self._table = _Table({}, {}, ())
        self.reload()

    def __getitem__(self, name: str) -> Preset:
        table = self._table
        return table.by_full_name[name] if "/" in name else table.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.by_name)

    def __len__(self) -> int:
        return len(self._table.by_name)

    @property
    def faults(self) -> tuple[ImpactError, ...]:
        """The first mistake of each file that has one, and every name that a folder gives twice."""
        return self._table.faults

    def reload(self) -> list[Change]:
        """Read what has changed since the last time.

        Returns:
            What became of each changed file. A mistake that has been told once is not told again before the file is
            right or has another.
        """
        with self._lock:
            old, self._banks = self._banks, {}
            changes: list[Change] = []
            for folder in self.folders:
                for path in bank_files(folder):
                    known = old.get(path)
                    bank = _read(path, known)
                    self._banks[path] = bank
                    if known is None or _differs(known, bank):
                        changes.append(Change(path, len(bank.presets), bank.error))
            gone = [path for path in old if path not in self._banks]
            changes += [Change(path, 0, removed=True) for path in gone]
            told = set(self._table.faults)
            self._table, doubles = self._build()
            changes += [change for change in doubles if str(change.error) not in {str(fault) for fault in told}]
            return changes

    def _build(self) -> tuple[_Table, list[Change]]:
        by_name: dict[str, Preset] = {}
        by_full_name: dict[str, Preset] = {}
        faults = [bank.error for bank in self._banks.values() if bank.error is not None]
        doubles: list[Change] = []
        for folder in self.folders:
            here: dict[str, Preset] = {}
            for path, bank in self._banks.items():
                if path.parent != folder:
                    continue
                for name, preset in bank.presets.items():
                    by_full_name[preset.full_name] = preset
                    if name in here:
                        doubles.append(Change(path, len(bank.presets), name_taken(preset, here[name])))
                    else:
                        here[name] = preset
            by_name.update(here)
        faults += [double.error for double in doubles if double.error is not None]
        table = _Table(dict(sorted(by_name.items())), dict(sorted(by_full_name.items())), tuple(faults))
        return table, doubles


def name_taken(preset: Preset, other: Preset) -> ImpactError:
    """The mistake of a preset whose name another of its folder has."""
    return ImpactError(
        "bad_argument",
        f"{preset.file} line {preset.line}: {preset.name}: this name is taken in {other.file} line {other.line}: "
        f"rename one, until then the name is that one's, and this one is {preset.full_name}",
    )


def load_presets(*folders: Path) -> dict[str, Preset]:
    """All presets by name, strictly; later folders win. Without folders: the program's, then the user's own.

    Raises:
        ImpactError: names file, line and key of the first mistake.
    """
    library = Library(*folders)
    if library.faults:
        raise library.faults[0]
    return dict(library)


def _read(path: Path, known: _Bank | None) -> _Bank:
    """A bank as its file has it now; on a mistake with the presets of its last good version."""
    try:
        status = path.stat()
        signature = (status.st_mtime_ns, status.st_size, status.st_ino)
    except OSError:
        signature = (0, 0, 0)
    if known is not None and known.signature == signature:
        return known
    presets, faults = read_bank(path)
    if faults:
        return _Bank(signature, known.presets if known else {}, faults[0])
    return _Bank(signature, presets, None)


def _differs(old: _Bank, new: _Bank) -> bool:
    return old.presets != new.presets or str(old.error or "") != str(new.error or "")
