"""Did the visit achieve what the store wants? Judged from what was done, never by the one who talks."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.packs import Objective

__all__ = ["reached"]


def reached(objectives: Iterable[Objective], done: Iterable[str]) -> tuple[str, ...]:
    """Names of the objectives reached, given the tools done and the topics answered ("tool:orderDrink", "topic:menu")."""
    facts = set(done)
    return tuple(
        objective.name
        for objective in objectives
        if (objective.tool and f"tool:{objective.tool}" in facts) or any(f"topic:{topic}" in facts for topic in objective.topics)
    )
