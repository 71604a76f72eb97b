"""What the page must know of the store: brand, suggestions, notices, and the buttons that answer a question."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from runtime.config import Config
from runtime.messages import VOICE_RATE
from runtime.packs import Pack

__all__ = ["answers", "logo_of", "setup"]

_MOST_ANSWERS = 8


def logo_of(pack: Pack) -> Path | None:
    """The file of the store's sign; None if it has none."""
    return pack.path / pack.brand.logo if pack.brand.logo else None


def setup(config: Config, pack: Pack, boot_id: str) -> dict[str, Any]:
    """The first message to a page."""
    return {
        "boot": boot_id,
        "brand": {
            "title": pack.brand.title,
            "accent": pack.brand.accent,
            # Another address for another pack's: a browser does not look again at one that it knows.
            "logo": f"/logo?{zlib.crc32(str(logo).encode()):08x}" if (logo := logo_of(pack)) else "",
            "background": pack.brand.background if pack.brand.background.startswith("#") else "",
        },
        "persona": pack.persona.name,
        "languages": list(pack.languages),
        "suggestions": [{"label": item.label, "text": item.text} for item in pack.suggestions],
        "notices": list(pack.notices),
        "rate": VOICE_RATE,
        "auto_gain": config.microphone.auto_gain,
        "av_offset_ms": config.video.av_offset_ms,
    }


def answers(pack: Pack, expects: str) -> list[dict[str, str]]:
    """Buttons for the question that was just asked: yes and no, or the values of the slot it is about."""
    if expects in ("confirm", "staff"):
        return [{"label": "", "text": text} for text in ("yes", "no")]
    for tool in pack.tools:
        slot = tool.find(expects) if expects else None
        if slot is not None:
            return [{"label": value.value, "text": value.value} for value in slot.values[:_MOST_ANSWERS]]
    return []
