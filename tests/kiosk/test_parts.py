"""Clock, microphone, protocol, answers, screen: the stage's small parts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiosk import _protocol
from kiosk._clock import PageClock
from kiosk._mic import Microphone
from kiosk._screen import Screen
from kiosk._setup import answers
from runtime import messages as m
from runtime.packs import Pack, load

pytestmark = pytest.mark.unit
MS = 1_000_000
PACK = Path(__file__).resolve().parents[2] / "kiosk" / "packs" / "coffee-bar"


@pytest.fixture(scope="module")
def pack() -> Pack:
    """The demo pack."""
    return load(PACK)


@given(st.integers(-(10**15), 10**15), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=60))
def test_the_clock_is_as_true_as_the_best_exchange(offset_us: int, ways: list[tuple[int, int]]) -> None:
    """However uneven the ways, the error is at most half of the shortest round trip."""
    clock, now = PageClock(), 10**16
    for there_ms, back_ms in ways:
        ping = clock.ping(now)
        page_ms = (now + there_ms * MS - offset_us * 1000) / MS
        now += (there_ms + back_ms) * MS
        clock.pong(ping, page_ms, now)
    shortest_ns = min(there + back for there, back in ways) * MS
    assert abs(clock.offset_ns - offset_us * 1000) <= shortest_ns // 2 + 2000
    assert clock.error_ns == shortest_ns // 2


def test_an_answer_to_no_question_is_ignored() -> None:
    """A pong with an unknown id says nothing about the clock."""
    clock = PageClock()
    clock.pong(99, 5.0, 10)
    assert not clock.known
    assert clock.to_ns(5.0, fallback_ns=123) == 123


@dataclasses.dataclass
class Ring:
    """A mic ring that remembers."""

    position: int = 0
    times: list[int] = dataclasses.field(default_factory=list)

    def write(self, pcm: npt.NDArray[np.int16], t_ns: int) -> int:
        self.position += len(pcm)
        self.times.append(t_ns)
        return self.position - len(pcm)


def chunk(latency_tenths: int = 0, samples: int = 320) -> bytes:
    return _protocol.MIC_HEADER.pack(1, 0, latency_tenths, 0) + bytes(2 * samples)


@given(st.lists(st.integers(0, 15), min_size=120, max_size=160))
def test_the_time_of_sound_does_not_jitter_with_its_arrival(delays_ms: list[int]) -> None:
    """The time given to a sample is never further off than the jitter itself, however the chunks arrive."""
    delays_ms[:30] = [0, *delays_ms[1:30]]
    ring, ticks = Ring(), []
    microphone = Microphone(ring, ticks.append)
    for i, delay_ms in enumerate(delays_ms):
        microphone.feed(chunk(latency_tenths=100), (1000 + 20 * i + delay_ms) * MS)
    steps = np.diff(ring.times[60:])
    assert ticks[-1].index == ring.position
    assert np.all(np.abs(steps - 20 * MS) <= 15 * MS)
    assert abs(ring.times[-1] - (1000 + 20 * (len(delays_ms) - 1) - 10 - 20) * MS) <= 15 * MS


def test_lost_samples_move_the_line() -> None:
    """Samples that a glitch swallowed make later ones later, not earlier."""
    ring = Ring()
    microphone = Microphone(ring, lambda _: None)
    for i in range(60):
        microphone.feed(chunk(), (1000 + 20 * i) * MS)
    for i in range(120):
        microphone.feed(chunk(), (1000 + 20 * 60 + 100 + 20 * i) * MS)
    assert ring.times[-1] == pytest.approx((1000 + 20 * 60 + 100 + 20 * 118) * MS, abs=MS)


@pytest.mark.parametrize("data", [b"", b"\x01", chunk()[:8], chunk()[:-1], b"\x07" + chunk()[1:], chunk(samples=20_000)])
def test_what_is_no_sound_is_counted_and_dropped(data: bytes) -> None:
    """Garbage on the audio socket never reaches the ring."""
    ring = Ring()
    microphone = Microphone(ring, lambda _: None)
    microphone.feed(data, MS)
    assert (ring.position, microphone.malformed) == (0, 1)


def test_without_a_microphone_the_ticks_say_so_once_a_second() -> None:
    """Readers that come later learn it too."""
    ticks: list[m.MicTick] = []
    microphone = Microphone(Ring(), ticks.append)
    for ms in range(0, 5000, 200):
        microphone.idle(ms * MS + 10**9)
    assert len(ticks) == 5
    assert not any(tick.live for tick in ticks)


@given(st.one_of(st.text(), st.binary()))
def test_the_protocol_refuses_what_it_does_not_know(text: str | bytes) -> None:
    """Anything else than a known message raises one kind of error."""
    try:
        _protocol.decode(text)
    except msgspec.MsgspecError:
        return
    except UnicodeEncodeError:  # a lone surrogate is not text that a socket could carry
        return


def test_questions_are_answered_with_buttons(pack: Pack) -> None:
    """Yes and no for a confirmation, the values of the slot for a slot, nothing for nothing."""
    assert [button["text"] for button in answers(pack, "confirm")] == ["yes", "no"]
    slot = next(slot for tool in pack.tools for slot in tool.slot if slot.values)
    assert [button["text"] for button in answers(pack, slot.name)] == [value.value for value in slot.values[:8]]
    assert answers(pack, "") == []


class Told:
    """What the page was told."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, kind: str, **fields: Any) -> None:
        self.messages.append((kind, fields))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.messages if name == kind]


def floor(turn: int, granted: int, visit: int = 1) -> m.Floor:
    return m.Floor(turn, 0, m.Posture.THINKING, m.Session.ENGAGED, visit, granted)


def test_a_speculative_card_is_shown_only_if_its_turn_is_granted(pack: Pack) -> None:
    """The turn that was thrown away leaves nothing on the screen."""
    told = Told()
    screen = Screen(pack, told)
    screen.on_floor(floor(2, 1))
    screen.on_reply(m.Reply(2, 0, 0, "", last=True, card='{"type": "order"}'))
    screen.on_floor(floor(3, 1))
    screen.on_reply(m.Reply(3, 0, 0, "", last=True, card='{"type": "none"}', expects="confirm"))
    screen.on_floor(floor(3, 3))
    assert [reply["card"] for reply in told.of("reply")] == ['{"type": "none"}']


def test_buttons_go_when_an_answer_asks_nothing(pack: Pack) -> None:
    """With its last clause, once it is granted; the card stays."""
    told = Told()
    screen = Screen(pack, told)
    screen.on_floor(floor(1, 1))
    screen.on_reply(m.Reply(1, 0, 0, "", last=True, card='{"type": "order"}', expects="confirm"))
    screen.on_floor(floor(2, 1))
    screen.on_reply(m.Reply(2, 0, 0, "We are", last=False))
    screen.on_reply(m.Reply(2, 0, 1, "open.", last=True))
    assert [len(reply["answers"]) for reply in told.of("reply")] == [2]
    screen.on_floor(floor(2, 2))
    assert told.of("reply")[1:] == [{"card": '{"type": "order"}', "answers": []}]


def test_a_new_visit_forgets_cards_and_lines_for_the_visitor(pack: Pack) -> None:
    """A page that opens afterwards is told nothing of the visit before; what is still broken is told again."""
    told = Told()
    screen = Screen(pack, told)
    screen.on_floor(floor(1, 1))
    screen.on_reply(m.Reply(1, 0, 0, "", last=True, card='{"type": "order"}'))
    screen.note("staff-called", "Somebody is coming", "visitor")
    screen.on_microphone("denied")
    screen.on_floor(floor(2, 1, visit=2))
    told.messages.clear()
    screen.repeat()
    assert told.of("reply") == []
    assert [notice["code"] for notice in told.of("notice")] == ["mic-denied"]


def test_a_screen_that_was_told_of_no_floor_tells_none(pack: Pack) -> None:
    """After a crash of the stage the page would take it for the end of the visit."""
    told = Told()
    screen = Screen(pack, told)
    screen.note("disk", "The disk is full", "technician")
    told.messages.clear()
    screen.repeat()
    assert [kind for kind, _ in told.messages] == ["notice"]
    screen.on_floor(floor(1, 1))
    told.messages.clear()
    screen.repeat()
    assert [fields["visit"] for fields in told.of("floor")] == [1]


def standing(pack: Pack, *events: m.NodeEvent, before: str = "") -> set[str]:
    """The notices that a page sees after these events."""
    told = Told()
    screen = Screen(pack, told)
    if before:
        screen.note(before, "It is so.", "visitor")
    for event in events:
        screen.on_node(event)
    told.messages.clear()
    screen.repeat()
    return {notice["code"] for notice in told.of("notice")}


def test_a_sense_is_back_when_all_of_its_nodes_are(pack: Pack) -> None:
    """Hearing takes two nodes: one that comes back does not mend it."""
    lost = [m.NodeEvent(0, 0, name, m.NodeState.GIVEN_UP, 5) for name in ("listener", "recogniser")]
    back = [m.NodeEvent(0, 0, name, m.NodeState.READY, 5) for name in ("listener", "recogniser")]
    assert "no-hearing" in standing(pack, *lost)
    assert standing(pack, *lost, back[0]) == {"node-recogniser", "no-hearing"}
    assert standing(pack, *lost, *back) == set()


def test_what_a_node_says_of_itself_holds_when_it_is_ready(pack: Pack) -> None:
    """A voice that starts without an engine is ready, and still silent."""
    assert standing(pack, m.NodeEvent(0, 0, "voice", m.NodeState.READY), before="no-voice") == {"no-voice"}
