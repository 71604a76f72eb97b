"""Whatever goes wrong, the kiosk goes on, and a person reads why. Real processes, real sockets; the page without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import pytest

from runtime import messages as m
from runtime.supervisor import OWN_NODES
from tests.support.running import Kiosk

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

LONG = "What departments are there?"
"""Its answer takes eight seconds: long enough to die in the middle of it."""
CARD = "Do you have a loyalty card?"
NEXT = "What is your return policy?"


@pytest.fixture(scope="module")
def kiosk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kiosk]:
    """One kiosk for all who die."""
    with Kiosk(tmp_path_factory.mktemp("kiosk")) as running:
        yield running


def answer_of(kiosk: Kiosk, turn: int, since: int) -> list[str]:
    """The words of the whole answer of `turn`, as the dialogue gave it."""
    replies = [reply for reply in kiosk.seen.all("bus reply", since) if reply.turn == turn]
    assert replies, "no answer was given"
    assert replies[-1].last, "the answer is not complete"
    return [word for reply in replies for word in reply.text.split()]


def shown(kiosk: Kiosk, since: int) -> list[list[str]]:
    """The captions the page has shown, turn by turn."""
    says = kiosk.seen.all("page say", since)
    return [[word for say in group for word, _ in say["words"]] for _, group in groupby(says, key=lambda say: say["turn"])]


def others_that_fell(kiosk: Kiosk, name: str, since: int) -> list[m.NodeEvent]:
    """Nodes that went down although nobody touched them."""
    events = kiosk.seen.all("bus nodes", since)
    return [event for event in events if event.state in (m.NodeState.DOWN, m.NodeState.GIVEN_UP) and event.node != name]


@pytest.mark.parametrize("name", [node.name for node in OWN_NODES])
def test_a_node_dies_in_the_middle_of_an_answer(kiosk: Kiosk, name: str) -> None:
    """Each node in turn: the face goes on, the answer is heard to its end, the next question is answered, no other node falls."""
    asked = kiosk.seen.mark()
    turn = kiosk.ask(LONG)
    killed = kiosk.seen.mark()
    kiosk.kill(name)
    kiosk.back(name, killed)
    back = kiosk.seen.mark()
    if name not in ("renderer", "stage"):
        assert kiosk.seen.all("bus video", killed), f"no frame was drawn while {name} was away"
    heard = kiosk.finished(killed)
    assert heard.turn >= turn
    assert heard.text.split()[-3:] == answer_of(kiosk, turn, asked)[-3:], "the end of the answer was not heard"
    whole = " ".join(answer_of(kiosk, turn, asked))
    for caption in shown(kiosk, killed):
        assert " ".join(caption) in whole, "the page shows something that is not of the answer"
    kiosk.seen.wait("page frame", since=back, why=f"the face moves after {name} died")
    rest = kiosk.seen.wait(
        "page floor", lambda floor: floor["posture"] == "attentive", since=killed, why=f"the kiosk is at rest after {name} died"
    )
    assert rest["turn"] >= turn
    asked = kiosk.seen.mark()
    assert kiosk.ask(NEXT) > turn
    assert "receipt" in kiosk.finished(asked).text
    assert others_that_fell(kiosk, name, killed) == []


@pytest.mark.parametrize("name", ["dialogue", "voice"])
def test_a_question_while_its_node_is_away(kiosk: Kiosk, name: str) -> None:
    """Asked while nobody can think or speak: answered as soon as the node is back, without asking again."""
    since = kiosk.seen.mark()
    kiosk.kill(name)
    kiosk.page.type(NEXT)
    kiosk.back(name, since)
    assert "receipt" in kiosk.finished(since).text
    assert others_that_fell(kiosk, name, since) == []


def test_the_conductor_dies_while_the_answer_ends(kiosk: Kiosk) -> None:
    """Nobody tells the next conductor that the answer has ended: it finds out, and comes to rest, so that the visit can end."""
    since = kiosk.seen.mark()
    kiosk.ask(NEXT)
    frozen = kiosk.seen.mark()
    pid = kiosk.freeze("conductor")
    kiosk.seen.wait("page heard", lambda heard: heard["kind"] == "finished", since=since)
    kiosk.kill("conductor", pid)
    kiosk.back("conductor", frozen)
    kiosk.seen.wait(
        "page floor", lambda floor: floor["posture"] == "attentive", since=frozen, why="the conductor knows that nothing sounds"
    )


def test_the_conductor_dies_before_the_answer_sounds(kiosk: Kiosk) -> None:
    """The next conductor hears that an answer sounds already: it does not talk over it."""
    since = kiosk.seen.mark()
    kiosk.page.type(LONG)
    kiosk.seen.wait("bus reply", lambda reply: reply.last, since=since)
    frozen = kiosk.seen.mark()
    pid = kiosk.freeze("conductor")
    turn = kiosk.seen.wait("page heard", lambda heard: heard["kind"] == "started", since=since)["turn"]
    kiosk.kill("conductor", pid)
    kiosk.back("conductor", frozen)
    heard = kiosk.finished(frozen)
    assert heard.turn == turn, f"instead of the answer: {heard.text!r}"
    kiosk.seen.wait("page floor", lambda floor: floor["posture"] == "attentive", since=frozen)


def test_the_stage_dies_late_in_an_answer(kiosk: Kiosk) -> None:
    """Clauses of several sentences are counted right: what was not heard is said again, and no more."""
    since = kiosk.seen.mark()
    turn = kiosk.ask(CARD)
    speech = kiosk.seen.wait("bus speech", lambda speech: speech.turn == turn and speech.last, since=since)
    kiosk.seen.wait("bus playhead", lambda at: at.turn == turn and at.index > speech.start, since=since, why="its last sentence sounds")
    killed = kiosk.seen.mark()
    kiosk.kill("stage")
    kiosk.back("stage", killed)
    assert kiosk.finished(killed).text == speech.text


def test_the_voice_dies_when_its_work_is_done(kiosk: Kiosk) -> None:
    """All sound is made already: the visitor does not hear a break."""
    since = kiosk.seen.mark()
    turn = kiosk.ask(LONG)
    kiosk.seen.wait("bus speech", lambda speech: speech.turn == turn and speech.last, since=since)
    kiosk.kill("voice")
    kiosk.back("voice", since)
    heard = kiosk.finished(since)
    assert (heard.turn, heard.text.split()) == (turn, answer_of(kiosk, turn, since))


def test_half_of_the_kiosk_dies_at_once(kiosk: Kiosk) -> None:
    """Out of memory takes several: nothing hangs, the next question is answered."""
    since = kiosk.seen.mark()
    kiosk.ask(LONG)
    fallen = ("conductor", "stage", "voice", "dialogue")
    for name in fallen:
        kiosk.kill(name)
    for name in fallen:
        kiosk.back(name, since)
    opened = kiosk.seen.mark()
    kiosk.seen.wait("page floor", lambda floor: floor["posture"] == "attentive", since=since, why="the kiosk is at rest")
    kiosk.ask(NEXT)
    assert "receipt" in kiosk.finished(opened).text
