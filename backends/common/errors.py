# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors that a user reads: one sentence that says what is wrong, one that says what to do."""


class VivantError(Exception):
    """Base of all expected failures.

    `message` says what is wrong, `hint` what the user can do about it; `str()` is both.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message} {hint}".strip())


class UnsupportedFormat(VivantError):
    """The file is sound but is something that Vivant does not read; the message names what it is."""


class BrokenFile(VivantError):
    """The file is truncated, inconsistent or corrupt."""


class NeedsEngine(VivantError):
    """The work needs the engine, and no engine is set up."""


class NeedsWeights(VivantError):
    """The work needs network weights that were not found."""


class EngineFailed(VivantError):
    """The engine's process died, hung or answered nonsense; the message holds the end of its log."""


class Cancelled(VivantError):
    """The user stopped the work."""
