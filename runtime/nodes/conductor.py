"""The conductor: runs the floor. Small and engine-free, so that nothing it does can be late because of a model."""

from __future__ import annotations

from typing import Any

import msgspec
from engines.voice_activity.endpoint import endpoint_wait_ms

from runtime.context import Context
from runtime.conversation.floor import Back, Event, FloorRules, FloorState, Tick, decide, floor_of
from runtime.conversation.interruption import OverlapRules, tokens
from runtime.messages import Ask, NodeEvent, NodeState, Playhead, Posture, Say, Sound, SoundAction

__all__ = ["Conductor", "main", "rules_of"]

MS = 1_000_000
_FLOOR_EVERY_NS = 1000 * MS
# A node that is ready again may still be making its connections: what is published in that moment would be lost.
_BACK_AFTER_NS = 150 * MS


class Conductor:
    """Feeds events to the floor's rules and executes their actions; keeps the state in the checkpoint."""

    def __init__(self, ctx: Context, rules: FloorRules) -> None:
        self._ctx, self._rules = ctx, rules
        saved = ctx.checkpoint.load()
        self.state = msgspec.msgpack.decode(saved, type=FloorState) if saved else FloorState(active_ns=ctx.clock.monotonic_ns())
        self._published_ns = 0
        self._playhead = 0
        self._down: set[str] = set()
        self._back: list[tuple[int, str]] = []

    def wait_s(self) -> float:
        """How long nothing can change by time alone."""
        busy = self.state.posture is Posture.LISTENING or self.state.barge is not None or self._back
        return 0.01 if busy else 0.1

    def handle(self, link: str, message: Any) -> None:
        """Take one message of any link."""
        if isinstance(message, Playhead):
            self._playhead = message.index
        elif isinstance(message, NodeEvent):
            self._node(message)
        elif link in ("activity", "words", "reply", "speech", "heard", "visitor"):
            self._step(message)

    def tick(self) -> None:
        """Let time pass."""
        now = self._ctx.clock.monotonic_ns()
        for due in [due for due in self._back if due[0] <= now]:
            self._back.remove(due)
            self._step(Back(due[1], self._playhead))
        self._step(Tick())
        if now - self._published_ns >= _FLOOR_EVERY_NS:
            self._publish(now)

    def _node(self, event: NodeEvent) -> None:
        if event.state in (NodeState.DOWN, NodeState.GIVEN_UP):
            self._down.add(event.node)
        elif event.state is NodeState.READY and event.node in self._down:
            self._down.discard(event.node)
            self._back.append((self._ctx.clock.monotonic_ns() + _BACK_AFTER_NS, event.node))

    def _step(self, event: Event) -> None:
        now = self._ctx.clock.monotonic_ns()
        before = self.state
        self.state, actions = decide(self._rules, before, event, now)
        if self.state is before:
            return
        # The floor first: a stage must know of a turn before its work arrives.
        if _told(before) != _told(self.state):
            self._publish(now)
        for action in actions:
            self._act(action)
        if self.state.granted != before.granted and self.state.granted == self.state.turn:
            self._ctx.mark("granted", self.state.turn, now)
        if self.state.visit != before.visit:
            self._ctx.checkpoint.erase()
        self._ctx.checkpoint.save(msgspec.msgpack.encode(self.state))

    def _act(self, action: Ask | Say | Sound) -> None:
        if isinstance(action, Ask):
            self._ctx.send("ask", action)
            self._ctx.mark("asked", action.turn, action.t_ns)
        elif isinstance(action, Say):
            self._ctx.send("say", action)
        else:
            self._ctx.send("sound", action)
            if action.action is SoundAction.STOP:
                self._ctx.mark("stop", action.turn, action.t_ns)

    def _publish(self, now: int) -> None:
        self._published_ns = now
        self._ctx.publish("floor", floor_of(self.state, now))


def _told(state: FloorState) -> tuple[object, ...]:
    return (state.turn, state.granted, state.visit, state.posture, state.session, bool(state.countdown_ns))


def rules_of(ctx: Context) -> FloorRules:
    """The floor's parameters from configuration and pack."""
    config, pack = ctx.config, ctx.pack
    backchannels = frozenset(word for phrase in pack.backchannels for word in tokens(phrase))
    stops = frozenset(word for kind in ("stop", "wait") if kind in pack.talk for phrase in pack.spoken(kind) for word in tokens(phrase)[:1])

    def wait_ms(complete: float, speech_ms: float, longest_pause_ms: float) -> float:
        return min(max(endpoint_wait_ms(complete, speech_ms, longest_pause_ms), config.turn.min_wait_ms), config.turn.max_wait_ms)

    return FloorRules(
        endpoint_wait_ms=wait_ms,
        overlap=OverlapRules(
            backchannels=backchannels, stop_words=stops | OverlapRules().stop_words, sustained_ms=config.turn.interrupt_ms
        ),
        resume_ms=config.turn.resume_ms,
        still_there_ms=config.session.still_there_s * 1000,
        wipe_ms=config.session.wipe_s * 1000,
        gone_ms=config.session.gone_s * 1000,
    )


def main(ctx: Context) -> None:
    """Run the floor until told to stop."""
    conductor = Conductor(ctx, rules_of(ctx))
    ctx.ready()
    while not ctx.stopping:
        for link, message in ctx.receive(conductor.wait_s()):
            conductor.handle(link, message)
        conductor.tick()
        ctx.beat()
