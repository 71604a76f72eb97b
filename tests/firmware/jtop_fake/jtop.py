"""Stands in for jetson-stats 7.2 and its service: the calls that firmware uses, answering a round late like the real one.

The real one runs on a Jetson only. The state is kept in a file, because every connection is a new object.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

STATE = Path(os.environ["FAKE_JTOP_STATE"])


class JtopException(Exception):
    """What jtop raises."""


class _Fan:
    def __init__(self, box: jtop) -> None:
        self._box = box

    def __iter__(self) -> Iterator[str]:
        return iter(["pwmfan"])

    def get_profile(self, name: str) -> str:
        return str(self._box.seen[f"{name} profile"])

    def get_speed(self, name: str) -> float:
        return float(self._box.seen[f"{name} speed"])

    def set_profile(self, name: str, profile: str) -> None:
        if profile not in ("quiet", "cool", "manual"):
            raise JtopException(f'Profile "{profile}" does not exist')
        self._box.wish(lambda state: state.update({f"{name} profile": profile}))

    def set_speed(self, name: str, speed: float) -> None:
        self._box.wish(lambda state: state.update({f"{name} speed": speed}))


class _NvpModel:
    def __init__(self, box: jtop) -> None:
        self._box = box

    @property
    def models(self) -> list[str]:
        return ["MAXN", "15W", "7W"]

    @property
    def name(self) -> str:
        return str(self._box.seen["mode"])

    def set_nvpmodel_name(self, name: str, *, force: bool = False) -> None:
        assert not force
        if name not in self.models:
            raise JtopException(f"NV Power Model {name} does not exists! Check all NVPmode available")
        if name != "7W":  # the mode that this board would restart for
            self._box.wish(lambda state: state.update({"mode": name}))


class jtop:  # noqa: N801 - its real name
    """A connection."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = json.loads(STATE.read_text())
        self.fan, self.nvpmodel = _Fan(self), _NvpModel(self)

    def __enter__(self) -> jtop:
        if self.seen.get("down"):
            raise JtopException("The jtop.service is not active. Please run:\nsudo jtop --install-service")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def ok(self) -> bool:
        """The next answer of the service."""
        self.seen = json.loads(STATE.read_text())
        return True

    @property
    def jetson_clocks(self) -> bool:
        return bool(self.seen["clocks"])

    @jetson_clocks.setter
    def jetson_clocks(self, value: bool) -> None:
        self.wish(lambda state: state.update({"clocks": value}))

    def wish(self, change: Callable[[dict[str, Any]], None]) -> None:
        """What a setter does: tell the service, and see it at the next answer only."""
        state = json.loads(STATE.read_text())
        change(state)
        STATE.write_text(json.dumps(state))
