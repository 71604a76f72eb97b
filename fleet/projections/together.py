"""All projections that publish, as the configuration names them. One that fails begins anew and never holds up the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from importlib import metadata
from typing import Any

from fleet.config import Config, check_config
from fleet.database import Database
from fleet.live import Hub
from fleet.projections.feed import DiscoveryFeed, Feed, SparkplugFeed
from fleet.projections.homeassistant import Discovery, HomeAssistant
from fleet.projections.outlet import Target
from fleet.projections.sparkplug import NAMESPACE, Edge, Sparkplug, following

__all__ = ["HOME_ASSISTANT", "SPARKPLUG", "Projections", "rights"]

SPARKPLUG, HOME_ASSISTANT = "~sparkplug", "~home-assistant"
"""The projections' names at the fleet's own broker; no box can have them (`is_id`)."""
_BD_SEQ = "sparkplug.bd_seq"


class Projections:
    """All that the configuration names. `own(NAME)` is the fleet's own broker, as NAME may use it; they speak while this controller is
    the one that does (`mine`).
    """

    def __init__(
        self,
        config: Config,
        db: Database,
        hub: Hub,
        *,
        own: Callable[[str], Target],
        now_ms: Callable[[], int],
        mine: Callable[[], bool],
        tenant: str,
        console: str = "",
        sweep_s: float = 30.0,
    ) -> None:
        self.feeds: list[Feed] = []
        check_config(config)
        if config.sparkplug is not None:
            section = config.sparkplug
            where = section.broker.target if section.broker else own(SPARKPLUG)
            client_id = SPARKPLUG if section.broker is None else f"visavis-{section.group}-{section.edge}"
            edge = Edge(section, lambda _: _number(db))
            self.feeds.append(SparkplugFeed(edge, db, hub, where, client_id, now_ms, mine, sweep_s))
        if config.home_assistant is not None:
            ours = config.home_assistant
            where = ours.broker.target if ours.broker else own(HOME_ASSISTANT)
            client_id = HOME_ASSISTANT if ours.broker is None else f"visavis-{tenant}"
            discovery = Discovery(ours, tenant, console, _version())
            self.feeds.append(DiscoveryFeed(discovery, db, hub, where, client_id, now_ms, mine, sweep_s))

    def runs(self) -> list[Coroutine[Any, Any, None]]:
        """One for each; they run until they are cancelled."""
        return [feed.run() for feed in self.feeds]

    def late(self, told: Iterable[tuple[str, int, dict[str, Any]]]) -> None:
        """Health that boxes told long after it was so: (box, when, values)."""
        for device, ts, health in told:
            for feed in self.feeds:
                feed.late(device, ts, health)

    async def told(self) -> None:
        """Until every projection has told everything once."""
        await asyncio.gather(*(feed.connected.wait() for feed in self.feeds))


def rights(config: Config, tenant: str, readers: Iterable[str] = ()) -> str:
    """Lines of the fleet's own broker's acl_file: what the projections write there, and what programs read that were let in (`~NAME`)."""
    lines = []
    spoken, found = (section if section and section.broker is None else None for section in (config.sparkplug, config.home_assistant))
    shown = [f"visavis-fleet/{tenant}/#"] if found else []
    if spoken:
        shown.append(f"{NAMESPACE}/#")
        lines += [f"user {SPARKPLUG}", f"topic readwrite {NAMESPACE}/#"]
    if isinstance(found, HomeAssistant):
        shown.append(f"{found.prefix}/#")
        lines += [f"user {HOME_ASSISTANT}", *(f"topic readwrite {topic}" for topic in shown if not topic.startswith(NAMESPACE))]
    for name in readers:
        lines += [f"user {name}", *(f"topic read {topic}" for topic in shown)]
        if isinstance(spoken, Sparkplug):
            lines += [f"topic write {NAMESPACE}/STATE/{name.removeprefix('~')}", f"topic write {NAMESPACE}/{spoken.group}/NCMD/+"]
        if isinstance(found, HomeAssistant):
            lines += [f"topic write {found.prefix}/status"]
    return "".join(f"{line}\n" for line in lines)


def _number(db: Database) -> int:
    """Counted in the store: a death that a host hears late is of another number than the birth by the next controller."""
    with db.write() as tx:
        found = tx.run("SELECT content FROM memo WHERE name = ?", _BD_SEQ)
        number = following(int(found[0][0]) if found else -1)
        sql = "INSERT INTO memo (name, content) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET content = excluded.content"
        tx.run(sql, _BD_SEQ, str(number))
    return number


def _version() -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version("visavis")
    return ""
