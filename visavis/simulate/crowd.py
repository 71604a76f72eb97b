"""Many boxes in one process: comes to life, meets its storms, is told to end, and waits until everything has arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import msgspec

from runtime.telemetry.times import Times
from visavis.simulate import faults
from visavis.simulate.box import Box
from visavis.simulate.certificates import Identities
from visavis.simulate.house import House
from visavis.simulate.ledger import Ledger

__all__ = ["Load", "Seen", "names", "run"]

_PER_ADDRESS = 20_000
"""Connections from one address; Linux has some 28,000 ports for them."""
_START_S = 5.0
_BOXES_PER_S = 150.0
"""How fast a crowd comes to life: a handshake costs both ends 2.6 ms of CPU together."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How many boxes do what. `minutes` 0: until told to stop. `folder` holds the certificates."""

    devices: int
    host: str
    port: int
    folder: Path
    ledger: Path
    server_name: str = ""
    tenant: str = "default"
    prefix: str = "sim"
    health_s: float = 10.0
    event_s: float = 300.0
    minutes: float = 0.0
    faults: frozenset[str] = frozenset()
    seed: int = 1
    drain_s: float = 420.0  # a box that lost its broker again and again waits up to 300 s before it connects (runtime/telemetry/uplink.py)
    every_s: float = 5.0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands at `ms` (wall time): boxes, those connected, messages that wait for their acknowledgement, and what was counted."""

    ms: int
    devices: int
    connected: int
    waiting: int
    counts: dict[str, int]


def names(load: Load) -> list[str]:
    """The names of the boxes."""
    return [f"{load.prefix}-{number:05}" for number in range(load.devices)]


async def run(load: Load, times: Times, stop: asyncio.Event, say: Callable[[Seen], None]) -> Seen:
    """Until `stop` or the minutes are over; then nothing new is made, and what waits is still delivered for `drain_s` at most."""
    ledger = Ledger(load.ledger)
    house = House(
        address=(load.host, load.port),
        server_name=load.server_name or load.host,
        tenant=load.tenant,
        health_s=load.health_s,
        event_s=load.event_s,
        start_s=max(_START_S, load.devices / _BOXES_PER_S),
        identities=Identities(load.folder),
        ledger=ledger,
        times=times,
    )
    boxes = _boxes(load, house)
    loop, weather = asyncio.get_running_loop(), Random(load.seed)
    try:
        for box in boxes:
            box.start()
        for storm in faults.storms(load.faults, weather, load.minutes * 60 or 3600.0):
            loop.call_later(storm.at_s, _storm, boxes, storm.for_s)
        await _watch(house, load, say, stop, load.minutes * 60 or None)
        house.living = False
        await _watch(house, load, say, asyncio.Event(), load.drain_s, until=lambda: not house.waiting)
        seen = _seen(house, load)
    finally:
        for box in boxes:
            box.stop()
        ledger.close()
    return seen


def _boxes(load: Load, house: House) -> list[Box]:
    made = []
    for number, name in enumerate(names(load)):
        rng = Random(f"{load.seed} {name}")
        plan = faults.plan(load.faults, rng, load.minutes * 60 or 3600.0)
        source = f"127.0.0.{2 + number // _PER_ADDRESS}" if load.host.startswith("127.") else ""
        made.append(Box(house, name, plan, rng, source))
    return made


def _storm(boxes: Sequence[Box], for_s: float) -> None:
    for box in boxes:
        box.cut(for_s)


async def _watch(
    house: House,
    load: Load,
    say: Callable[[Seen], None],
    stop: asyncio.Event,
    limit_s: float | None,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Until `stop`, `until()` or `limit_s` (None: no limit), with a word now and then."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s if limit_s is not None else float("inf")
    while not stop.is_set() and not until() and (left := end - loop.time()) > 0:
        try:
            await asyncio.wait_for(stop.wait(), min(left, load.every_s))
        except asyncio.TimeoutError:
            house.ledger.flush()
            say(_seen(house, load))


def _seen(house: House, load: Load) -> Seen:
    return Seen(
        ms=house.times.wall_ms(), devices=load.devices, connected=house.connected, waiting=house.waiting, counts=dict(house.counts)
    )  # fmt: skip
