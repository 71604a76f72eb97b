"""The dialogue node's logic: turns, grants, what was heard, visits, crashes, models that fail."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web

from engines.language import GroundedEngine, LanguageEngine
from engines.language.openai import OpenAIEngine
from engines.language.words import similarity
from runtime.config import THINKING_LIMIT_S, Config
from runtime.conversation.floor import FloorRules, FloorState, Tick, decide, floor_of
from runtime.messages import (
    Activity,
    ActivityKind,
    Ask,
    Effort,
    Floor,
    Heard,
    HeardKind,
    InputKind,
    Message,
    Posture,
    Reply,
    Session,
    Transcript,
    VisitorInput,
)
from runtime.nodes.dialogue import ANSWER_WITHIN_NS, Dialogue, main
from runtime.packs import Pack, load
from runtime.sharedstate import Checkpoint, create_checkpoint
from tests.support.harness import LIMIT_S, Bench
from tests.support.language_server import Handler, Server, calls, chunk, hangs, says, status, thinks

pytestmark = pytest.mark.system

PRESENT = "do you think my grandmother would enjoy such an afternoon"
"""A question that nothing in the pack answers."""


@pytest.fixture(scope="session")
def pack() -> Pack:
    """The coffee bar."""
    return load(Config().pack_path)


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000

    def monotonic_ns(self) -> int:
        return self.now


class House:
    """A node's context that keeps what was published; the checkpoint is the real one, in real memory."""

    def __init__(self, fd: int | None = None) -> None:
        self.clock: Any = Clock()
        self.fd = create_checkpoint("test") if fd is None else fd
        self.checkpoint = Checkpoint(self.fd)
        self.replies: list[Reply] = []
        self.marks: list[tuple[str, int]] = []
        self.notices: dict[str, str] = {}
        self.spoke = asyncio.Event()

    def publish(self, link: str, message: Message) -> None:
        assert link == "reply"
        assert isinstance(message, Reply)
        self.replies.append(message)
        self.spoke.set()

    def mark(self, stage: str, turn: int, t_ns: int | None = None, value: float = 0.0) -> None:  # noqa: ARG002
        self.marks.append((stage, turn))

    def notice(self, code: str, text: str, audience: str = "technician") -> None:  # noqa: ARG002
        self.notices[code] = text

    def text(self, turn: int) -> str:
        """All that was said in a turn."""
        return " ".join(reply.text for reply in self.replies if reply.turn == turn).strip()

    async def until(self, turn: int, *, last: bool = True) -> str:
        """The turn's text once its last (or first) clause is there."""
        while not any(reply.turn == turn and (reply.last or not last) for reply in self.replies):
            self.spoke.clear()
            await asyncio.wait_for(self.spoke.wait(), LIMIT_S)
        return self.text(turn)


def floor(turn: int, granted: int, visit: int = 1) -> Floor:
    return Floor(turn, 0, Posture.THINKING, Session.ENGAGED, visit, granted)


def ask(turn: int, text: str, *, speculative: bool = False, visit: int = 1) -> Ask:
    return Ask(turn, 0, text, visit, speculative=speculative)


def make(pack: Pack, house: House, engine: LanguageEngine | None = None) -> Dialogue:
    return Dialogue(pack, engine or GroundedEngine(), house)


def test_an_answer_comes_clause_by_clause_in_order(pack: Pack) -> None:
    """Sequence numbers, one last, the first marked."""
    house = House()
    make(pack, house).on_ask(ask(1, "where are the toilets"))
    assert [reply.seq for reply in house.replies] == list(range(len(house.replies)))
    assert len(house.replies) > 1
    assert [reply.last for reply in house.replies] == [False] * (len(house.replies) - 1) + [True]
    assert house.marks == [("reply_first", 1)]


def test_an_order_carries_what_was_asked_and_its_card(pack: Pack) -> None:
    """For the recogniser and for the page."""
    house = House()
    make(pack, house).on_ask(ask(1, "can i get a latte"))
    assert house.replies[-1].expects == "size"
    assert house.replies[-1].kind == "question"
    assert json.loads(house.replies[0].card)["lines"][0]["text"] == "a latte"


def test_a_speculative_turn_leaves_nothing_unless_it_is_granted(pack: Pack) -> None:
    """The visitor went on speaking: the half sentence is forgotten, with its order."""
    house = House()
    dialogue = make(pack, house)
    dialogue.on_floor(floor(1, 0))
    dialogue.on_ask(ask(1, "can i get a latte", speculative=True))
    assert dialogue.state.order is None
    dialogue.on_floor(floor(2, 0))
    dialogue.on_ask(ask(2, "can i get a large mocha", speculative=True))
    dialogue.on_floor(floor(2, 2))
    assert dialogue.state.order is not None
    assert dialogue.state.order.lines[0].slots == {"coffeeDrink": "mocha", "size": "large"}
    assert len(dialogue.state.turns) == 1


def test_sound_that_started_grants_too(pack: Pack) -> None:
    """The floor's message may come later than the loudspeaker's."""
    dialogue = make(pack, House())
    dialogue.on_ask(ask(1, "a large latte", speculative=True))
    dialogue.on_heard(Heard(1, 0, HeardKind.STARTED, 0))
    assert dialogue.state.order is not None


def test_older_turns_and_visits_are_not_answered(pack: Pack) -> None:
    """The latest turn wins."""
    house = House()
    dialogue = make(pack, house)
    dialogue.on_floor(floor(5, 0, visit=3))
    dialogue.on_ask(ask(4, "hello", visit=3))
    dialogue.on_ask(ask(6, "hello", visit=2))
    assert house.replies == []


def test_history_keeps_only_what_was_heard(pack: Pack) -> None:
    """Stopped in the middle."""
    dialogue = make(pack, House())
    dialogue.on_ask(ask(1, "where are the toilets"))
    dialogue.on_heard(Heard(1, 0, HeardKind.STOPPED, 900, "The toilets are on"))
    assert [turn.assistant for turn in dialogue.state.turns] == ["The toilets are on"]


def test_a_stop_that_comes_after_the_next_ask_is_not_lost(pack: Pack) -> None:
    """The pending turn's state learns of it too."""
    dialogue = make(pack, House())
    dialogue.on_ask(ask(1, "where are the toilets"))
    dialogue.on_ask(ask(2, "where are the lifts", speculative=True))
    dialogue.on_heard(Heard(1, 0, HeardKind.STOPPED, 900, "The"))
    dialogue.on_floor(floor(2, 2))
    assert dialogue.state.turns[0].assistant == "The"
    assert len(dialogue.state.turns) == 2


def test_after_a_crash_the_order_goes_on(pack: Pack) -> None:
    """The checkpoint holds what was granted."""
    house = House()
    first = make(pack, house)
    first.on_floor(floor(1, 1))
    first.on_ask(ask(1, "can i get a latte"))
    again = House(house.fd)
    second = make(pack, again)
    second.on_floor(floor(1, 1))
    second.on_ask(ask(2, "large"))
    assert "a large latte" in again.text(2)


def test_with_the_visit_everything_ends(pack: Pack) -> None:
    """State and checkpoint; nothing to find in the memory."""
    house = House()
    dialogue = make(pack, house)
    dialogue.on_floor(floor(1, 1))
    dialogue.on_ask(ask(1, "can i get a latte with oat milk"))
    assert house.checkpoint.load() is not None
    dialogue.on_floor(floor(2, 0, visit=2))
    assert dialogue.state.turns == ()
    assert dialogue.state.order is None
    assert Checkpoint(house.fd).load() is None


def test_no_word_of_a_visit_stays_in_what_was_looked_up(pack: Pack) -> None:
    """A word that nobody knows is compared with many: the table goes with the visit."""
    dialogue = make(pack, House())
    dialogue.on_floor(floor(1, 1))
    dialogue.on_ask(ask(1, "do you sell zeppelins"))
    assert similarity.cache_info().currsize
    dialogue.on_floor(floor(2, 0, visit=2))
    assert similarity.cache_info().currsize == 0


def test_a_visit_tells_which_objectives_it_reached(pack: Pack) -> None:
    """Their names only, when it ends."""
    house = House()
    dialogue = make(pack, house)
    dialogue.on_ask(ask(1, "where are the shoes"))
    dialogue.on_ask(ask(2, "a small latte"))
    dialogue.on_ask(ask(3, "yes"))
    dialogue.on_floor(floor(4, 0, visit=2))
    assert [mark for mark in house.marks if mark[0].startswith("objective:")] == [("objective:order", 3), ("objective:directions", 3)]


def test_a_long_visit_fits_the_checkpoint(pack: Pack) -> None:
    """The oldest turns give way."""
    house = House()
    dialogue = make(pack, house)
    for turn in range(1, 40):
        dialogue.on_ask(ask(turn, "where are the toilets " + "and so on " * 400))
    saved = house.checkpoint.load()
    assert saved is not None
    assert json.loads(saved)["state"]["turns"]


def test_staff_are_called(pack: Pack) -> None:
    """A notice for people, a card for the page; taken back with the visit."""
    house = House()
    dialogue = make(pack, house)
    dialogue.on_ask(ask(1, "can i talk to someone"))
    assert house.notices["staff-called"]
    assert json.loads(house.replies[0].card) == {"type": "staff"}
    dialogue.on_floor(floor(2, 0, visit=2))
    assert house.notices["staff-called"] == ""


def instead(turn: int, text: str, of: int, *, visit: int = 1, source: str = "speech") -> Ask:
    """A speculative question in place of the one of turn `of`."""
    return Ask(turn, 0, text, visit, source, speculative=True, instead_of=of)


def ordered(pack: Pack, *said: str) -> tuple[Dialogue, House]:
    """A dialogue that was told these, each in a granted turn: 1, 2, …"""
    house = House()
    dialogue = make(pack, house)
    for turn, text in enumerate(said, start=1):
        dialogue.on_floor(floor(turn, turn))
        dialogue.on_ask(ask(turn, text))
    return dialogue, house


def drinks(dialogue: Dialogue) -> list[dict[str, str]]:
    assert dialogue.state.order is not None
    return [line.slots for line in dialogue.state.order.lines]


@pytest.mark.parametrize("again", ["and a small latte", "and a small latte with oat milk"])
def test_a_question_that_is_asked_again_or_continued_counts_once(pack: Pack, again: str) -> None:
    """Granted, and before a sound of the answer a voice: one more drink is one more, its history one exchange; however often."""
    dialogue, _ = ordered(pack, "a large mocha", "and a small latte")
    assert len(drinks(dialogue)) == 2
    last = 2
    for turn in (4, 7):
        dialogue.on_floor(floor(turn - 1, last))
        dialogue.on_ask(instead(turn - 1, "and a small latte with", of=last))  # dropped, for they go on
        dialogue.on_floor(floor(turn, last))
        dialogue.on_ask(instead(turn, again, of=last))
        dialogue.on_floor(floor(turn, turn))
        last = turn
    assert [line["coffeeDrink"] for line in drinks(dialogue)] == ["mocha", "latte"]
    assert ("milkAmount" in drinks(dialogue)[1]) is ("oat" in again)
    assert [(turn.turn, turn.user) for turn in dialogue.state.turns] == [(1, "a large mocha"), (7, again)]


def test_a_question_in_place_of_one_that_is_not_granted_changes_nothing(pack: Pack) -> None:
    """The turn before stands until another one counts; so it does where the one named never came here."""
    dialogue, _ = ordered(pack, "a large mocha", "and a small latte")
    dialogue.on_floor(floor(3, 2))
    dialogue.on_ask(instead(3, "where are the toilets", of=2))
    dialogue.on_floor(floor(4, 2))
    assert len(drinks(dialogue)) == 2
    dialogue.on_ask(instead(5, "with oat milk", of=3))
    dialogue.on_floor(floor(5, 5))
    assert len(drinks(dialogue)) == 2


@pytest.mark.parametrize("again", ["yes", "yes please", "yes did you see the match last night"])
def test_a_placed_order_is_told_with_its_number_once_and_the_same(pack: Pack, again: str) -> None:
    """A yes that placed it, unheard, and a voice behind it: the number is said, is the same, and the order is not lost or placed twice."""
    dialogue, house = ordered(pack, "a large mocha", "yes")
    number, text = dialogue.state.number, house.text(2)
    assert str(number) in text
    dialogue.on_floor(floor(3, 2))
    dialogue.on_ask(instead(4, again, of=2))
    dialogue.on_floor(floor(4, 4))
    assert house.text(4) == text
    assert json.loads(house.replies[-1].card or next(r.card for r in house.replies if r.turn == 4))["number"] == number
    assert (dialogue.state.number, dialogue.state.order, dialogue.state.done) == (number, None, ("tool:orderDrink",))
    assert [turn.user for turn in dialogue.state.turns] == ["a large mocha", again]


def test_who_changes_the_order_behind_an_unheard_yes_is_asked_again(pack: Pack) -> None:
    """A "yes" … "with oat milk" is not placed without it."""
    dialogue, house = ordered(pack, "a large latte", "yes")
    dialogue.on_floor(floor(3, 2))
    dialogue.on_ask(instead(4, "yes with oat milk", of=2))
    dialogue.on_floor(floor(4, 4))
    assert "oat milk" in house.text(4)
    assert house.replies[-1].expects == "confirm"
    assert dialogue.state.done == ()


def test_the_floor_and_the_dialogue_agree_on_a_typed_question_under_a_noise(pack: Pack) -> None:
    """Through both: typed, a door slams before the answer sounds; one drink more, and the answer is given under the turn that counts."""
    dialogue, house = ordered(pack, "a large mocha")
    rules, ms = FloorRules(endpoint_wait_ms=lambda *_: 300.0), 1_000_000
    state, now = FloorState(turn=1, granted=1, session=Session.ENGAGED, posture=Posture.ATTENTIVE, active_ns=ms), ms
    typed = VisitorInput(0, 0, InputKind.TYPED, "and a small latte")
    slam = [Activity(0, 0, kind, 9, 9, pause_ms=100.0) for kind in (ActivityKind.ONSET, ActivityKind.SILENCE)]
    for event in (typed, *slam, Transcript(0, 0, 9, 9, "", final=True), *[Tick()] * 30):
        now += 50 * ms
        state, actions = decide(rules, state, msgspec.structs.replace(event, t_ns=now) if isinstance(event, Message) else event, now)
        dialogue.on_floor(floor_of(state, now))
        for action in actions:
            if isinstance(action, Ask):
                dialogue.on_ask(action)
    assert state.posture is Posture.THINKING
    assert "latte" in house.text(state.granted)
    assert len(drinks(dialogue)) == 2


def with_model(pack: Pack, body: Callable[[Dialogue, House, Server], Awaitable[None]], *handlers: Handler, timeout_s: float = 5.0) -> None:
    """Run `body` with a dialogue whose model is a real server."""

    async def run() -> None:
        server = Server(*handlers)
        async with server.running() as url:
            house = House()
            dialogue = make(pack, house, OpenAIEngine(url, timeout_s=timeout_s))
            try:
                await body(dialogue, house, server)
            finally:
                await dialogue.close()

    asyncio.run(run())


def test_a_model_answers_what_the_pack_does_not(pack: Pack) -> None:
    """Streamed clause by clause, with the history as heard."""

    async def body(dialogue: Dialogue, house: House, server: Server) -> None:
        dialogue.on_ask(ask(1, PRESENT))
        assert await house.until(1) == "I think she would, yes. Bring her along."
        assert dialogue.state.turns[0].assistant == "I think she would, yes. Bring her along."
        dialogue.on_heard(Heard(1, 0, HeardKind.STOPPED, 9, "I think she"))
        dialogue.on_ask(ask(2, "and my uncle from overseas perhaps"))
        await house.until(2)
        assert [message["content"] for message in server.bodies[1]["messages"][1:3]] == [PRESENT, "I think she …"]

    with_model(pack, body, says("I think she", " would, yes.", " Bring her", " along."))


def test_what_the_pack_knows_is_not_asked_of_the_model(pack: Pack) -> None:
    """Facts and orders are answered here, at once."""

    async def body(dialogue: Dialogue, house: House, server: Server) -> None:
        dialogue.on_ask(ask(1, "where are the toilets"))
        dialogue.on_ask(ask(2, "can i get a large latte"))
        assert "a large latte" in house.text(2)
        assert server.bodies == []

    with_model(pack, body, says("x"))


def test_a_models_tool_call_becomes_the_packs_question(pack: Pack) -> None:
    """The order it understood goes on like any other."""

    async def body(dialogue: Dialogue, house: House, _: Server) -> None:
        dialogue.on_ask(ask(1, "my grandmother fancies something milky and frothy like they drink in rome"))
        assert await house.until(1) == "Small, medium or large?"
        assert dialogue.state.order is not None

    with_model(pack, body, calls("orderDrink", '{"coffeeDrink": "cappuccino"}'))


def test_a_model_that_fails_is_replaced_by_what_the_pack_knows(pack: Pack) -> None:
    """Said in a notice, and not asked again for a while."""

    async def body(dialogue: Dialogue, house: House, server: Server) -> None:
        dialogue.on_ask(ask(1, PRESENT))
        assert "not sure" in await house.until(1)
        assert "HTTP 400" in house.notices["language-model"]
        dialogue.on_ask(ask(2, PRESENT))
        assert "not sure" in house.text(2)
        assert len(server.bodies) == 1
        house.clock.now += 60_000_000_000
        dialogue.on_ask(ask(3, PRESENT))
        assert await house.until(3) == "Surely."
        assert house.notices["language-model"] == ""

    with_model(pack, body, status(400, "broken"), says("Surely."))


def test_a_model_that_hangs_is_given_up(pack: Pack) -> None:
    """After its timeout the pack answers."""

    async def body(dialogue: Dialogue, house: House, _: Server) -> None:
        dialogue.on_ask(ask(1, PRESENT))
        assert "not sure" in await house.until(1)
        assert "did not answer" in house.notices["language-model"]

    with_model(pack, body, hangs(), timeout_s=0.2)


def silent(arrived: asyncio.Event, part: str) -> Handler:
    """Takes the request and sends nothing at all, no status line either; or `part`, and no more."""

    async def handler(server: Server, request: web.Request, response: web.StreamResponse) -> None:
        if part:
            await response.prepare(request)
            await response.write(chunk({"content": part}))
        arrived.set()
        await server.release.wait()

    return handler


@pytest.mark.parametrize("part", ["", "I think she"], ids=["not a byte", "half a clause"])
def test_a_server_that_accepts_and_is_silent_is_replaced_before_the_floor_gives_up(pack: Pack, part: str) -> None:
    """Each question would wait for nothing: the visitor is answered in time, the technician told, the server left alone for a while."""

    async def body(dialogue: Dialogue, house: House, server: Server) -> None:
        dialogue.on_floor(floor(1, 0))
        dialogue.on_ask(ask(1, PRESENT, speculative=True))
        await asyncio.wait_for(arrived.wait(), LIMIT_S)
        house.clock.now += 10 * ANSWER_WITHIN_NS  # the visitor went on for long: nobody waits yet
        dialogue.tick()
        dialogue.on_floor(floor(1, 1))
        house.clock.now += ANSWER_WITHIN_NS - 1
        dialogue.on_floor(floor(1, 1))
        dialogue.tick()
        assert house.replies == []
        house.clock.now += 1
        dialogue.tick()
        assert "not sure" in house.text(1)
        assert house.replies[-1].last
        assert "4.5 s; answering without it" in house.notices["language-model"]
        await asyncio.wait_for(server.gone.wait(), LIMIT_S)
        dialogue.on_ask(ask(2, PRESENT))
        assert "not sure" in house.text(2)
        assert len(server.bodies) == 1
        assert [turn.turn for turn in dialogue.state.turns] == [1, 2]
        house.clock.now += 60_000_000_000
        dialogue.on_ask(ask(3, PRESENT))
        assert await house.until(3) == "Surely."
        dialogue.tick()
        assert house.notices["language-model"] == ""

    arrived = asyncio.Event()
    with_model(pack, body, silent(arrived, part), says("Surely."), timeout_s=60.0)


def test_an_answer_without_the_model_is_in_time_for_the_floor() -> None:
    """When the dialogue gives a model up, its tick's delay included, the floor still waits, for as long as a voice needs."""
    rules = FloorRules(endpoint_wait_ms=lambda *_: 300.0)
    state, _ = decide(rules, FloorState(), VisitorInput(0, 0, InputKind.TYPED, PRESENT), 0)
    voice_ns = 1_000_000_000
    state, actions = decide(rules, state, Tick(), ANSWER_WITHIN_NS + 250_000_000 + voice_ns)
    assert (state.posture, state.asked is not None and state.asked.text, actions) == (Posture.THINKING, PRESENT, ())
    assert Config().language.timeout_s < THINKING_LIMIT_S


def test_a_newer_turn_cancels_the_model_at_once(pack: Pack) -> None:
    """The request ends, nothing more of the old turn is said, what was said of a granted turn stays."""

    async def body(dialogue: Dialogue, house: House, server: Server) -> None:
        dialogue.on_ask(ask(1, PRESENT))
        await house.until(1, last=False)
        said = len(house.replies)
        dialogue.on_floor(floor(2, 1))
        await asyncio.wait_for(server.gone.wait(), LIMIT_S)
        assert [reply.turn for reply in house.replies] == [1] * said
        assert dialogue.state.turns[0].assistant == "Well now, visitor,"

    with_model(pack, body, hangs("Well now, visitor, let me"))


def test_guardrails_judge_what_a_model_says(pack: Pack) -> None:
    """The clause is not spoken, and the answer ends."""

    async def body(dialogue: Dialogue, house: House, _: Server) -> None:
        dialogue.on_ask(ask(1, PRESENT))
        text = await house.until(1)
        assert "on the house" not in text
        assert "better not promise" in text

    with_model(pack, body, says("Of course she would. ", "Everything is on the house today. ", "Come in. "))


def test_a_model_that_talks_too_long_is_cut(pack: Pack) -> None:
    """At the pack's number of sentences."""

    async def body(dialogue: Dialogue, house: House, _: Server) -> None:
        dialogue.on_ask(ask(1, PRESENT))
        assert await house.until(1) == "One is here. Two is here. Three is here."

    with_model(pack, body, says(*(f"{word} is here. " for word in ("One", "Two", "Three", "Four", "Five", "Six"))))


@pytest.mark.parametrize(("share", "sentences"), [(1.0, 3), (0.6, 2), (0.3, 1)])
def test_less_of_the_model_is_fewer_sentences_and_the_server_stops_there(pack: Pack, share: float, sentences: int) -> None:
    """A server that thinks piece by piece is left after the last sentence that may be said: what was not read was never made."""
    parts = [f"Number {count} is here. " for count in range(1, 9)]

    async def body(dialogue: Dialogue, house: House, server: Server) -> None:
        dialogue.on_effort(Effort(0, 0, model=share))
        dialogue.on_ask(ask(1, PRESENT))
        while not server.gone.is_set():
            house.spoke.clear()
            server.more.release()
            events = [asyncio.ensure_future(event.wait()) for event in (house.spoke, server.gone)]
            await asyncio.wait(events, timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
            assert any(event.done() for event in events)
            for event in events:
                event.cancel()
            if any(reply.last for reply in house.replies):
                await asyncio.wait_for(server.gone.wait(), LIMIT_S)
        assert server.made == parts[:sentences]
        assert await house.until(1) == "".join(parts[:sentences]).strip()
        body = server.bodies[0]
        assert body["max_tokens"] == {1.0: 160, 0.6: 96, 0.3: 80}[share]
        assert ("one short sentence" in body["messages"][-1]["content"]) is (share < 1)

    with_model(pack, body, thinks(*parts))


def test_with_nothing_of_the_model_allowed_the_answer_comes_without_it(pack: Pack) -> None:
    """No request; with some of it allowed again, it is asked again."""

    async def body(dialogue: Dialogue, house: House, server: Server) -> None:
        dialogue.on_effort(Effort(0, 0, model=0.0))
        dialogue.on_ask(ask(1, PRESENT))
        assert "not sure" in await house.until(1)
        assert server.bodies == []
        dialogue.on_effort(Effort(0, 0, model=0.3))
        dialogue.on_ask(ask(2, PRESENT))
        assert await house.until(2) == "She would."
        assert len(server.bodies) == 1

    with_model(pack, body, says("She would."))


def test_with_less_of_the_model_allowed_it_is_not_asked_on_a_guess(pack: Pack) -> None:
    """Of a visitor who goes on speaking, only the whole sentence reaches the server; with all of it allowed, each guess does."""

    async def body(dialogue: Dialogue, house: House, server: Server) -> None:
        turns = itertools.count(1)
        for share, requests in ((0.6, 1), (1.0, 2)):
            before = len(server.bodies)
            dialogue.on_effort(Effort(0, 0, model=share))
            guess, whole = next(turns), next(turns)
            dialogue.on_ask(ask(guess, PRESENT, speculative=True))
            if share == 1.0:
                await house.until(guess, last=False)
            dialogue.on_floor(floor(whole, 0))
            dialogue.on_ask(ask(whole, f"{PRESENT} with me", speculative=True))
            dialogue.on_floor(floor(whole, whole))
            assert await house.until(whole) == "She would."
            asked = [body["messages"][-1]["content"].partition("\n")[0] for body in server.bodies[before:]]
            assert asked == [PRESENT, f"{PRESENT} with me"][-requests:]

    with_model(pack, body, says("She would."))


def test_the_node_answers_over_the_real_bus() -> None:
    """Ask in over its link, clauses out over theirs; ends when told to."""
    with Bench() as bench:
        ctx, conductor = bench.context("dialogue"), bench.context("conductor")
        thread = threading.Thread(target=main, args=(ctx,))
        thread.start()
        turns = itertools.count(1)
        try:
            first = bench.repeat_until(lambda: conductor.send("ask", ask(next(turns), "a large latte")), conductor, "reply")
            assert first.text.startswith("That's a large latte")
            assert first.expects == "confirm"
        finally:
            ctx.stop()
            thread.join(LIMIT_S)
        assert not thread.is_alive()
