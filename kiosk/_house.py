"""What the page begins each visit with: volume, brightness, language, as kiosk.toml and the pack have them or as the fleet wants them.

Kept in the checkpoint, so that a stage that is started again does not show the box's own for the moment until the uplink has told it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from runtime.context import Context
from runtime.messages import HouseSetting

__all__ = ["House"]


class House:
    """Sends through `tell(kind, **fields)`. The uplink judges the values; here only what the page could not show is left out."""

    def __init__(self, ctx: Context, tell: Callable[..., None]) -> None:
        self._checkpoint, self._tell = ctx.checkpoint, tell
        self.values: dict[str, Any] = {"volume": ctx.config.voice.volume, "brightness": 1.0, "language": ""}
        with suppress(msgspec.DecodeError):  # nothing is kept, or it is damaged: the uplink tells it anew
            kept = msgspec.json.decode(self._checkpoint.load() or b"", type=dict[str, Any])
            self.values |= {name: value for name, value in kept.items() if name in self.values}
        self._wanted = str(self.values["language"])
        self.speak(ctx.pack.languages)

    def speak(self, languages: Sequence[str]) -> None:
        """The pack has these; what is wanted of another one's may be wanted before this one is there."""
        self._languages = tuple(languages)
        self.values["language"] = self._wanted if self._wanted in self._languages else self._languages[0]

    def take(self, setting: HouseSetting) -> None:
        """The fleet wants this of the page."""
        if setting.name not in self.values:
            return
        if setting.name == "language":
            self._wanted = str(setting.value)
            if self._wanted not in self._languages:
                return
        self.values[setting.name] = setting.value
        self._checkpoint.save(msgspec.json.encode(self.values))
        self._tell("house", **self.values)
