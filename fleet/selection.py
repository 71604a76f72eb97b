"""Which boxes: by name, site, model and release. Pure, but for the query at the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from runtime.telemetry import is_id

__all__ = ["Face", "Run", "Selection", "faces", "matches", "select"]

Run = Callable[..., list[Any]]
"""`Database.read`, or `Transaction.run` to see what this transaction has written."""
_Text = Annotated[str, Meta(max_length=200)]


class Face(msgspec.Struct, frozen=True):
    """What of a box a selection looks at."""

    name: str
    site: str
    model: str
    release: str


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Boxes that match every field that is set; nothing set: all boxes.

    `name` may have `*` (anything) and `?` (one character). `boxes` names them one by one.
    """

    name: _Text = ""
    site: _Text = ""
    model: _Text = ""
    release: _Text = ""
    boxes: Annotated[tuple[Annotated[str, Meta(max_length=63)], ...], Meta(max_length=5000)] = ()

    def wrong(self) -> str:
        """Why this can select nothing, in one line; "" if it may."""
        strange = next((name for name in self.boxes if not is_id(name)), None)
        return f"{strange!r} cannot be the name of a box" if strange is not None else ""


def matches(selection: Selection, face: Face) -> bool:
    """Whether a box is selected."""
    for wanted, found in ((selection.site, face.site), (selection.model, face.model), (selection.release, face.release)):
        if wanted and wanted != found:
            return False
    if selection.boxes and face.name not in selection.boxes:
        return False
    return not selection.name or _pattern(selection.name).fullmatch(face.name) is not None


def _pattern(text: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(char, re.escape(char)) for char in text))  # kept by re's own cache


def faces(run: Run, name: str = "") -> list[Face]:
    """All boxes, or one."""
    where, values = ("WHERE name = ?", (name,)) if name else ("", ())
    return [Face(*row) for row in run(f"SELECT name, site, model, release FROM device {where} ORDER BY name", *values)]  # noqa: S608 - ours


def select(run: Run, selection: Selection) -> list[str]:
    """The names of the boxes that are selected now, by name."""
    return [face.name for face in faces(run) if matches(selection, face)]
