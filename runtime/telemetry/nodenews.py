"""What the fleet hears of the nodes' lives: that one ended, cannot come back, is back. The supervisor's text does not leave the box."""

from __future__ import annotations

from collections.abc import Callable

from runtime import topology
from runtime.messages import NodeEvent, NodeState
from runtime.supervision import RENEWED

__all__ = ["NodeNews"]

_CAUSES = {"stuck": "stuck", "cannot": "cannot_work", "ended": "signal", "exited": "exit"}
"""First word of the supervisor's reason → cause of the event."""
_NAMES = {row.name for row in topology.NODES}


class NodeNews:
    """`event(code, names, numbers)` keeps an event; `ready` is what is done when a node is ready, for it may be another one than before."""

    def __init__(self, event: Callable[[str, dict[str, str], dict[str, int]], None], ready: dict[str, Callable[[], None]]) -> None:
        self._event, self._ready = event, ready
        self._renewed: set[str] = set()

    def take(self, event: NodeEvent) -> None:
        """A node changed its state."""
        if event.again or event.node not in _NAMES:
            return
        if event.state is NodeState.READY and event.node in self._ready:
            self._ready[event.node]()
        cause = _CAUSES.get(event.reason.partition(" ")[0].rstrip(":"), "other")
        if event.state is NodeState.DOWN and event.reason == RENEWED:  # as it was told to
            self._renewed.add(event.node)
        elif event.state is NodeState.DOWN:
            self._event("node_down", {"node": event.node, "cause": cause}, {"restarts": event.restarts})
        elif event.state is NodeState.GIVEN_UP:
            self._event("node_given_up", {"node": event.node, "cause": cause}, {"restarts": event.restarts})
        elif event.state is NodeState.READY and event.node in self._renewed:
            self._renewed.discard(event.node)
        elif event.state is NodeState.READY and event.restarts:
            self._event("node_ready", {"node": event.node}, {"restarts": event.restarts})
