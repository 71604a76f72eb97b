"""What the log of a controller says once."""

from __future__ import annotations

import logging

import pytest

from fleet.quiet import Once

pytestmark = pytest.mark.unit


def test_the_same_line_once_a_minute():
    """Repeated within a minute it is not told, later it is; another line is told at once; a clock that was set back hides nothing."""
    once = Once()

    def told(text, when):
        record = logging.LogRecord("fleet", logging.WARNING, "", 0, "%s; tried again", (text,), None)
        record.created = when
        return once.filter(record)

    assert told("away", 1000.0)
    assert not told("away", 1059.0)
    assert told("full", 1059.0)
    assert told("away", 1060.0)
    assert told("away", 500.0)
