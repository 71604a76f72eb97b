"""Where the supervisor learns that another experience pack is wanted, and says which one serves. The rules are in `runtime.changeover`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zmq

from runtime import topology
from runtime.bus import CommandReceiver, Publisher, Subscriber
from runtime.changeover import Change, Event, Fell, Ready, Renew, Tick, Wish, decide
from runtime.context import link_path
from runtime.messages import Floor, NodeState, PackServes, PackWanted, Posture, Session
from runtime.supervision import RENEWED, Announce, Life

__all__ = ["PackDesk"]

_TELL_EVERY_NS = 1_000_000_000
_SILENT_NS = 5_000_000_000
"""A floor of which nothing is heard for so long (it is told once a second) has nobody on it."""


class PackDesk:
    """Joins the rules with their links: wishes and the floor come in, what serves goes out. One thread, the supervisor's."""

    def __init__(self, context: zmq.Context[Any], run_dir: Path, pack: str, nodes: Sequence[topology.Node]) -> None:
        self._change = Change(pack, tuple(row.name for row in nodes if row.pack is topology.PackUse.START))
        self._packs: dict[str, str] = {}
        self._renew: list[str] = []
        self._told_ns = 0
        self._floor: Floor | None = None
        self._heard_ns = 0
        wish, floor, pack_link = (topology.link(name) for name in ("wish", "floor", "pack"))
        self._wishes = CommandReceiver(context, link_path(run_dir, wish.name), topology.prefix(wish.name), PackWanted, wish.capacity)
        self._floors = Subscriber(context, link_path(run_dir, floor.name), topology.prefix(floor.name), Floor, floor.kind.value)
        self._out = Publisher(context, link_path(run_dir, pack_link.name), topology.prefix(pack_link.name), PackServes)

    def pack_of(self, node: str) -> str:
        """The folder of the pack that `node` is to be started with; "" is that of kiosk.toml."""
        return self._packs.get(node, self._change.serves)

    def step(self, lives: Mapping[str, Life], now: int) -> tuple[str, ...]:
        """Let time pass; returns the nodes that have to be started anew."""
        for wish in self._wishes.receive():
            self._take(Wish(wish.pack, wish.ask, wish.until_ns), now)
        for floor in self._floors.receive():
            self._floor, self._heard_ns = floor, now
        self._take(Tick(self._free(lives, now), tuple(name for name, life in lives.items() if life.state is not NodeState.READY)), now)
        if now - self._told_ns >= _TELL_EVERY_NS:
            self._tell(now)
        renew, self._renew = tuple(self._renew), []
        return renew

    def announced(self, node: str, what: Announce, now: int) -> None:
        """Hear what becomes of a node."""
        if what.state is NodeState.READY:
            self._take(Ready(node), now)
        elif what.state is not NodeState.STARTING and what.reason != RENEWED:
            self._take(Fell(node, what.reason), now)

    def close(self) -> None:
        """Close the links."""
        for end in (self._wishes, self._floors, self._out):
            end.close()

    def _free(self, lives: Mapping[str, Life], now: int) -> bool:
        """Whether nobody is being served, and nothing is on its way up."""
        if any(life.state in (NodeState.STARTING, NodeState.DOWN) for life in lives.values()):
            return False
        floor = self._floor
        if floor is None or now - self._heard_ns > _SILENT_NS:
            conductor = lives.get("conductor")
            return conductor is None or conductor.state is NodeState.GIVEN_UP  # else it is about to tell
        return floor.session is Session.ATTRACT and floor.posture is Posture.IDLE

    def _take(self, event: Event, now: int) -> None:
        self._change, actions = decide(self._change, event, now)
        for action in actions:
            if isinstance(action, Renew):
                self._packs[action.node] = action.pack
                self._renew.append(action.node)
            else:
                self._tell(now)

    def _tell(self, now: int) -> None:
        change, self._told_ns = self._change, now
        self._out.send(PackServes(0, now, change.serves, change.phase, change.wish.ask, change.reason))
