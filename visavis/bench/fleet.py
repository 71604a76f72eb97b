"""The fleet under load, on loopback: the controller with its mosquitto, simulated boxes, and real uplinks with their outbox on the disk.

What was sent is counted from the ledgers of simulator and uplinks, never from the store. `ingest_lag_s` is from a box's publish to the
moment when another connection to the store sees the event (it looks every 20 ms). `console_ms` is a request from this machine from
its first byte to the answer's last. `storm_back_s` is from SIGKILL of the broker until every box is connected again. CPU is in percent of
one core over the time of load, where the real uplinks have an event each second; `uplink_at_rest` is for the reports alone, over the half
minute after it. `cpu_ms_a_connection` is what each process took until all boxes were connected (handshake, first reports,
the start of the process), by box; `cpu_ms_a_message` what it took under load, by message of a simulated box. `growth` generates the store
of a chain and times the console's queries on it.
"""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from fleet import inventory
from fleet.database import Database
from runtime.telemetry.times import SystemTimes
from visavis import _processes
from visavis.bench._fleet_growth import grow
from visavis.bench._fleet_house import Controller, Simulator, Uplink, wait_for
from visavis.bench._fleet_probes import Commands, Lag, Pages, running
from visavis.bench.report import BenchError
from visavis.rehearse.measure import quantiles
from visavis.simulate import ledger, proof
from visavis.simulate.ledger import Record

__all__ = ["KILLS", "run"]

KILLS = ("broker", "controller", "device")
_UPLINKS = 5
_BACK_S = 600.0
_DRAIN_S = 180.0
_LOST_S = 90.0
_KILL_EVERY_S = (15.0, 45.0)


def run(devices: int = 0, minutes: float = 5.0, *, health_s: float = 10.0, faults: str = "", storm: bool = False, kill: str = "",
        seed: int = 1, growth: bool = False, days: int = 30, database: str = "") -> dict[str, Any]:  # fmt: skip
    """Figures of one run; `devices` 0 is 200, with `growth` 1000. Raises BenchError if it does not come about."""
    if growth:
        return grow(devices=devices or 1000, days=days, seed=seed, database=database)
    devices = devices or 200
    kinds = tuple(name.strip() for name in kill.split(",") if name.strip())
    if set(kinds) - set(KILLS):
        raise BenchError(f"--kill takes {', '.join(KILLS)}, with commas between")
    with tempfile.TemporaryDirectory(prefix="visavis-bench-fleet-") as name, ExitStack() as stack:
        bench = _Bench(stack, Path(name), devices=devices, health_s=health_s, faults=faults, seed=seed)
        figures = bench.load(minutes * 60, storm=storm, kinds=kinds)
        return {"devices": devices, "health_s": health_s, "minutes": minutes, "faults": faults, "kill": ",".join(kinds)} | figures


class _Bench:
    """The processes of one run, and what is asked of them."""

    def __init__(self, stack: ExitStack, folder: Path, *, devices: int, health_s: float, faults: str, seed: int) -> None:
        self._rng, self._times = Random(seed), SystemTimes()
        self._controller = Controller(folder / "controller")
        stack.callback(self._controller.stop)
        self._uplinks = []
        for number in range(_UPLINKS):
            self._uplinks.append(Uplink(self._controller, folder / f"uplink-{number}", f"real-{number}"))
            stack.callback(self._uplinks[-1].close)
        self._ledger = folder / "ledger"
        self._simulator = Simulator(self._controller, self._ledger, devices=devices, health_s=health_s, faults=faults, seed=seed)
        stack.callback(self._simulator.close)
        self._boxes = [f"sim-{number:05}" for number in range(devices)]
        self._killed = dict.fromkeys(KILLS, 0)
        self._cpu_from: dict[str, float] = {}

    def load(self, seconds: float, *, storm: bool, kinds: tuple[str, ...]) -> dict[str, Any]:
        """All figures of the run."""
        wait_for("the connection of all boxes", lambda: self._simulator.complete, _BACK_S)
        each = {name: round(1000 * spent / self._simulator.seen.devices, 2) for name, spent in self._cpu().items() if name != "uplink"}
        lag, pages = Lag(self._controller), Pages(self._controller, self._boxes, 1)
        commands = Commands(self._controller, [*(one.name for one in self._uplinks), *self._boxes[:20]], 2)
        began, kept = self._times.mono_ms(), self._simulator.seen.counts.get("kept", 0)
        self._cpu_from = self._cpu()
        wrote = _processes.written_mb(self._controller.pid)
        with running(lag, pages, commands):
            self._spend(seconds / 2 if storm else seconds, kinds)
            back_s = self._storm() if storm else None
            if storm:
                self._spend(seconds / 2, kinds)
            took_s = (self._times.mono_ms() - began) / 1000
            cpu = {name: round(100 * (now - self._cpu_from.get(name, 0.0)) / took_s, 1) for name, now in self._cpu().items()}
            sent = max(1, self._simulator.seen.counts.get("kept", 0) - kept)
            wrote = _processes.written_mb(self._controller.pid) - wrote  # of one life: nonsense after a kill
            memory = {name: round(_processes.pss_mb(pid), 1) for name, pid in self._pids().items()}
        resting = self._uplinks[-1]
        resting.quieten()
        began, before = self._times.mono_ms(), _processes.cpu_s(resting.pid)
        offline_s = self._one_is_lost()
        at_rest = round(100_000 * (_processes.cpu_s(resting.pid) - before) / (self._times.mono_ms() - began), 2)
        self._drain()
        record = ledger.read(self._ledger)
        verdict = proof.compare(record, self._controller.db)
        real = _real(self._controller.db, self._uplinks)
        answered = _answered(self._controller.db, commands.ordered)
        alerts = _alerts(self._controller.db)
        return {
            "lost": verdict.lost + real["lost"],
            "duplicates_in_effect": verdict.duplicates_in_effect + real["duplicates"] + answered["answered_twice"] + alerts["twice"],
            "ingest_lag_s": _lags(record, lag),
            "console_ms": quantiles([ms for page in pages.took_ms.values() for ms in page]),
            "console_page_ms": {name: quantiles(took) for name, took in pages.took_ms.items()},
            "console_failed": pages.failed,
            "storm_back_s": back_s,
            "offline_detected_s": offline_s,
            "cpu": cpu | {"uplink_at_rest": at_rest},
            "cpu_ms_a_connection": each,
            "cpu_ms_a_message": {name: round(10 * cpu[name] * took_s / sent, 3) for name in ("broker", "controller", "simulator")},
            "controller_writes_mb_a_second": None if self._killed["controller"] else round(wrote / took_s, 2),
            "pss_mb": memory,
            "messages_a_second": round(sent / took_s, 1),
            "killed": self._killed,
            "simulated": msgspec.structs.asdict(verdict) | {"examples": list(verdict.examples)},
            "real_uplinks": real,
            "commands": answered,
            "alerts": alerts,
            "connects": self._simulator.seen.counts.get("connects", 0),
        }

    # --- what happens

    def _spend(self, seconds: float, kinds: tuple[str, ...]) -> None:
        end, pause = self._times.mono_ms() + seconds * 1000, threading.Event()
        while (left := (end - self._times.mono_ms()) / 1000) > 0:
            pause.wait(min(left, self._rng.uniform(*_KILL_EVERY_S) if kinds else left))
            self._simulator.check()
            if kinds and self._times.mono_ms() < end:
                self._kill(self._rng.choice(kinds))

    def _kill(self, kind: str) -> None:
        self._killed[kind] += 1
        if kind == "broker":
            self._controller.kill_broker()
        elif kind == "controller":
            self._controller.kill()
        else:
            self._rng.choice(self._uplinks).kill()

    def _storm(self) -> float:
        began = self._times.mono_ms()
        self._killed["broker"] += 1
        self._controller.kill_broker()
        wait_for("the loss of all connections", lambda: self._simulator.seen.connected < self._simulator.seen.devices / 2, 60)
        wait_for("the return of all boxes", lambda: self._simulator.complete, _BACK_S)
        return round((self._times.mono_ms() - began) / 1000, 1)

    def _one_is_lost(self) -> float | None:
        """Seconds from the SIGKILL of a real uplink until the controller says so; it then lives again."""
        uplink = self._uplinks[0]

        def state() -> str:
            found = inventory.device(self._controller.db, uplink.name)
            return found.state if found else ""

        wait_for("the connection of the real uplinks", lambda: state() == "online", _BACK_S)
        began = self._times.mono_ms()
        uplink.end()
        wait_for("the loss of a real uplink", lambda: state() in ("lost", "silent"), _LOST_S)
        took = (self._times.mono_ms() - began) / 1000
        uplink.kill()
        return round(took, 1)

    def _drain(self) -> None:
        for uplink in self._uplinks:
            uplink.quieten()
        self._simulator.finish()

        def arrived() -> bool:
            return _real(self._controller.db, self._uplinks)["lost"] == 0

        try:
            wait_for("the arrival of all events of the real uplinks", arrived, _DRAIN_S, 1.0)
        except BenchError:
            return  # it is counted as lost

    # --- who takes what

    def _pids(self) -> dict[str, int]:
        controller = self._controller
        return {
            "broker": controller.broker,
            "controller": controller.pid,
            "simulator": self._simulator.pid,
            "uplink": self._uplinks[-1].pid,
        }

    def _cpu(self) -> dict[str, float]:
        taken = self._controller.cpu_s() | {"simulator": _processes.cpu_s(self._simulator.pid)}
        # A process that was killed meanwhile has a new count: then there is no figure for it.
        return taken if any(uplink.kills for uplink in self._uplinks) else taken | {"uplink": _processes.cpu_s(self._uplinks[-1].pid)}


def _lags(record: Record, lag: Lag) -> Any:
    """Of events that were published after the first look; what waited on a box before it was published does not count."""
    first = min(lag.visible_ms.values(), default=0)
    found = [
        (seen - kept.sent_ms) / 1000
        for key, seen in lag.visible_ms.items()
        if (kept := record.messages.get(key)) is not None and kept.sent_ms > first
    ]
    return quantiles(found)


def _real(db: Database, uplinks: list[Uplink]) -> dict[str, int]:
    """The ledgers of the real uplinks against the store."""
    kept = lost = duplicates = 0
    for uplink in uplinks:
        stored: dict[int, int] = {}
        for (details,) in db.read("SELECT details FROM event WHERE device = ? AND code = 'node_ready'", uplink.name):
            number = msgspec.json.decode(details).get("restarts", 0)
            stored[number] = stored.get(number, 0) + 1
        numbers = uplink.kept()
        kept += len(numbers)
        lost += sum(number not in stored for number in numbers)
        duplicates += sum(count - 1 for count in stored.values())
    return {"uplinks": len(uplinks), "kept": kept, "lost": lost, "duplicates": duplicates, "kills": sum(one.kills for one in uplinks)}


def _answered(db: Database, ordered: list[tuple[str, str]]) -> dict[str, int]:
    """What became of the commands; `answered_twice`: more runs on a box than commands to it."""
    states: dict[str, int] = {"ordered": len(ordered), "answered": 0, "interrupted": 0, "answered_twice": 0}
    for box, id_ in ordered:
        for state, outcome in db.read("SELECT state, outcome FROM command WHERE id = ? AND device = ?", id_, box):
            states["answered"] += state == "answered"
            states["interrupted"] += outcome == "interrupted"
    for box in {box for box, _ in ordered}:
        runs = db.read("SELECT count(*) FROM event WHERE device = ? AND code = 'command_run'", box)[0][0]
        # The store's own count: the answer to an order may have been cut off by a kill, and then it is not in `ordered`.
        states["answered_twice"] += max(0, runs - db.read("SELECT count(*) FROM command WHERE device = ?", box)[0][0])
    return states


def _alerts(db: Database) -> dict[str, int]:
    """Alerts that were raised; `twice`: of the same rule, box and subject while the one before was not over."""
    same = "a.rule = b.rule AND a.device = b.device AND a.subject = b.subject"
    during = "(b.fired > a.fired OR (b.fired = a.fired AND b.id > a.id)) AND (a.resolved = 0 OR b.fired < a.resolved)"
    twice = db.read(f"SELECT count(*) FROM alert a JOIN alert b ON {same} AND {during}")[0][0]  # noqa: S608 - ours
    return {"raised": int(db.read("SELECT count(*) FROM alert")[0][0]), "twice": int(twice)}
