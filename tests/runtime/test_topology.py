"""Walks the two tables: nothing without a budget, nothing without a reader, no message without a link."""

from __future__ import annotations

import importlib.util
import inspect

import pytest

from runtime import messages, topology
from runtime.bus import FrameRingSpec


@pytest.mark.parametrize("node", topology.NODES, ids=lambda node: node.name)
def test_every_node_has_a_budget_and_a_module(node):
    """CPU, memory and heartbeat are declared, and the module exists."""
    assert node.cpu_pct > 0
    assert node.pss_mb > 0
    assert node.beat_s > 0
    assert node.external or importlib.util.find_spec(node.module)


@pytest.mark.parametrize("link", topology.LINKS, ids=lambda link: link.name)
def test_every_link_joins_nodes_that_exist(link):
    """Sources and readers are rows of NODES; commands are bounded and have deadlines."""
    names = {node.name for node in topology.NODES} | {topology.SUPERVISOR}
    assert link.src in names | {topology.ANY}
    assert set(link.dst) <= names
    assert link.dst
    if link.kind is topology.Kind.COMMAND:
        assert link.deadline_ms > 0
        assert link.capacity > 0
        assert len(link.dst) == 1
    else:
        assert link.src != topology.ANY
    if isinstance(link.ring, FrameRingSpec):
        assert set(link.ring.consumers) == set(link.dst)


def test_every_message_travels_on_a_link():
    """A message type that no link carries is dead vocabulary."""
    types = {kind for _, kind in inspect.getmembers(messages, inspect.isclass) if issubclass(kind, messages.Message)} - {messages.Message}
    assert types == {link.payload for link in topology.LINKS if link.payload}


def test_the_budget_fits_two_cores():
    """All nodes together, Chromium included, leave headroom on the smallest box."""
    assert sum(node.cpu_pct for node in topology.NODES) <= 220
    assert sum(node.pss_mb for node in topology.NODES if not node.external) <= 1200


def test_unknown_names_are_errors():
    """A misspelt node or link is a KeyError that names it."""
    with pytest.raises(KeyError, match="nosuch"):
        topology.link("nosuch")
    with pytest.raises(KeyError, match="nosuch"):
        topology.node("nosuch")
