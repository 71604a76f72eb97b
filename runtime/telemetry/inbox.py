"""What comes from the fleet: acknowledgements, settings, commands. Whatever is wrong with them is counted, logged once, and harmless."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from runtime.telemetry import contract as c
from runtime.telemetry.commands import Duty, Refusal, arguments, command_kind, judge
from runtime.telemetry.executors import Done, limit_s
from runtime.telemetry.outbox import Outbox
from runtime.telemetry.settings import Value, setting_kind
from runtime.telemetry.times import Times
from runtime.telemetry.uplink import Sender
from runtime.telemetry.wire import Came

__all__ = ["Inbox"]

log = logging.getLogger("fleet")

MOST_AT_ONCE = 8
MOST_CORRELATION = 256
_TELL_AGAIN_MS = 3600_000
_REFUSALS_PER_MINUTE = 20
"""Refusals that are answered; of more, only the count goes on: an answer costs a write to the disk."""


class Inbox:
    """Takes messages from the wire. `execute(name, args)` carries out a command, `event` keeps an event, `apply(desired)` sets what is
    wanted and returns the settings as they are and why wanted ones are not, `held()` the rung that a command holds and until when; as long
    as `moving()` says that something is on its way, the fleet is told none of that. `told(ts)` hears the fleet's time,
    `renewed(certificate, reason)` what became of a request for a certificate.
    """

    def __init__(
        self,
        *,
        tenant: str,
        device: str,
        allow: frozenset[Duty],
        times: Times,
        outbox: Outbox,
        execute: Callable[[str, Any], Awaitable[Done]],
        event: Callable[[str, dict[str, str], dict[str, int]], None],
        apply: Callable[[Mapping[str, Value]], tuple[dict[str, Value], dict[str, str]]],
        held: Callable[[], tuple[int, int] | None] = lambda: None,
        moving: Callable[[], bool] = lambda: False,
        told: Callable[[int], None] = lambda _: None,
        renewed: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self.refused: Counter[str] = Counter()
        self.repeated = 0
        """Commands and settings that were known already: a controller that is not sure sends again, which is no mistake."""
        self._own = {c.topic(tenant, device, kind): kind for kind in c.DownKind}
        self._answers = c.topic(tenant, device, c.UpKind.JOB)
        self._allow, self._times, self._outbox = allow, times, outbox
        self._execute, self._event, self._apply = execute, event, apply
        self._held, self._moving, self._told, self._renewed = held, moving, told, renewed
        self._owed = False
        self._told_ms: dict[str, int] = {}
        self._running: dict[str, asyncio.Task[None]] = {}  # the loop itself holds tasks only weakly
        self._minute, self._answered = 0, 0
        self._again_ms: dict[str, int] = {}
        self._settings = c.Shadow(version=0, desired={})

    def begin(self) -> None:
        """After a start: apply the settings that were kept, tell if they are not what was told last, answer what was interrupted."""
        kept = self._outbox.setting("shadow")
        if kept:
            with suppress(msgspec.MsgspecError):  # of another release
                self._settings = msgspec.json.decode(kept, type=c.Shadow)
        self._set()
        for id_ in self._outbox.interrupted():
            self._answer(c.Answer(id=id_, name="", outcome=c.Outcome.INTERRUPTED, reason="the uplink was restarted meanwhile"), b"")

    def take(self, came: Came, sender: Sender) -> None:
        """Deal with one message; when this returns it may be acknowledged to the broker."""
        kind = self._own.get(came.topic)
        if kind is None:
            self._refuse("topic")
            return
        if came.retained:  # it would come again with every connection
            self._refuse("retained")
            return
        try:
            envelope, body = c.decode_down(came.payload, kind)
        except c.TooLarge:
            self._refuse("too_large")
        except c.Malformed:
            self._refuse("malformed")
        else:
            self._told(envelope.ts)
            if isinstance(body, c.Renewed):
                self._renewed(body.certificate, body.reason)
            elif isinstance(body, c.Ack):
                now = self._times.mono_ms()
                for acked in body.acked:
                    sender.again(self._outbox.remove(sender.acked(acked, now)), now)
            elif isinstance(body, c.Shadow):
                self._shadow(body)
            else:
                self._command(body, came)

    # --- settings

    def changed(self) -> None:
        """Something in what is reported may have changed: tell it, if it has."""
        self._set()

    def _shadow(self, shadow: c.Shadow) -> None:
        if shadow.version < self._settings.version:
            self._refuse("old_version")
        elif shadow.version == self._settings.version:
            self.repeated += 1
            if self._may_repeat("shadow"):
                self._set(tell=True)
        else:
            self._settings = shadow
            self._outbox.keep("shadow", msgspec.json.encode(shadow).decode())  # first: what is told has to be true after a power cut too
            self._set(tell=True)

    def _set(self, *, tell: bool = False) -> None:
        """Set what is wanted and tell; later, if something is on its way there: what the fleet hears of a version is final."""
        reported, refused = self._apply(self._settings.desired)
        self._owed = tell = tell or self._owed
        if self._moving():
            return
        self._owed = False
        rung, until = self._held() or (msgspec.UNSET, msgspec.UNSET)
        version = self._settings.version
        body = c.encode(c.Reported(version=version, reported=reported, refused=refused, held_rung=rung, held_until=until))
        if tell or body.decode() != self._outbox.setting("reported"):
            self._outbox.put(c.UpKind.SHADOW, body)
            self._outbox.keep("reported", body.decode())

    # --- commands

    def _command(self, command: c.Command, came: Came) -> None:
        if came.response_topic not in ("", self._answers) or len(came.correlation) > MOST_CORRELATION:
            self._refuse("response_topic")
            return
        begun, answer = self._outbox.command(command.id)
        if begun:
            self._again(command.id, answer, came.correlation)
            return
        refusal = judge(command, self._allow, self._times.wall_ms(), synced=self._times.synced(), expiry_s=came.expiry_s)
        if refusal is not None:
            self._refuse(refusal.value)
            if refusal.answered and self._may_answer():
                outcome = c.Outcome.UNSUPPORTED if refusal is Refusal.UNKNOWN else c.Outcome.REFUSED
                name = command.name if command_kind(command.name) else ""
                self._answer(c.Answer(id=command.id, name=name, outcome=outcome, reason=refusal.value), came.correlation)
            return
        if not self._outbox.room_for_answers:
            self._refuse("no_room")
            return
        self._start(command, came.correlation)

    def _start(self, command: c.Command, correlation: bytes) -> None:
        if len(self._running) >= MOST_AT_ONCE:
            self._refuse("busy")
            if self._may_answer():
                self._answer(c.Answer(id=command.id, name=command.name, outcome=c.Outcome.FAILED, reason="busy"), correlation)
            return
        row = command_kind(command.name)
        kept = self._outbox.begin(command.id)
        if not kept and row is not None and row.duty is not Duty.OBSERVE:
            # After a crash nobody would know that it was done already.
            reason = "the disk takes no records"
            self._answer(c.Answer(id=command.id, name=command.name, outcome=c.Outcome.REFUSED, reason=reason), correlation)
            return
        task = asyncio.get_running_loop().create_task(self._run(command, correlation))
        self._running[command.id] = task
        task.add_done_callback(lambda _: self._running.pop(command.id))

    async def _run(self, command: c.Command, correlation: bytes) -> None:
        began = self._times.mono_ms()
        try:
            done = await asyncio.wait_for(self._execute(command.name, arguments(command)), limit_s(command.name))
        except asyncio.TimeoutError:
            done = Done(c.Outcome.FAILED, "took too long")
        except Exception as error:  # without an answer the fleet would wait for one, and not dare to ask again
            log.exception("the command %s broke", command.name)
            done = Done(c.Outcome.FAILED, f"not foreseen ({type(error).__name__}), see the box's log")
        took = self._times.mono_ms() - began
        made = c.Answer(id=command.id, name=command.name, outcome=done.outcome, reason=done.reason, result=done.result, took_ms=took)
        if len(c.encode(made)) > c.MAX_UP - 1024:
            made = c.Answer(id=command.id, name=command.name, outcome=c.Outcome.FAILED, reason="the answer is too large", took_ms=took)
        self._answer(made, correlation)
        if setting_kind(command.name) is not None:
            self._set()  # it is told how it is now
        self._event("command_run", {"name": command.name, "outcome": made.outcome.value}, {})

    def _answer(self, answer: c.Answer, correlation: bytes) -> None:
        self._outbox.put(c.UpKind.JOB, c.encode(answer), correlation)

    def _again(self, id: str, answer: bytes | None, correlation: bytes) -> None:  # noqa: A002
        """A command that is known: it is not carried out again, but its answer is sent again, at most once a minute."""
        self.repeated += 1
        if answer is not None and self._may_repeat(id) and self._may_answer():
            self._outbox.put(c.UpKind.JOB, answer, correlation)

    def _may_repeat(self, what: str) -> bool:
        now = self._times.mono_ms()
        self._again_ms = {known: when for known, when in self._again_ms.items() if now - when < 60_000}
        if what in self._again_ms:
            return False
        self._again_ms[what] = now
        return True

    def _may_answer(self) -> bool:
        minute = self._times.mono_ms() // 60_000
        if minute != self._minute:
            self._minute, self._answered = minute, 0
        self._answered += 1
        return self._answered <= _REFUSALS_PER_MINUTE and self._outbox.room_for_answers

    def _refuse(self, cause: str) -> None:
        self.refused[cause] += 1
        now = self._times.mono_ms()
        if cause in self._told_ms and now - self._told_ms[cause] < _TELL_AGAIN_MS:
            return
        if cause not in self._told_ms:
            log.warning("a message from the fleet was not obeyed: %s (told once; counted in refused_messages)", cause.replace("_", " "))
        self._told_ms[cause] = now
        self._event("message_refused", {"cause": cause}, {"times": self.refused[cause]})
