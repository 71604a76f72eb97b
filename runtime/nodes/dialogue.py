"""The node that answers: Ask in, clauses of the answer out, nothing kept that the visitor did not get to hear.

One asyncio loop: what needs no model is answered in the callback of the Ask; a model's answer streams in a task that a newer turn
cancels. State of a speculative turn is kept apart until the floor grants the turn.

Where the governor wants less of the model (`Effort.model`), it is asked for shorter answers, cut off after fewer sentences (closing the
stream is what ends a server's work), and not on a guess; at 0 not at all. Reading slowly would spare nothing: docs/heat.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, suppress
from typing import Any, Protocol

import msgspec

from engines.errors import EngineError
from engines.language import ChatRequest, GroundedEngine, LanguageEngine, TextDelta, ToolCall, select
from runtime import config
from runtime.clock import Clock
from runtime.context import Context
from runtime.conversation.clauses import ClauseCutter, clauses
from runtime.conversation.mind import Mind, Outcome
from runtime.conversation.objectives import reached
from runtime.conversation.state import State, heard
from runtime.conversation.tools import Answer
from runtime.messages import SURE, Ask, Effort, Floor, Heard, HeardKind, Message, Reply
from runtime.packs import Pack

__all__ = ["ANSWER_WITHIN_NS", "Dialogue", "House", "main"]

_TICK_S = 0.25
ANSWER_WITHIN_NS = round(0.75e9 * config.THINKING_LIMIT_S)
"""A model that has come to no whole clause so long after the grant has failed. The rest of the limit is the voice's, for an answer without
it, and longer than the tick: else the floor gives the turn up first, nobody calls that a failure, and the next question waits as long."""
_MODEL_REST_NS = 20_000_000_000  # a model that failed is not asked again for so long: each failure costs the visitor seconds


class Store(Protocol):
    """Where the state survives a crash."""

    def save(self, state: bytes) -> None:
        """Keep it; ValueError when it is too large."""

    def load(self) -> bytes | None:
        """What was kept."""

    def erase(self) -> None:
        """Nothing of it stays."""


class House(Protocol):
    """What the dialogue needs of its node's Context."""

    clock: Clock
    checkpoint: Any

    def publish(self, link: str, message: Message) -> None:
        """Send on a stream link."""

    def mark(self, stage: str, turn: int, t_ns: int | None = None, value: float = 0.0) -> None:
        """Note a stage of a turn."""

    def notice(self, code: str, text: str, audience: str = "technician") -> None:
        """Show a line; empty takes it back."""


class _Pending(msgspec.Struct):
    """The turn being answered: its sentence, the state it found and the one it would leave, what was said of it so far."""

    ask: Ask
    before: State
    state: State
    first: int  # the turn that first asked it: one that repeats it draws the same order number
    said: list[str] = []
    seq: int = 0
    finished: bool = False
    granted: bool = False
    granted_ns: int = 0
    request: ChatRequest | None = None  # to be asked when the turn is granted
    asked: ChatRequest | None = None  # what the model is thinking about
    answer: Answer | None = None  # in full


class _Kept(msgspec.Struct, frozen=True):
    """What survives the node, and the folder of the pack that it is about."""

    pack: str
    state: State


class Dialogue:
    """The dialogue of one kiosk. Methods are called on the node's loop, one per message."""

    def __init__(self, pack: Pack, engine: LanguageEngine, house: House, seed: int = 0) -> None:
        self.mind, self._pack = Mind(pack, seed), pack
        self._engine = engine
        self._has_model = not isinstance(engine, GroundedEngine)
        self._house = house
        self._pending: _Pending | None = None
        self._last: _Pending | None = None  # the turn that was granted last, as it was then
        self._task: asyncio.Task[None] | None = None
        self._model_rests_until = 0
        self._share = 1.0  # of the model that the governor allows
        self._turn = 0
        self._granted = 0
        self.state = self._restored()

    # --- messages

    def on_ask(self, ask: Ask) -> None:
        """Answer, unless a newer turn or visit is known already."""
        if ask.turn < self._turn or ask.visit < self.state.visit:
            return
        if ask.visit > self.state.visit:
            self.forget(ask.visit)
        self._drop()
        self._turn = ask.turn
        model = self._has_model and self._share > 0 and self._house.clock.monotonic_ns() >= self._model_rests_until
        text = "" if ask.source == "speech" and ask.confidence < SURE else ask.text
        last = self._last if self._last is not None and self._last.ask.turn == ask.instead_of else None
        before, first = (last.before, last.first) if last is not None else (self.state, ask.turn)
        outcome = self.mind.consider(before, text, first, model=model, still_there=ask.still_there)
        if last is not None:
            outcome = self._unless_done(last, outcome)
        pending = self._pending = _Pending(ask, before, outcome.state, first)
        if not ask.speculative or self._granted == ask.turn:
            self._counts(pending)
        if outcome.answer is not None:
            self._speak(pending, outcome.answer)
        elif outcome.request is not None:
            pending.request = msgspec.structs.replace(outcome.request, share=self._share)
            if pending.granted or self._share >= 1:
                self._begin(pending)

    def on_effort(self, effort: Effort) -> None:
        """How much of the model is allowed, from the next question on."""
        self._share = min(1.0, max(0.0, effort.model))

    def on_floor(self, floor: Floor) -> None:
        """Keep what was granted, drop what is over, forget a visit that ended."""
        if floor.visit != self.state.visit:
            self.forget(floor.visit)
        self._granted = floor.granted
        self._turn = max(self._turn, floor.turn)
        pending = self._pending
        if pending is None:
            return
        if pending.ask.turn == floor.granted:
            self._grant(pending)
        if pending.ask.turn < floor.turn:
            self._drop()

    def on_heard(self, message: Heard) -> None:
        """Law 3: what was not heard was not said."""
        pending = self._pending
        if pending is not None and pending.ask.turn == message.turn and message.kind is not HeardKind.STOPPED:
            self._grant(pending)
        if message.kind is HeardKind.STOPPED:
            if pending is not None and pending.ask.turn == message.turn:
                self._grant(pending)
                self._drop()
            self.state = heard(self.state, message.turn, message.text)
            for kept in (self._pending, self._last):
                if kept is not None:
                    kept.before = heard(kept.before, message.turn, message.text)
                    kept.state = heard(kept.state, message.turn, message.text)
            self._save()

    def tick(self) -> None:
        """Let time pass: whoever waits for a model that says nothing is answered without it."""
        pending = self._pending
        if pending is None or pending.asked is None or pending.said or not pending.granted:
            return
        if self._house.clock.monotonic_ns() - pending.granted_ns >= ANSWER_WITHIN_NS:
            self._cancel()
            self._without_model(pending, pending.asked, f"the language model came to no answer in {ANSWER_WITHIN_NS / 1e9:g} s")

    def forget(self, visit: int) -> None:
        """The visit is over: nothing of it stays but the names of the objectives it reached."""
        for name in reached(self.mind.pack.objectives, self.state.done):
            self._house.mark(f"objective:{name}", self.state.turns[-1].turn if self.state.turns else 0)
        self._pending = self._last = None
        self._cancel()
        self.mind.forget()
        self.state = State(visit=visit)
        self._house.checkpoint.erase()
        self._house.notice("staff-called", "")

    # --- answering

    def _unless_done(self, last: _Pending, outcome: Outcome) -> Outcome:
        """`outcome` of a question in place of that of `last`, unless that placed an order which this one neither places nor changes:
        then it stays placed ("yes" … "did you hear that"), and the answer with its number is given again.
        """
        placed = any(done.startswith("tool:") for done in last.state.done[len(last.before.done) :])
        order, wanted = last.before.order, outcome.state.order
        if not placed or last.answer is None or order is None or wanted is None or wanted.lines != order.lines:
            return outcome
        return Outcome(msgspec.structs.replace(last.state, turns=last.before.turns), last.answer)

    def _speak(self, pending: _Pending, answer: Answer) -> None:
        """A whole answer, clause by clause."""
        if answer.staff:
            self._house.notice("staff-called", "A visitor at this kiosk asks for a colleague.")
        parts = clauses(answer.text) or [""]
        for number, part in enumerate(parts, start=1):
            self._reply(pending, part, answer, last=number == len(parts))
        self._finish(pending, answer)

    def _reply(self, pending: _Pending, text: str, answer: Answer, *, last: bool) -> None:
        now = self._house.clock.monotonic_ns()
        if not pending.seq:
            self._house.mark("reply_first", pending.ask.turn, now)
        self._house.publish(
            "reply",
            Reply(pending.ask.turn, now, pending.seq, text, last, answer.kind, answer.expects, answer.card if not pending.seq else ""),
        )
        pending.seq += 1
        if text:
            pending.said.append(text)

    def _finish(self, pending: _Pending, answer: Answer) -> None:
        pending.state = self.mind.finish(pending.state, pending.ask.turn, pending.ask.text, answer)
        pending.finished, pending.answer = True, answer
        if pending.granted:
            self._grant(pending)

    def _begin(self, pending: _Pending) -> None:
        """Ask the model what is to be asked."""
        request, pending.request = pending.request, None
        if request is not None:
            pending.asked = request
            self._task = asyncio.get_running_loop().create_task(self._think(pending, request))

    async def _think(self, pending: _Pending, request: ChatRequest) -> None:
        """A model's answer as it comes; without the model when it fails before the first word."""
        try:
            answer = await self._stream(pending, request)
        except EngineError as error:
            self._without_model(pending, request, str(error))
        else:
            self._house.notice("language-model", "")
            if answer is not None:
                self._finish(pending, answer)

    def _without_model(self, pending: _Pending, request: ChatRequest, why: str) -> None:
        """The model failed: it is left alone for a while, the technician is told, and the visitor gets an answer."""
        self._model_rests_until = self._house.clock.monotonic_ns() + _MODEL_REST_NS
        self._house.notice("language-model", f"{why}; answering without it")
        if pending.said:
            answer = Answer(" ".join(pending.said))
            self._reply(pending, "", answer, last=True)
            self._finish(pending, answer)
            return
        outcome = self.mind.grounded(pending.state, request)
        assert outcome.answer is not None
        pending.state = outcome.state
        self._speak(pending, outcome.answer)

    async def _stream(self, pending: _Pending, request: ChatRequest) -> Answer | None:
        """Publish clauses as they are complete; None when another answer was spoken instead (a tool's, a guardrail's)."""
        cutter = ClauseCutter()
        answer = Answer("")
        async with aclosing(self._engine.stream(request)) as events:
            async for event in events:
                if isinstance(event, ToolCall) and not pending.said:
                    outcome = self.mind.called(pending.state, event)
                    assert outcome.answer is not None
                    pending.state = outcome.state
                    self._speak(pending, outcome.answer)
                    return None
                if isinstance(event, TextDelta) and not self._clauses(pending, cutter.feed(event.text), answer, request.share):
                    break
            else:
                self._clauses(pending, cutter.finish(), answer, request.share)
        if not pending.said:
            outcome = self.mind.grounded(pending.state, request)
            assert outcome.answer is not None
            pending.state = outcome.state
            self._speak(pending, outcome.answer)
            return None
        self._reply(pending, "", answer, last=True)
        return Answer(" ".join(pending.said))

    def _clauses(self, pending: _Pending, parts: Iterator[str], answer: Answer, share: float) -> bool:
        """Publish clauses that the guardrails pass; False when enough was said: that `share` of the sentences that an answer may have."""
        most = max(1, round(self.mind.gate.max_sentences * share))
        for part in parts:
            verdict = self.mind.gate.outgoing(" ".join([*pending.said, part]))
            if verdict is not None:
                self._reply(pending, verdict.say[0], answer, last=False)
                return False
            self._reply(pending, part, answer, last=False)
            if sum(text.rstrip("\"')")[-1:] in ".?!" for text in pending.said) >= most:
                return False
        return True

    # --- keeping

    def _grant(self, pending: _Pending) -> None:
        """The turn counts: its state becomes the dialogue's as soon as it is whole."""
        self._counts(pending)
        self._begin(pending)
        if pending.finished:
            self.state = pending.state
            self._pending, self._last = None, pending
            self._save()

    def _counts(self, pending: _Pending) -> None:
        if not pending.granted:
            pending.granted, pending.granted_ns = True, self._house.clock.monotonic_ns()

    def _drop(self) -> None:
        """A newer turn: the one being answered is over. If it was granted, what was said of it stays."""
        pending, self._pending = self._pending, None
        self._cancel()
        if pending is not None and pending.granted and not pending.finished:
            self.state = self.mind.finish(pending.state, pending.ask.turn, pending.ask.text, Answer(" ".join(pending.said)))
            self._last = pending
            self._save()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _save(self) -> None:
        state = self.state
        while True:
            try:
                self._house.checkpoint.save(msgspec.json.encode(_Kept(str(self._pack.path), state)))
            except ValueError:  # too large: the oldest turns matter least
                if not state.turns:
                    return
                state = msgspec.structs.replace(state, turns=state.turns[len(state.turns) // 2 + 1 :])
            else:
                return

    def _restored(self) -> State:
        saved = self._house.checkpoint.load()
        if saved:
            with suppress(msgspec.DecodeError, msgspec.ValidationError):
                kept = msgspec.json.decode(saved, type=_Kept)
                # An order of another pack's tools cannot go on.
                return kept.state if kept.pack == str(self._pack.path) else State(visit=kept.state.visit)
        return State()

    async def close(self) -> None:
        """End the work under way."""
        task = self._task
        self._cancel()
        if task is not None:
            with suppress(asyncio.CancelledError):
                await task
        if hasattr(self._engine, "aclose"):
            await self._engine.aclose()


def main(ctx: Context) -> None:
    """The node."""
    asyncio.run(_run(ctx))


async def _run(ctx: Context) -> None:
    language = ctx.config.language
    key = config.secret(language.api_key_env)
    selection = select(language.engine, language.base_url, language.model, key, language.timeout_s, language.max_tokens)
    for reason in selection.reasons:
        ctx.log.info("%s", reason)
    dialogue = Dialogue(ctx.pack, selection.engine, ctx, seed=ctx.clock.monotonic_ns() % 1_000_003)

    def handle(link: str, message: Any) -> None:
        if link == "ask":
            dialogue.on_ask(message)
        elif link == "floor":
            dialogue.on_floor(message)
        elif link == "heard":
            dialogue.on_heard(message)
        elif link == "effort":
            dialogue.on_effort(message)
        loop.call_soon(ctx.pump, handle)  # the descriptors are edge-triggered

    loop = asyncio.get_running_loop()
    ctx.attach(loop, handle)
    ctx.ready()
    while not ctx.stopping:
        await asyncio.sleep(_TICK_S)
        ctx.pump(handle)
        dialogue.tick()
        ctx.beat()
    await dialogue.close()
