"""What can go wrong with the box itself. Each text is one line: what, where, what to do.

FirmwareError
    LeverError      a fan or power mode cannot be set: not ours, not permitted, gone
    InstallError    the units and settings cannot be installed or looked at
    LadderError     the record of what was tried cannot be written, so nothing may be tried
"""

from __future__ import annotations

__all__ = ["FirmwareError", "InstallError", "LadderError", "LeverError"]


class FirmwareError(Exception):
    """The box does not do what was asked."""


class LeverError(FirmwareError):
    """A fan or power mode cannot be set; the governor does without this lever."""


class InstallError(FirmwareError):
    """The units and settings cannot be installed or looked at; run it as the text says."""


class LadderError(FirmwareError):
    """The record of escalation steps cannot be written: without it no step may be taken that a restart forgets."""
