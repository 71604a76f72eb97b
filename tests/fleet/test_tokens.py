"""The console looks like the kiosk: one palette."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def palette(path):
    """Colours of the light theme by name: the first block of the file."""
    block = (ROOT / path).read_text().partition("{")[2].partition("}")[0]
    return {name: value for name, value in re.findall(r"--([a-z-]+):\s*([^;]+);", block) if value.startswith(("#", "color-mix"))}


def test_one_palette():
    """A colour that page and console both name is the same colour."""
    page, console = palette("kiosk/page/css/tokens.css"), palette("fleet/console/css/tokens.css")
    common = page.keys() & console.keys()
    assert common >= {"paper", "surface", "ink", "accent", "accent-soft", "danger", "focus"}
    assert {name: page[name] for name in common} == {name: console[name] for name in common}
