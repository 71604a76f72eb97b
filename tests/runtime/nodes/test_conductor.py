"""The conductor on a real bus."""

from __future__ import annotations

import time

import pytest

from runtime.clock import SystemClock
from runtime.conversation.floor import FloorRules, FloorState
from runtime.messages import (
    Activity,
    ActivityKind,
    Floor,
    Heard,
    HeardKind,
    InputKind,
    NodeEvent,
    NodeState,
    Playhead,
    Posture,
    Reply,
    Say,
    Sound,
    SoundAction,
    Transcript,
    VisitorInput,
)
from runtime.nodes.conductor import Conductor, rules_of
from tests.support.harness import LIMIT_S, Bench

RULES = FloorRules(endpoint_wait_ms=lambda *_: 100.0)


class House:
    """A conductor between real contexts of its neighbours, pumped by hand."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ctx = bench.context("conductor")
        self.near = {name: bench.context(name) for name in ("stage", "listener", "recogniser", "dialogue", "voice", "supervisor")}
        self.seen: dict[str, list] = {name: [] for name in self.near}
        self.conductor = Conductor(self.ctx, RULES)

    def until(self, done, limit_s: float = LIMIT_S):
        """Let everybody receive until `done()` gives something true."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            for link, message in self.ctx.receive(0.005):
                self.conductor.handle(link, message)
            self.conductor.tick()
            for name, ctx in self.near.items():
                self.seen[name] += [message for _, message in ctx.receive(0)]
            if found := done():
                return found
        raise AssertionError("it did not happen")

    def joined(self):
        """Wait until the stage hears the floor and the conductor hears the stage."""
        self.until(lambda: any(isinstance(m, Floor) for m in self.seen["stage"]))

        def touched():
            self.near["stage"].send("visitor", VisitorInput(0, 0, InputKind.STAY))
            return self.conductor.state.active_ns and self.conductor.state.posture is Posture.ATTENTIVE

        self.until(touched)
        return self


@pytest.fixture
def house():
    """A conductor whose neighbours are connected."""
    with Bench() as bench:
        yield House(bench).joined()


def test_typed_words_reach_the_dialogue_under_a_granted_turn(house):
    """A question from the keyboard: the floor tells the turn before the command arrives."""
    house.near["stage"].send("visitor", VisitorInput(0, 0, InputKind.TYPED, "is there wifi"))
    ask = house.until(lambda: next((m for m in house.seen["dialogue"] if getattr(m, "text", "") == "is there wifi"), None))
    floor = house.until(lambda: next((m for m in house.seen["dialogue"] if isinstance(m, Floor) and m.granted == ask.turn), None))
    assert floor.posture is Posture.THINKING


def test_spoken_words_are_asked_before_and_granted_after_the_wait(house):
    """From onset to grant over the real links."""
    now = house.ctx.clock.monotonic_ns
    house.near["listener"].publish("activity", Activity(0, now(), ActivityKind.ONSET, 10, 10))
    house.until(lambda: house.conductor.state.posture is Posture.LISTENING)
    house.near["listener"].publish("activity", Activity(0, now(), ActivityKind.SILENCE, 10, 900, speech_ms=800.0, pause_ms=50.0))
    house.near["recogniser"].publish("words", Transcript(0, now(), 10, 900, "when do you open", final=True, confidence=0.9))
    ask = house.until(lambda: next((m for m in house.seen["dialogue"] if getattr(m, "text", "") == "when do you open"), None))
    assert ask.speculative
    house.until(lambda: house.conductor.state.granted == ask.turn)


def test_the_state_survives_the_conductor(house):
    """The next life of the conductor goes on in the same turn and visit."""
    house.near["stage"].send("visitor", VisitorInput(0, 0, InputKind.TYPED, "hello"))
    house.until(lambda: house.conductor.state.granted)
    again = Conductor(house.bench.context("conductor"), RULES)
    assert again.state == house.conductor.state


def test_start_over_erases_the_checkpoint_and_raises_the_visit(house):
    """Nothing of the visit is in the checkpoint after the wipe."""
    house.near["stage"].send("visitor", VisitorInput(0, 0, InputKind.TYPED, "a secret word"))
    house.until(lambda: house.conductor.state.granted)
    house.near["stage"].send("visitor", VisitorInput(0, 0, InputKind.START_OVER))
    house.until(lambda: house.conductor.state.visit == 2)
    assert b"secret" not in (house.ctx.checkpoint.load() or b"")
    assert any(isinstance(m, Sound) and m.action is SoundAction.STOP for m in house.seen["stage"])


def test_a_voice_that_comes_back_repeats_what_was_not_heard(house):
    """Voice dies in the middle of a sentence: once it is ready again it is told to say the rest."""
    house.near["stage"].send("visitor", VisitorInput(0, 0, InputKind.TYPED, "is there wifi"))
    turn = house.until(lambda: house.conductor.state.granted)

    def answered():
        house.near["dialogue"].publish("reply", Reply(turn, 0, 0, "Yes, it is free.", last=True))
        return house.conductor.state.clauses

    house.until(answered)
    house.near["stage"].publish("heard", Heard(turn, 0, HeardKind.STARTED, 0))
    house.until(lambda: house.conductor.state.posture is Posture.SPEAKING)
    house.seen["voice"].clear()

    def restarted():
        for state in (NodeState.DOWN, NodeState.READY):
            house.near["supervisor"].publish("nodes", NodeEvent(0, 0, "voice", state))
        return next((m for m in house.seen["voice"] if isinstance(m, Say) and m.text == "Yes, it is free."), None)

    assert house.until(restarted).turn > turn


def test_a_dead_dialogue_does_not_take_the_conductor_along(house):
    """A question typed while nobody can think is asked when the dialogue is back; the time limit waits for it."""
    house.near["dialogue"].close()
    house.bench._contexts.remove(house.near["dialogue"])
    del house.near["dialogue"], house.seen["dialogue"]
    supervisor = house.near["supervisor"]

    def down():
        supervisor.publish("nodes", NodeEvent(0, 0, "dialogue", NodeState.DOWN, 1))
        return house.conductor._away

    house.until(down)
    house.near["stage"].send("visitor", VisitorInput(0, 0, InputKind.TYPED, "is there wifi"))
    house.until(lambda: house.conductor.state.posture is Posture.THINKING)
    house.near["dialogue"], house.seen["dialogue"] = house.bench.context("dialogue"), []
    supervisor.publish("nodes", NodeEvent(0, 0, "dialogue", NodeState.READY, 1))
    assert house.until(lambda: [m for m in house.seen["dialogue"] if getattr(m, "text", "") == "is there wifi"])


def test_nobody_waits_for_a_dialogue_that_does_not_come_back(house):
    """It hangs in each of its starts: after a while the visitor hears an apology, though the supervisor goes on trying."""
    clock = Later()
    conductor = Conductor(house.bench.context("conductor", clock), RULES)
    conductor.handle("nodes", NodeEvent(0, 0, "dialogue", NodeState.DOWN, 1))
    conductor.handle("visitor", VisitorInput(0, 0, InputKind.TYPED, "is there wifi"))
    turn = conductor.state.granted
    for ahead_s, state in ((15, NodeState.STARTING), (21, NodeState.DOWN)):
        assert (conductor.state.turn, conductor.state.posture) == (turn, Posture.THINKING)
        clock.ahead_ns = ahead_s * 1_000_000_000
        conductor.handle("nodes", NodeEvent(0, 0, "dialogue", state, 1))
        conductor.tick()
    assert conductor.state.reason == "no answer in time"


class Later(SystemClock):
    """A clock that can be put forward."""

    ahead_ns = 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.ahead_ns


def speaking_before_a_crash(house, posture) -> tuple[Conductor, Later]:
    """The next life of a conductor that died while the turn had this posture."""
    house.near["stage"].send("visitor", VisitorInput(0, 0, InputKind.TYPED, "hello"))
    turn = house.until(lambda: house.conductor.state.granted)
    if posture is Posture.SPEAKING:
        house.near["stage"].publish("heard", Heard(turn, 0, HeardKind.STARTED, 0))
    house.until(lambda: house.conductor.state.posture is posture)
    clock = Later()
    return Conductor(house.bench.context("conductor", clock), RULES), clock


def test_an_end_that_nobody_told_is_noticed(house):
    """The conductor died while the answer ended: its next life does not wait for the end for ever."""
    again, clock = speaking_before_a_crash(house, Posture.SPEAKING)
    again.tick()
    assert again.state.posture is Posture.SPEAKING
    clock.ahead_ns = 6_000_000_000
    again.tick()
    assert again.state.posture is Posture.ATTENTIVE


def test_a_start_that_nobody_told_is_noticed(house):
    """The conductor died before the answer sounded: the loudspeaker's place tells its next life, which then does not apologise."""
    again, clock = speaking_before_a_crash(house, Posture.THINKING)
    clock.ahead_ns = 7_000_000_000
    again.handle("playhead", Playhead(again.state.turn, clock.monotonic_ns(), 100, playing=True))
    again.tick()
    assert again.state.posture is Posture.SPEAKING


def test_rules_come_from_the_pack_and_the_configuration():
    """The coffee bar's own backchannels and the configured waits are what the floor uses."""
    with Bench() as bench:
        ctx = bench.context("conductor")
        rules = rules_of(ctx)
    assert rules.overlap.backchannels
    low, high = ctx.config.turn.min_wait_ms, ctx.config.turn.max_wait_ms
    assert low <= rules.endpoint_wait_ms(1.0, 1000.0, 0.0) <= rules.endpoint_wait_ms(0.0, 1000.0, 0.0) <= high
    assert isinstance(FloorState().turn, int)
