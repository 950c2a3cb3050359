"""Every folder outside the repository that the program reads or writes, in one place.

Knows the platform's conventions and the one variable that moves them all, `IMPACT_HOME`. Makes no folder by itself.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APP = "impact-plugin"
HOME_VARIABLE = "IMPACT_HOME"


def _home(part: str, default: str) -> Path:
    home = os.environ.get(HOME_VARIABLE)
    return Path(home).expanduser() / part if home else Path(default)


def config_folder() -> Path:
    """The user's own presets and settings."""
    return _home("config", platformdirs.user_config_dir(APP, appauthor=False))


def data_folder() -> Path:
    """Takes and their index. (Bundles: see `bundle.registry`.)"""
    return _home("data", platformdirs.user_data_dir(APP, appauthor=False))


def cache_folder() -> Path:
    """What can be made or fetched again."""
    return _home("cache", platformdirs.user_cache_dir(APP, appauthor=False))


def state_folder() -> Path:
    """The daemon's journal and runtime file."""
    return _home("state", platformdirs.user_state_dir(APP, appauthor=False))


def presets_folder() -> Path:
    """The user's own presets, which win over those that come with the program."""
    return config_folder() / "presets"


def takes_folder() -> Path:
    """Where the daemon puts takes unless told otherwise."""
    return data_folder() / "takes"


def takes_index() -> Path:
    """The index of all takes, wherever they lie. Always on this machine, which the takes themselves need not be."""
    return data_folder() / "takes.sqlite3"


def builtin_presets_folder() -> Path:
    """The presets that come with the program: in the package once installed, `presets/` of the source tree else."""
    installed = Path(__file__).parent / "presets" / "banks"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "presets"
