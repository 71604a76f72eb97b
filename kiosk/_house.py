"""What the page begins each visit with: volume, brightness, language, as kiosk.toml and the pack have them or as the fleet wants them.

Kept in the checkpoint, so that a stage that is started again does not show the box's own for the moment until the uplink has told it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from runtime.context import Context
from runtime.messages import HouseSetting

__all__ = ["House"]


class House:
    """Sends through `tell(kind, **fields)`. The uplink judges the values; here only what the page could not show is left out."""

    def __init__(self, ctx: Context, tell: Callable[..., None]) -> None:
        self._checkpoint, self._tell, self._languages = ctx.checkpoint, tell, ctx.pack.languages
        self.values: dict[str, Any] = {"volume": ctx.config.voice.volume, "brightness": 1.0, "language": self._languages[0]}
        with suppress(msgspec.DecodeError):  # nothing is kept, or it is damaged: the uplink tells it anew
            kept = msgspec.json.decode(self._checkpoint.load() or b"", type=dict[str, Any])
            self.values |= {name: value for name, value in kept.items() if name in self.values}

    def take(self, setting: HouseSetting) -> None:
        """The fleet wants this of the page."""
        if setting.name not in self.values or (setting.name == "language" and setting.value not in self._languages):
            return
        self.values[setting.name] = setting.value
        self._checkpoint.save(msgspec.json.encode(self.values))
        self._tell("house", **self.values)
