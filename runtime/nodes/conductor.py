"""The conductor: runs the floor. Small and engine-free, so that nothing it does can be late because of a model."""

from __future__ import annotations

from typing import Any

import msgspec

from engines.voice_activity.endpoint import conclude, endpoint_wait_ms
from runtime.bus import LinkError
from runtime.context import Context
from runtime.conversation.floor import Back, Event, FloorRules, FloorState, Tick, decide, floor_of
from runtime.conversation.interruption import overlap_rules
from runtime.messages import Ask, Heard, HeardKind, NodeEvent, NodeState, Playhead, Posture, Say, Sound, SoundAction

__all__ = ["Conductor", "main", "rules_of"]

MS = 1_000_000
_FLOOR_EVERY_NS = 1000 * MS
# A node that is ready again may still be making its connections: what is published in that moment would be lost.
_BACK_AFTER_NS = 150 * MS
_SILENT_NS = 5000 * MS
"""A voice without news of the loudspeaker for so long is over (the stage tells 30 times a second, and waits 3 s for a lost page)."""
_ANSWERERS = ("dialogue", "voice", "stage")
_BACK_LIMIT_NS = 20_000 * MS
"""A node that is away for so long is not about to come back: no visitor waits for it, whatever the supervisor still tries."""


class Conductor:
    """Feeds events to the floor's rules and executes their actions; keeps the state in the checkpoint."""

    def __init__(self, ctx: Context, rules: FloorRules) -> None:
        self._ctx, self._rules = ctx, rules
        saved = ctx.checkpoint.load()
        self.state = msgspec.msgpack.decode(saved, type=FloorState) if saved else FloorState(active_ns=ctx.clock.monotonic_ns())
        self._published_ns = 0
        self._playhead = 0
        self._sounding_ns = ctx.clock.monotonic_ns()
        self._away: dict[str, tuple[NodeState, int]] = {}  # nodes that were here before and are not now, and since when
        self._back: list[tuple[int, str]] = []

    def wait_s(self) -> float:
        """How long nothing can change by time alone."""
        busy = self.state.posture is Posture.LISTENING or self.state.barge is not None or self._back
        return 0.01 if busy else 0.1

    def handle(self, link: str, message: Any) -> None:
        """Take one message of any link."""
        if isinstance(message, Playhead):
            self._follow(message)
        elif isinstance(message, NodeEvent):
            self._node(message)
        elif link in ("activity", "words", "reply", "speech", "heard", "visitor"):
            self._step(message)

    def tick(self) -> None:
        """Let time pass."""
        now = self._ctx.clock.monotonic_ns()
        for due in [due for due in self._back if due[0] <= now]:
            self._back.remove(due)
            self._sounding_ns = now
            self._step(Back(due[1], self._playhead))
        if self._answer_is_coming:
            self._sounding_ns = now
        else:
            self._notice_silence(now)
            self._step(Tick())
        if now - self._published_ns >= _FLOOR_EVERY_NS:
            self._publish(now)

    @property
    def _answer_is_coming(self) -> bool:
        """Whether the visitor waits for an answer, and a node that it needs is about to come back: no time to give up."""
        now = self._ctx.clock.monotonic_ns()
        away = [self._away[name] for name in _ANSWERERS if name in self._away]
        returning = any(state is not NodeState.GIVEN_UP and now - since < _BACK_LIMIT_NS for state, since in away)
        return (returning or bool(self._back)) and self.state.posture in (Posture.THINKING, Posture.SPEAKING) and not self.state.barge

    def _follow(self, at: Playhead) -> None:
        """The loudspeaker's place; it also says what a Heard would have said that was lost with an earlier life of ours."""
        self._playhead = at.index
        now = self._ctx.clock.monotonic_ns()
        if at.playing and at.turn == self.state.turn:
            self._sounding_ns = now
            if self.state.posture is Posture.THINKING and at.t_ns <= now:
                self._step(Heard(at.turn, at.t_ns, HeardKind.STARTED, at.index))

    def _notice_silence(self, now: int) -> None:
        """A voice of which nothing is heard any more has ended, even if nobody said so."""
        if self.state.posture is not Posture.SPEAKING:
            self._sounding_ns = now
        elif now - self._sounding_ns > _SILENT_NS:
            self._step(Heard(self.state.turn, now, HeardKind.FINISHED, self._playhead))

    def _node(self, event: NodeEvent) -> None:
        now = self._ctx.clock.monotonic_ns()
        if event.state is not NodeState.READY:  # its very first start is no absence
            if event.restarts or event.state is not NodeState.STARTING:
                _, since = self._away.get(event.node, (event.state, now))
                self._away[event.node] = event.state, since
        elif self._away.pop(event.node, None) is not None:
            self._back.append((now + _BACK_AFTER_NS, event.node))

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
            self._act(action, before.granted)
        if self.state.granted != before.granted and self.state.granted == self.state.turn:
            self._ctx.mark("granted", self.state.turn, now)
        if self.state.visit != before.visit:
            self._ctx.checkpoint.erase()
        self._ctx.checkpoint.save(msgspec.msgpack.encode(self.state))

    def _act(self, action: Ask | Say | Sound, stopped: int) -> None:
        link = "ask" if isinstance(action, Ask) else "say" if isinstance(action, Say) else "sound"
        try:
            self._ctx.send(link, action)
        except LinkError as error:  # its reader has died: what is lost with it is repeated when it is back
            self._ctx.log.warning("%s", error)
            return
        if isinstance(action, Ask):
            self._ctx.mark("asked", action.turn, action.t_ns)
        elif isinstance(action, Sound) and action.action is SoundAction.STOP:
            # The stop belongs to the record of the turn that was sounding, not to the one that begins with it.
            self._ctx.mark("stop", stopped, action.t_ns)

    def _publish(self, now: int) -> None:
        self._published_ns = now
        self._ctx.publish("floor", floor_of(self.state, now))


def _told(state: FloorState) -> tuple[object, ...]:
    return (state.turn, state.granted, state.visit, state.posture, state.session, bool(state.countdown_ns))


def rules_of(ctx: Context) -> FloorRules:
    """The floor's parameters from configuration and pack."""
    config, pack = ctx.config, ctx.pack

    def wait_ms(complete: float, speech_ms: float, longest_pause_ms: float) -> float:
        return min(max(endpoint_wait_ms(complete, speech_ms, longest_pause_ms), config.turn.min_wait_ms), config.turn.max_wait_ms)

    asks_for_time = frozenset(pack.spoken("wait")) if "wait" in pack.talk else frozenset()

    def with_words(complete: float, ends: float, confidence: float, text: str) -> float:
        return conclude(complete, ends, confidence, asked_for_time=text in asks_for_time).complete

    return FloorRules(
        endpoint_wait_ms=wait_ms,
        conclude=with_words,
        overlap=overlap_rules(pack, config.turn.interrupt_ms),
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
