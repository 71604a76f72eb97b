"""What a box does for each command of the fleet, or why it does not. Idempotency, rights and expiry are judged before (`commands`)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from firmware.errors import FirmwareError
from firmware.ladder import Step
from runtime import topology
from runtime.bus import BusError, FrameRingSpec, LinkStats, RingFds, RingStats
from runtime.messages import NodeState
from runtime.telemetry.collect import House
from runtime.telemetry.commands import Brightness, Governor, Language, LogLevel, RestartNode, Snapshot, SwitchPack, Volume
from runtime.telemetry.contract import Outcome
from runtime.telemetry.settings import Value
from runtime.telemetry.snapshot import NoPicture, take
from runtime.telemetry.times import Times

__all__ = ["MISSING", "Done", "Executors", "by_systemd", "diagnostics", "limit_s", "node_pids", "signal_nodes"]

_FAREWELL_S = 0.5
_LIMIT_S = 60.0
_LIMITS_S = {"switch_pack": 900.0}
"""It waits for a visitor to go (`packchange.WAIT_S`), then for nodes to start."""
MOST_REPORT = 100_000
"""Bytes of a diagnostics report; the details go first."""
MISSING = {
    "update": "nothing on this box installs releases from the fleet",
}
"""Commands of the contract that nothing here carries out, and what is missing."""


class Done(msgspec.Struct, frozen=True):
    """How it went."""

    outcome: Outcome
    reason: str = ""
    result: dict[str, Any] = {}


class Executors:
    """Carries out commands. `step` asks the box for a restart (of the kiosk, of the machine), `set(name, value)` moves the lever of a
    setting and returns why not, "" if it did; `hold(rung, minutes)` has the governor hold a rung, `switch(pack)`
    has another experience pack serve.
    """

    def __init__(
        self,
        *,
        times: Times,
        run_dir: Path,
        supervisor: int,
        ring: tuple[FrameRingSpec, RingFds],
        step: Callable[[Step], None] | None,
        report: Callable[[], dict[str, Any]],
        check: Callable[[], dict[str, bool]],
        stop: Callable[[], None],
        set: Callable[[str, Value], str],  # noqa: A002  what it does
        hold: Callable[[int, int], Awaitable[Done]],
        switch: Callable[[str], Awaitable[Done]],
    ) -> None:
        self._times, self._run_dir, self._supervisor, self._ring = times, run_dir, supervisor, ring
        self._step, self._report, self._check, self._stop, self._set = step, report, check, stop, set
        self._hold, self._switch = hold, switch
        self._level, self._level_until_ms = "", 0
        self._do: dict[str, Callable[[Any], Awaitable[Done]]] = {
            "ping": self._ping,
            "diagnostics": self._diagnostics,
            "self_test": self._self_test,
            "snapshot": self._snapshot,
            "restart_node": self._restart_node,
            "log_level": self._log_level,
            "volume": self._volume,
            "brightness": self._brightness,
            "language": self._language,
            "governor": self._governor,
            "switch_pack": self._switch_pack,
        }
        if step is not None:
            self._do["restart_service"] = lambda _: self._take(Step.SERVICE)
            self._do["restart_box"] = lambda _: self._take(Step.REBOOT)

    @property
    def names(self) -> tuple[str, ...]:
        """The commands that are carried out here."""
        return tuple(sorted(self._do))

    async def run(self, name: str, args: Any) -> Done:
        """Carry out a command whose arguments are of its row; what the system refuses is told as FAILED."""
        do = self._do.get(name)
        if do is None:
            return Done(Outcome.UNSUPPORTED, MISSING.get(name, "needs systemd, which does not run here"))
        try:
            return await do(args)
        except NoPicture as error:
            return Done(Outcome.FAILED, str(error))
        except (OSError, BusError, FirmwareError) as error:
            # Only the class: what the system says may hold paths.
            return Done(Outcome.FAILED, f"the system refused ({type(error).__name__})")

    def tick(self) -> None:
        """Let time pass: a raised log level goes back."""
        if self._level_until_ms and self._times.mono_ms() >= self._level_until_ms:
            self._level_until_ms = 0
            self._set_level("")

    def keep_level(self, level: str) -> None:
        """How much the nodes tell while no command raises it; "" is what the configuration says."""
        self._level = level
        if not self._level_until_ms:
            self._set_level("")

    def resume(self) -> None:
        """After a start: a level that the uplink before this one raised goes back."""
        with suppress(OSError):
            if (self._run_dir / "log-level").exists():
                self._set_level("")

    async def _ping(self, _: Any) -> Done:
        return Done(
            Outcome.DONE, result={"uptime_s": self._times.mono_ms() // 1000, "clock": "synced" if self._times.synced() else "unsynced"}
        )

    async def _diagnostics(self, _: Any) -> Done:
        return Done(Outcome.DONE, result={"report": self._report()})

    async def _self_test(self, _: Any) -> Done:
        checks = self._check()
        return Done(Outcome.DONE, result={"passed": all(checks.values()), "checks": checks})

    async def _snapshot(self, args: Snapshot) -> Done:
        return Done(Outcome.DONE, result=await take(*self._ring, args.width, self._times.mono_ms() * 1_000_000))

    async def _restart_node(self, args: RestartNode) -> Done:
        if args.node == "uplink":
            asyncio.get_running_loop().call_later(_FAREWELL_S, self._stop)  # the answer is kept first
            return Done(Outcome.DONE, "the uplink ends now; the supervisor starts it again")
        if not signal_nodes(self._supervisor, (args.node,), signal.SIGTERM):
            return Done(Outcome.FAILED, "no such node runs")
        return Done(Outcome.DONE, "told to end; the supervisor starts it again")

    async def _log_level(self, args: LogLevel) -> Done:
        self._set_level(args.level)
        self._level_until_ms = self._times.mono_ms() + args.minutes * 60_000
        return Done(Outcome.DONE, result={"until_ms": self._times.wall_ms() + args.minutes * 60_000})

    async def _volume(self, args: Volume) -> Done:
        return self._setting("volume", args.level)

    async def _brightness(self, args: Brightness) -> Done:
        return self._setting("brightness", args.level)

    async def _language(self, args: Language) -> Done:
        return self._setting("language", args.tag)

    async def _governor(self, args: Governor) -> Done:
        return await self._hold(args.rung, args.minutes)

    async def _switch_pack(self, args: SwitchPack) -> Done:
        return await self._switch(args.pack)

    def _setting(self, name: str, value: Value) -> Done:
        why = self._set(name, value)
        if why:
            return Done(Outcome.REFUSED, why)
        return Done(Outcome.DONE, "it holds until the uplink or the kiosk is started again; a setting stays")

    def _set_level(self, level: str) -> None:
        path, level = self._run_dir / "log-level", level or self._level
        if level:
            path.write_text(level.upper())
        else:
            path.unlink(missing_ok=True)
        signal_nodes(self._supervisor, [row.name for row in topology.NODES if not row.external], signal.SIGUSR2)

    async def _take(self, step: Step) -> Done:
        assert self._step is not None
        await asyncio.get_running_loop().run_in_executor(None, self._step, step)
        return Done(Outcome.DONE, "asked for: it comes within seconds, unless the box has restarted too often")


def limit_s(name: str) -> float:
    """How long a command may take."""
    return _LIMITS_S.get(name, _LIMIT_S)


def by_systemd() -> Callable[[Any], None] | None:
    """How restarts are asked for; None where systemd does not run (sd_booted(3))."""
    if not Path("/run/systemd/system").is_dir():
        return None
    from firmware.health import ThisBox

    return ThisBox("").take


def node_pids(supervisor: int, proc: Path = Path("/proc")) -> dict[str, int]:
    """Process ids of the supervisor's nodes by name: its children that are called vv-NODE, so those that can be signalled."""
    found = {}
    for task in (proc / str(supervisor) / "task").glob("[0-9]*"):
        with suppress(OSError):
            for pid in (task / "children").read_text().split():
                with suppress(OSError):
                    name = (proc / pid / "comm").read_text().strip()
                    if name.startswith("vv-"):
                        found[name[3:]] = int(pid)
    return found


def signal_nodes(supervisor: int, names: Iterable[str], what: signal.Signals) -> int:
    """Signal these nodes; returns how many were there."""
    pids, told = node_pids(supervisor), 0
    for name in names:
        if name not in pids:
            continue
        with suppress(ProcessLookupError):
            process = os.pidfd_open(pids[name])  # from here on the number cannot become somebody else's
            try:
                if node_pids(supervisor).get(name) == pids[name]:
                    signal.pidfd_send_signal(process, what)
                    told += 1
            finally:
                os.close(process)
    return told


def diagnostics(house: House | None, more: dict[str, Any]) -> dict[str, Any]:
    """Counters of all nodes, links and rings, bounded: names of the two tables and numbers, nothing else."""
    links = {row.name for row in topology.LINKS}
    rings = {row.ring.name for row in topology.LINKS if row.ring is not None}
    names = {row.name for row in topology.NODES} | {topology.SUPERVISOR}
    states = {state.value for state in NodeState}
    nodes: dict[str, Any] = {}
    for name, node in (house.nodes if house is not None else {}).items():
        if name not in names:
            continue
        nodes[name] = {"state": node.state if node.state in states else "", "restarts": node.restarts, "process": node.process}
        if node.stats is not None:
            nodes[name]["links"] = {link: _numbers(stats) for link, stats in node.stats.links.items() if link in links}
            nodes[name]["rings"] = {ring: _numbers(stats) for ring, stats in node.stats.rings.items() if ring in rings}
            nodes[name]["unsent"] = {link: count for link, count in node.stats.unsent.items() if link in links}
    report = {"nodes": nodes, **more}
    for detail in ("links", "rings", "process"):
        if len(msgspec.json.encode(report)) <= MOST_REPORT:
            break
        for node_report in nodes.values():
            node_report.pop(detail, None)
    return msgspec.to_builtins(report)  # type: ignore[no-any-return]


def _numbers(stats: LinkStats | RingStats) -> dict[str, int]:
    """The counters of a link or ring; reasons of drops are added up, because they are text."""
    found = {name: value for name in stats.__struct_fields__ if isinstance(value := getattr(stats, name), int)}
    return {**found, "dropped": sum(stats.dropped.values())}
