"""How a simulated box obeys: by the real rules (`judge`, `Levers`), a command once, its answer again when it is asked for again.

What only hardware could do is pretended where it shows in the console: a restart is a new birth, an update another version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from runtime import telemetry as t
from runtime.telemetry.commands import judge
from runtime.telemetry.levers import Levers
from runtime.telemetry.times import Times
from visavis.simulate.codec import Publish

__all__ = ["COMMANDS", "Obedience"]

COMMANDS = ("ping", "self_test", "restart_node", "restart_service", "restart_box", "volume", "brightness", "language", "governor", "update")
_TAKES_S = {"update": (5.0, 30.0), "restart_box": (10.0, 40.0), "restart_service": (3.0, 8.0)}
_QUICK_S = (0.02, 0.5)
_EVERYBODY = frozenset(t.Duty)


class Obedience:
    """`put(kind, body, corr)` keeps a message, `event(code, names, numbers)` an event; `did(command)` notes that it was carried out."""

    def __init__(
        self,
        *,
        times: Times,
        rng: Random,
        levers: Levers,
        put: Callable[[t.UpKind, msgspec.Struct, bytes], None],
        event: Callable[[str, dict[str, str], dict[str, int]], None],
        did: Callable[[t.Command], None],
    ) -> None:
        self._times, self._rng, self._levers = times, rng, levers
        self._put, self._event, self._did = put, event, did
        self._answers: dict[str, t.Answer | None] = {}
        self._repeated_ms: dict[str, int] = {}
        self._version = 0

    def command(self, command: t.Command, came: Publish) -> None:
        """Carry it out, refuse it, or answer again."""
        if command.id in self._answers:
            self._again(command.id, came.correlation)
            return
        refusal = judge(command, _EVERYBODY, self._times.wall_ms(), synced=self._times.synced(), expiry_s=came.expiry_s)
        if refusal is not None:
            if refusal.answered:
                outcome = t.Outcome.UNSUPPORTED if refusal is t.Refusal.UNKNOWN else t.Outcome.REFUSED
                self._answer(t.Answer(id=command.id, name=command.name, outcome=outcome, reason=refusal.value), came.correlation)
            return
        self._answers[command.id] = None
        if command.name not in COMMANDS:
            reason = "a simulated box cannot do it"
            self._answer(t.Answer(id=command.id, name=command.name, outcome=t.Outcome.UNSUPPORTED, reason=reason), came.correlation)
            return
        seconds = self._rng.uniform(*_TAKES_S.get(command.name, _QUICK_S))
        asyncio.get_running_loop().call_later(seconds, self._finish, command, came.correlation, self._times.mono_ms())

    def settings(self, shadow: t.Shadow) -> None:
        """Apply desired settings and tell what became of them; older ones are ignored."""
        if shadow.version > self._version:
            self._version = shadow.version
            reported, refused = self._levers.apply(shadow.desired)
            self._put(t.UpKind.SHADOW, t.Reported(version=shadow.version, reported=reported, refused=refused), b"")

    def _finish(self, command: t.Command, correlation: bytes, began_ms: int) -> None:
        self._did(command)
        result: dict[str, Any] = {}
        if command.name == "ping":
            result = {"uptime_s": self._times.mono_ms() // 1000, "clock": "synced" if self._times.synced() else "unsynced"}
        elif command.name == "self_test":
            result = {"passed": True, "checks": {"simulated": True}}
        took = self._times.mono_ms() - began_ms
        self._answer(t.Answer(id=command.id, name=command.name, outcome=t.Outcome.DONE, result=result, took_ms=took), correlation)
        self._event("command_run", {"name": command.name, "outcome": "done"}, {})

    def _answer(self, answer: t.Answer, correlation: bytes) -> None:
        self._answers[answer.id] = answer
        self._put(t.UpKind.JOB, answer, correlation)

    def _again(self, id: str, correlation: bytes) -> None:  # noqa: A002
        """At most once a minute, and only when there is an answer."""
        answer, now = self._answers[id], self._times.mono_ms()
        if answer is not None and now - self._repeated_ms.get(id, -60_000) >= 60_000:
            self._repeated_ms[id] = now
            self._put(t.UpKind.JOB, answer, correlation)
