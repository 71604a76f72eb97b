"""`visavis sensors`: what the box's own sensors say, live."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.console import Group

    from firmware.readings import Snapshot

__all__ = ["sensors"]

_PERIOD_S = 1.0


def sensors(*, json: bool = False, once: bool = False) -> int:
    """Show temperatures with the box's own limits, throttling, fans and power, once a second until Ctrl-C.

    Parameters
    ----------
    json
        One JSON object per reading instead of a table.
    once
        Read once and end. Exit status 2 if no sensor tells a temperature.

    """
    from rich.console import Console
    from rich.live import Live

    from firmware.readings import State
    from firmware.sensors import Sensors

    console = Console(highlight=False, soft_wrap=True)
    never = threading.Event()
    with Sensors() as box:
        snapshot = box.read()
        if json:
            print(msgspec.json.encode(as_json(snapshot)).decode(), flush=True)
        else:
            for missing in box.missing:
                console.print(missing, style="dim", markup=False)
        if once:
            if not json:
                console.print(_table(snapshot))
            return 0 if any(t.state is State.OK for t in snapshot.temperatures) else 2
        if json:
            while not never.wait(_PERIOD_S):
                print(msgspec.json.encode(as_json(box.read())).decode(), flush=True)
        with Live(_table(snapshot), console=console, auto_refresh=False) as live:
            while not never.wait(_PERIOD_S):
                live.update(_table(box.read()), refresh=True)
    return 0


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot and what follows from it, for programs."""
    nearest = snapshot.tightest
    return {
        "margin_c": snapshot.margin_c,
        "nearest": nearest.name if nearest else None,
        "temperatures": [msgspec.structs.asdict(t) | {"margin_c": t.margin_c} for t in snapshot.temperatures],
        "throttles": [msgspec.structs.asdict(t) for t in snapshot.throttles],
        "events": [msgspec.structs.asdict(e) for e in snapshot.events],
        "fans": [msgspec.structs.asdict(f) for f in snapshot.fans],
        "rails": [msgspec.structs.asdict(r) for r in snapshot.rails],
    }


def _table(snapshot: Snapshot) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def row(table: Table, *cells: str) -> None:
        table.add_row(*(Text(cell) for cell in cells))  # a driver's label may hold anything, brackets too

    temperatures = Table("sensor", "°C", "throttles at", "off at", "to go", "", box=None, header_style="dim")
    for t in snapshot.temperatures:
        note = t.trouble or ("powered down" if t.celsius is None else "")
        row(temperatures, t.name, _number(t.celsius), _number(t.slows_c), _number(t.stops_c), _number(t.margin_c), note)
    rest = Table("", "", box=None, show_header=False)
    for fan in snapshot.fans:
        told = [f"{fan.rpm} rpm" if fan.rpm is not None else "", f"{fan.duty:.0%}" if fan.duty is not None else ""]
        row(rest, fan.name, " ".join(filter(None, told)))
    for rail in snapshot.rails:
        row(rest, rail.name, f"{rail.watts:.1f} W" + (f" of {rail.limit_w:.0f} W" if rail.limit_w else ""))
    for event in snapshot.events:
        row(rest, event.name, f"{event.meaning}: {event.total}" + (f" (+{event.new})" if event.new else ""))
    for throttle in snapshot.throttles:
        if throttle.active:
            row(rest, throttle.name, f"holds the clocks down ({throttle.kind.value})")
    nearest = snapshot.tightest
    verdict = (
        f"{nearest.name}: {nearest.margin_c:.1f} °C until the box throttles" if nearest else "No sensor tells where this box throttles."
    )
    return Group(temperatures, rest, Text(verdict))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
