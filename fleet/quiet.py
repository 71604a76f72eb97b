"""The same warning again and again is told once a minute: a store that is away for an hour is one thing to know."""

from __future__ import annotations

import logging

__all__ = ["Once"]

_PAUSE_S = 60.0
_MOST = 1000


class Once(logging.Filter):
    """For a handler: lets a line through that was not told within the last minute."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is told."""
        text = record.getMessage()
        if 0 <= record.created - self._told.get(text, float("-inf")) < _PAUSE_S:
            return False
        if len(self._told) >= _MOST:
            self._told.clear()
        self._told[text] = record.created
        return True
