"""What can go wrong at the controller, told in one line for the person who started it.

FleetError
├── BrokerMissing   mosquitto is not installed, or does not stay up
├── PortTaken       another program listens where we should
├── DataInUse       another controller works in this folder
├── Unavailable     the store cannot be read or written now: the disk is full or gone
└── BadRequest      what was asked for cannot be (a name, a box that is not there)
"""

from __future__ import annotations

__all__ = ["BadRequest", "BrokerMissing", "DataInUse", "FleetError", "PortTaken", "Unavailable"]


class FleetError(Exception):
    """The controller cannot do what it was told; the text says what to do."""


class BrokerMissing(FleetError):
    """mosquitto is not installed, or does not stay up."""


class PortTaken(FleetError):
    """Another program listens where we should."""


class DataInUse(FleetError):
    """Another controller works in this folder."""


class Unavailable(FleetError):
    """The store cannot be read or written now."""


class BadRequest(FleetError):
    """What was asked for cannot be."""
