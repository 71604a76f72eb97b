"""What the fleet hears of the nodes' lives."""

from __future__ import annotations

import msgspec

from runtime.messages import NodeEvent, NodeState
from runtime.telemetry.nodenews import NodeNews


def test_what_is_told_again_is_no_news():
    """A node that fell and is back is two events, and one beginning of what hangs on it, however often all are told again."""
    kept, ready = [], []
    news = NodeNews(
        lambda code, names, numbers: kept.append((code, names["node"], numbers["restarts"])), {"stage": lambda: ready.append(1)}
    )
    for state in (NodeState.DOWN, NodeState.STARTING, NodeState.READY):
        event = NodeEvent(0, 1, "stage", state, 1, "exited with status 1" if state is NodeState.DOWN else "")
        news.take(event)
        news.take(msgspec.structs.replace(event, again=True))
    assert kept == [("node_down", "stage", 1), ("node_ready", "stage", 1)]
    assert ready == [1]
