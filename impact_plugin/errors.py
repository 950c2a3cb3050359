"""The errors users see: one line of text and one of the contract's codes.

Knows nothing of who shows them. The command line turns them into exit codes, the daemon into `/impact/fail`
messages and HTTP bodies; nothing else in the package invents an error format.
"""

from __future__ import annotations

from typing import Literal, get_args

Code = Literal[
    "bad_argument",
    "unknown_key",
    "unknown_address",
    "unknown_preset",
    "unknown_id",
    "duplicate_id",
    "queue_full",
    "disk_full",
    "out_of_memory",
    "model_missing",
    "bad_file",
    "busy",
    "too_large",
    "unsupported",
    "internal",
]

CODES: tuple[str, ...] = get_args(Code)

#: Codes that speak of the machine rather than of what the user asked for: exit status 1 instead of 2.
MACHINE_CODES: frozenset[str] = frozenset({"disk_full", "out_of_memory", "internal", "busy", "queue_full"})


class ImpactError(Exception):
    """An error meant for the user.

    Args:
        code: one of :data:`CODES` (contract section 2).
        text: one line that says what is wrong and, where possible, what to do next.
        field: the name of the offending key or argument, if there is one.
    """

    def __init__(self, code: Code, text: str, field: str | None = None) -> None:
        super().__init__(text)
        self.code: Code = code
        self.text = " ".join(text.split())
        self.field = field

    @property
    def exit_status(self) -> int:
        """2 for a usage or input error, 1 for a failure of the machine."""
        return 1 if self.code in MACHINE_CODES else 2

    def __str__(self) -> str:
        return self.text
