"""How an answer is found, in the order of DESIGN §3: guardrails, talk, what is under way, cached answers, tools, retrieval, the model.

Pure: state and text in, new state and answer (or a request for a model) out. The node decides whether the new state is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engines.language._types import ChatRequest, DialogueState, Passage, ToolCall
from engines.language.grounded import GroundedEngine
from engines.language.words import normalise
from runtime.conversation.guardrails import Gate
from runtime.conversation.knowledge import ANSWERED, Knowledge
from runtime.conversation.phrases import wordings
from runtime.conversation.prompt import build_request, system_prompt
from runtime.conversation.state import Order, State
from runtime.conversation.tools import CHANGE, CONFIRM, NO_CARD, Answer, Orders, declare
from runtime.notation import parse
from runtime.packs import BEGINNINGS, Pack

__all__ = ["Mind", "Outcome"]

_STAFF_CARD = '{"type": "staff"}'
_BUTTONS = {"call staff": "staff", "yes": "yes", "no": "no"}  # what touching the page's own buttons says, in any pack and language
_SURE = 0.8  # with a model at hand, retrieval alone answers only what is surely meant
_LEADING = frozenset("um uh er erm hm so well oh ah okay please robin and but then".split())
_TRAILING = frozenset("please thanks then robin now um uh".split())
_PRONOUNS = frozenset("it that this them those these one".split())
_PATIENCE = 2  # misses in a row after which staff is offered


class Outcome(msgspec.Struct, frozen=True):
    """What came of a sentence: the state if the turn is granted, and the answer or what to ask the model for it."""

    state: State
    answer: Answer | None = None
    request: ChatRequest | None = None


class Mind:
    """Everything that one pack can answer. `seed` makes order numbers differ from box to box."""

    def __init__(self, pack: Pack, seed: int = 0) -> None:
        self.pack = pack
        self.gate = Gate(pack.guardrails)
        self.knowledge = Knowledge(pack)
        self.tools = declare(pack)
        self.orders = {tool.name: Orders(tool) for tool in pack.tools}
        self.system = system_prompt(pack)
        self._grounded = GroundedEngine()
        self._seed = seed
        self._talk: dict[str, str] = {}
        for name in pack.talk:
            if name not in BEGINNINGS:
                for said in pack.spoken(name):
                    self._talk.setdefault(" ".join(normalise(said)), name)
        self._talk = _BUTTONS | self._talk
        self._totals = {
            " ".join(normalise(said)): tool.name for tool in pack.tools for text in tool.total_ask for said in parse(text).expand()
        }
        names: dict[str, str] = {words: value.value for tool in pack.tools for value in tool.slot[0].values for words in wordings(value)}
        self._topics = sorted(names.items(), key=lambda pair: -len(pair[0]))

    # --- the way to an answer

    def consider(self, state: State, text: str, turn: int, *, model: bool = False, still_there: bool = False) -> Outcome:
        """What to answer to `text`; with `model`, what nothing here is sure about becomes a request. With `still_there` a yes may answer
        the page, which asks just that: then it answers no other question, and that one is asked again.
        """
        text = self.gate.trim(text)
        words = normalise(text)
        if not words:
            return self._miss(state)
        verdict = self.gate.incoming(text)
        if verdict is not None:
            said = self._pick(state, f"rule {verdict.rule}", verdict.say)
            answer = Answer(said, card=_STAFF_CARD, staff=True) if verdict.staff else Answer(said, expects=_open(state))
            return Outcome(self._count(state, f"rule {verdict.rule}"), answer)
        talk = self._talk_of(words)
        if still_there and talk == "yes" and _open(state):
            talk = "repeat"
        for step in (self._always, self._offered, self._ordering):
            outcome = step(state, text, talk, turn)
            if outcome is not None:
                return outcome
            if step == self._offered:  # whatever else is said now declines the offer
                state = msgspec.structs.replace(state, offer="")
        return self._fresh(state, text, talk, model=model)

    def called(self, state: State, call: ToolCall) -> Outcome:
        """The answer to a tool call of a model or of the phrase spotter."""
        rules = self.orders[call.name]
        before = state.order if state.order and state.order.tool == call.name else None
        order = rules.apply(before, call, state.topic)
        if before and not order.lines:
            return self._cancelled(state, before)
        changed = [line for line in order.lines if before is None or line not in before.lines]
        topic = changed[-1].slots.get(rules.main, state.topic) if changed else state.topic
        order, answer = rules.next(order)
        return Outcome(msgspec.structs.replace(state, order=order, topic=topic, offer="", misses=0), answer)

    def grounded(self, state: State, request: ChatRequest) -> Outcome:
        """The answer without a model, when the model fails: the best passage if it answers, else that nobody here knows."""
        best = request.passages[0] if request.passages else None
        return self._passage(state, best) if best and best.score >= ANSWERED else self._unsure(state)

    def forget(self) -> None:
        """The visit is over: no word of it stays in what was looked up."""
        self._grounded.forget()

    def finish(self, state: State, turn: int, text: str, answer: Answer) -> State:
        """The state with this exchange in it."""
        state = msgspec.structs.replace(state, last=answer.text or state.last, last_expects=answer.expects)
        return state.after(turn, text, answer.text)

    # --- steps

    def _always(self, state: State, text: str, talk: str, turn: int) -> Outcome | None:
        """What works at any moment."""
        del text, turn
        if talk == "stop":
            return Outcome(state, Answer("", expects=_open(state)))
        if talk == "wait":
            return Outcome(state, Answer(self._reply(state, talk), expects=state.last_expects))
        if talk == "repeat":
            said = state.last or self._pick(state, talk, self.pack.say.nothing_to_repeat)
            kind = {"": "answer", CONFIRM: "confirm"}.get(state.last_expects, "question")
            return Outcome(state, Answer(said, kind, state.last_expects))
        if talk == "staff":
            return self._staff(state)
        if talk == "start_over":
            answer = Answer(self._pick(state, talk, self.pack.say.started_over), card=NO_CARD)
            return Outcome(msgspec.structs.replace(state, order=None, offer="", topic="", misses=0), answer)
        return None

    def _ordering(self, state: State, text: str, talk: str, turn: int) -> Outcome | None:
        """An order is under way: first what steers it, then what may answer its question, then everything else, and back to it."""
        order = state.order
        if order is None:
            return None
        outcome = self._steered(state, order, talk, turn)
        if outcome is not None:
            return outcome
        rules = self.orders[order.tool]
        if " ".join(normalise(text)) in self._totals:
            total = rules.tool.total_answer.format(total=rules.total(order), summary=rules.summary(order))
            return self._again(state, total)
        exact = self._exact(state, text)
        if exact is not None:
            return self._again(self._about(state, exact), exact.answer)
        if talk in ("", "yes", "no", "hello"):  # "yes with oat milk" has no talk of its own, "no" may answer a slot's question
            call = self._read(state, text)
            if call is not None:
                return self.called(state, call)
        return self._between(state, text, talk)

    def _steered(self, state: State, order: Order, talk: str, turn: int) -> Outcome | None:
        """Yes, no, cancel and goodbye to an order."""
        rules = self.orders[order.tool]
        if talk == "cancel":
            return self._cancelled(state, order)
        if talk == "bye":
            return self._leaving(state, order)
        if order.asked == CONFIRM and talk == "yes":
            number, answer = rules.place(order, self._seed + 7919 * state.visit + turn)
            done = (*state.done, f"tool:{order.tool}")
            return Outcome(msgspec.structs.replace(state, order=None, number=number, done=done, misses=0), answer)
        if order.asked == CONFIRM and talk == "no":
            answer = Answer(self._pick(state, "corrected", self.pack.say.corrected), "question", CHANGE, rules.card(order))
            return Outcome(msgspec.structs.replace(state, order=msgspec.structs.replace(order, asked=CHANGE)), answer)
        if order.asked == CHANGE and talk in ("yes", "no"):
            return self._again(state, "")
        return None

    def _cancelled(self, state: State, order: Order) -> Outcome:
        return Outcome(msgspec.structs.replace(state, order=None, offer="", misses=0), self.orders[order.tool].cancel(order))

    def _leaving(self, state: State, order: Order) -> Outcome:
        """A goodbye. "That's all" to the read-back means that nothing more is wanted, not that nothing is: ask once more, then drop it."""
        if order.asked in (CONFIRM, CHANGE) and not order.urged:
            return self._again(msgspec.structs.replace(state, order=msgspec.structs.replace(order, urged=True)), "")
        dropped, farewell = self.orders[order.tool].cancel(order), self._farewell(state)
        answer = Answer(f"{dropped.text} {farewell.text}", farewell.kind, card=dropped.card)
        return Outcome(msgspec.structs.replace(state, order=None, misses=0), answer)

    def _between(self, state: State, text: str, talk: str) -> Outcome:
        """Small talk and questions while an order waits, or nothing that is understood."""
        said = self._reply(state, talk) if talk else ""
        if said:
            return self._again(self._count(state, talk), said)
        passages = self._search(state, text)
        if passages and passages[0].score >= ANSWERED:
            return self._again(self._about(state, passages[0]), passages[0].answer)
        if state.misses >= _PATIENCE:
            return self._unsure(state)
        missed = msgspec.structs.replace(self._count(state, "miss"), misses=state.misses + 1)
        return self._again(missed, self._pick(state, "miss", self.pack.say.not_understood))

    def _again(self, state: State, said: str) -> Outcome:
        """An answer in between, then back to what the order needs next."""
        assert state.order is not None
        order, asked = self.orders[state.order.tool].next(state.order, again=bool(said))
        answer = msgspec.structs.replace(asked, text=f"{said} {asked.text}".strip())
        return Outcome(msgspec.structs.replace(state, order=order), answer)

    def _offered(self, state: State, text: str, talk: str, turn: int) -> Outcome | None:
        """A colleague was offered."""
        del text, turn
        if state.offer == "staff" and talk in ("yes", "no"):
            if talk == "yes":
                return self._staff(state)
            state, said = msgspec.structs.replace(state, offer=""), self._pick(state, "ok", self.pack.say.acknowledged)
            return self._again(state, said) if state.order else Outcome(state, Answer(said))
        return None

    def _fresh(self, state: State, text: str, talk: str, *, model: bool) -> Outcome:
        exact = self._exact(state, text)
        if exact is not None:
            return self._passage(state, exact)
        if talk:
            return self._talked(state, talk)
        call = self._read(state, text) or self._read(state, self._resolved(state, text))  # "I'll have one"
        if call is not None:
            return self.called(state, call)
        passages = self._search(state, text)
        best = passages[0].score if passages else 0.0
        if best >= (_SURE if model else ANSWERED):
            return self._passage(state, passages[0])
        if model:
            unsure = self._pick(state, "unsure", self.pack.say.unsure)
            order = self.orders[state.order.tool].state(state.order, state.topic) if state.order else DialogueState()
            return Outcome(state, request=build_request(self.system, self.tools, state, text, passages, order, unsure))
        if len(normalise(text)) <= 2:  # a word or two that mean nothing here are misheard rather than unanswerable
            return self._miss(state)
        return self._unsure(state)

    def _talked(self, state: State, talk: str) -> Outcome:
        say = self.pack.say
        after = msgspec.structs.replace(self._count(state, talk), misses=0)
        if talk == "bye":
            return Outcome(after, self._farewell(state))
        if talk == "cancel":
            return Outcome(after, Answer(self._pick(state, talk, say.nothing_to_cancel)))
        if talk == "no":
            return Outcome(after, Answer(self._pick(state, talk, say.acknowledged)))
        return Outcome(after, Answer(self._reply(state, talk) or self._pick(state, talk, say.anything_else)))

    # --- pieces

    def _read(self, state: State, text: str) -> ToolCall | None:
        for tool in self.tools:
            order = state.order if state.order and state.order.tool == tool.name else None
            call = self._grounded.read(tool, text, self.orders[tool.name].state(order, state.topic))
            if call is not None:
                return call
        return None

    def _talk_of(self, words: Sequence[str]) -> str:
        """Which talk the words are, "" none; hesitation before and politeness behind do not matter."""
        found = self._talk.get(" ".join(words))
        if found:
            return found
        begin, end = 0, len(words)
        while begin < end - 1 and words[begin] in _LEADING:
            begin += 1
        while end > begin + 1 and words[end - 1] in _TRAILING:
            end -= 1
        return self._talk.get(" ".join(words[begin:end]), "")

    def _resolved(self, state: State, text: str) -> str:
        """The question with "it" replaced by what was last spoken of."""
        words = normalise(text)
        if not state.topic or self._topic(words):
            return text
        return " ".join(state.topic if word in _PRONOUNS else word for word in words)

    def _topic(self, words: Sequence[str]) -> str:
        said = f" {' '.join(words)} "
        return next((value for name, value in self._topics if f" {name} " in said), "")

    def _search(self, state: State, text: str) -> tuple[Passage, ...]:
        return self.knowledge.search(self._resolved(state, text))

    def _exact(self, state: State, text: str) -> Passage | None:
        """A question that is in the knowledge word for word: its answer needs no thought."""
        found = self._search(state, text)
        return found[0] if found and found[0].score == 1.0 else None

    def _about(self, state: State, passage: Passage) -> State:
        topic = self._topic(normalise(passage.question)) or state.topic
        done = state.done if f"topic:{passage.topic}" in state.done else (*state.done, f"topic:{passage.topic}")
        return msgspec.structs.replace(state, topic=topic, done=done, offer="", misses=0)

    def _passage(self, state: State, passage: Passage) -> Outcome:
        return Outcome(self._about(state, passage), Answer(passage.answer))

    def _unsure(self, state: State) -> Outcome:
        text = self._pick(state, "unsure", self.pack.say.unsure)
        card = self.orders[state.order.tool].card(state.order) if state.order else ""
        return Outcome(msgspec.structs.replace(self._count(state, "unsure"), offer="staff"), Answer(text, "question", "staff", card))

    def _miss(self, state: State) -> Outcome:
        if state.misses >= _PATIENCE:
            return self._unsure(state)
        text = self._pick(state, "miss", self.pack.say.not_understood)
        return Outcome(msgspec.structs.replace(self._count(state, "miss"), misses=state.misses + 1), Answer(text, "question", _open(state)))

    def _staff(self, state: State) -> Outcome:
        answer = Answer(self._pick(state, "staff", self.pack.say.staff_called), card=_STAFF_CARD, staff=True)
        return Outcome(msgspec.structs.replace(state, offer="", misses=0), answer)

    def _farewell(self, state: State) -> Answer:
        return Answer(self._reply(state, "bye") or self._pick(state, "bye", self.pack.say.farewell), "farewell")

    def _reply(self, state: State, talk: str) -> str:
        say = self.pack.talk[talk].say
        return self._pick(state, talk, say) if say else ""

    @staticmethod
    def _pick(state: State, kind: str, wordings: Sequence[str]) -> str:
        """The wordings in turn."""
        return wordings[state.said.get(kind, 0) % len(wordings)]

    @staticmethod
    def _count(state: State, kind: str) -> State:
        return msgspec.structs.replace(state, said={**state.said, kind: state.said.get(kind, 0) + 1})


def _open(state: State) -> str:
    """The question that still waits for its answer, as messages.Reply.expects has it."""
    return state.offer or (state.order.asked if state.order else "")
