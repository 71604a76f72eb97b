"""The levers of the page: volume, brightness and language that each visit begins with. What is set is told to the stage, and told again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runtime.bus import LinkError
from runtime.messages import HouseSetting
from runtime.telemetry.levers import Lever

__all__ = ["DARKEST", "Page"]

DARKEST = 0.2
"""Least brightness: a darker screen looks like one that is broken."""


class Page:
    """`send(message)` gives the stage one setting and raises LinkError while it is away; `now_ns` is CLOCK_MONOTONIC."""

    def __init__(self, send: Callable[[HouseSetting], None], now_ns: Callable[[], int], *, volume: float, languages: Sequence[str]) -> None:
        self._send, self._now_ns = send, now_ns
        self._usual: dict[str, float | str] = {"volume": volume, "brightness": 1.0, "language": languages[0]}
        self._languages = tuple(languages)
        self._values = dict(self._usual)
        self._untold = set(self._values)

    def levers(self) -> dict[str, Lever]:
        """One for each of the three."""
        return {
            "volume": Lever(self._usual["volume"], lambda level: self._set("volume", float(level))),
            "brightness": Lever(1.0, lambda level: self._set("brightness", float(level)), self._too_dark),
            "language": Lever(self._usual["language"], lambda tag: self._set("language", tag), self._unknown),
        }

    def speak(self, languages: Sequence[str]) -> dict[str, Lever]:
        """Another pack, with these languages; returns the levers that are others now."""
        self._languages = tuple(languages)
        self._usual["language"] = languages[0]
        return {"language": self.levers()["language"]}

    def again(self) -> None:
        """The stage is ready, so it may be another one: it is told everything."""
        self._untold = set(self._values)
        self.tick()

    def tick(self) -> None:
        """Tell the stage what it was not told yet, if it is there."""
        try:
            for name in sorted(self._untold):
                self._send(HouseSetting(0, self._now_ns(), name, self._values[name]))
                self._untold.discard(name)
        except LinkError:
            return  # with the next tick

    def _set(self, name: str, value: float | str) -> None:
        self._values[name] = value
        self._untold.add(name)
        self.tick()

    def _too_dark(self, level: float) -> str:
        return f"this box goes from {DARKEST} to 1: a darker screen looks broken" if level < DARKEST else ""

    def _unknown(self, tag: str) -> str:
        return "" if tag in self._languages else f"the pack does not have it; it has {', '.join(self._languages)}"
