"""What can go wrong in a rehearsal, by whose fault it is.

RehearsalError
├── ScenarioError   the scenario file or a recording it names: the author mends it
├── MissingProgram  PulseAudio, Chromium, a voice: the machine lacks it
└── KioskFailed     the kiosk or its page did not come up, or went away
"""

from __future__ import annotations

__all__ = ["KioskFailed", "MissingProgram", "RehearsalError", "ScenarioError"]


class RehearsalError(Exception):
    """The rehearsal could not be done; the text is one line for a person."""


class ScenarioError(RehearsalError):
    """The scenario, or a file it names, is wrong."""


class MissingProgram(RehearsalError):
    """A program or voice that the rehearsal needs is not on this machine."""


class KioskFailed(RehearsalError):
    """The kiosk or its page did not start, or ended early."""
