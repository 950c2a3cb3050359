"""The version, in the one place where the build and the program both read it."""

from __future__ import annotations

VERSION = "0.1.0"
