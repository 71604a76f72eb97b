"""Doing what a visitor orders: from tool calls to questions, a read-back and a done order. Pure: state and call in, state and words out."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

import msgspec

from engines.language._types import DialogueState, ToolCall
from engines.language.words import number_words
from runtime.conversation.knowledge import spoken_price
from runtime.conversation.phrases import slot_values
from runtime.conversation.state import Line, Order
from runtime.conversation.understanding import Understander, Understanding, declare, understand
from runtime.notation import parse
from runtime.packs import Slot, Tool

__all__ = ["CHANGE", "CONFIRM", "NO_CARD", "Answer", "Orders", "Understander", "Understanding", "declare", "understand"]

CONFIRM = "confirm"
CHANGE = "change"
NO_CARD = '{"type": "none"}'  # takes the card away
_MOST_LINES = 8


class Answer(msgspec.Struct, frozen=True):
    """What to say: text, kind and expects as in messages.Reply, card as JSON; `staff` when a colleague shall come."""

    text: str
    kind: str = "answer"
    expects: str = ""
    card: str = ""
    staff: bool = False


class Orders:
    """The rules of one tool."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.main = tool.slot[0].name
        self._summary = parse(tool.summary)
        self._price = {(slot.name, value): price for slot in tool.slot for _, value, price in slot_values(slot)}

    # --- what the visitor wants

    def apply(self, order: Order | None, call: ToolCall, topic: str = "") -> Order:
        """The order after the call: new lines, filled slots, corrections of the lines spoken of, lines taken out (it may have none left).

        `topic` is the drink last spoken of: the line that is changed where none is named.
        """
        counted = zip(call.lines, call.quantities or [0] * len(call.lines), strict=False)
        wanted = [(slots, quantity) for slots, quantity in counted if slots or quantity]
        if order is None:
            lines = [_line(Line(), slots, quantity) for slots, quantity in wanted or [({}, 0)]]
            return Order(self.tool.name, tuple(lines[:_MOST_LINES]))
        lines = list(order.lines)
        out = self._take_out(lines, call)
        changed: list[int] = []
        for slots, quantity in wanted:
            left = [at for at in range(len(order.lines)) if at not in out and at not in changed]
            target: int | None
            if out and not call.another and not self._fitting(order, left, slots):
                target = out.pop(0)  # "not the tea, the coffee": in its place
            elif left and not slots:
                target = self._counted(order, left, quantity, topic)
            else:
                target = None if self._adds(order, call, slots) else self._target(order, call, slots, left, topic, more=bool(changed))
            if target is None:
                lines.append(_line(Line(), slots, quantity))
                continue
            # A complete wish said again ("no, can I have a small espresso") replaces the line; anything less changes it.
            again = call.fresh and self.main in slots and order.asked in (CONFIRM, CHANGE)
            lines[target] = _line(Line() if again else lines[target], slots, quantity)
            changed.append(target)
        kept = [line for at, line in enumerate(lines) if at not in out]
        return Order(self.tool.name, tuple(kept[:_MOST_LINES]), order.asked)

    def _take_out(self, lines: list[Line], call: ToolCall) -> list[int]:
        """Which lines are not wanted any more; where fewer of one are, its number is lowered."""
        out: list[int] = []
        for slots, quantity in call.removed:
            named = [at for at, line in enumerate(lines) if at not in out and line.slots.get(self.main) == slots[self.main]]
            fitting = [at for at in named if slots.items() <= lines[at].slots.items()]
            if not fitting and len(named) != 1:
                continue
            at = (fitting or named)[-1]
            if 0 < quantity < lines[at].quantity:
                lines[at] = Line(lines[at].slots, lines[at].quantity - quantity)
            else:
                out.append(at)
        return out

    def _adds(self, order: Order, call: ToolCall, slots: Mapping[str, str]) -> bool:
        """One more thing, not a change: another drink with words for it, while the line before has its drink."""
        return self.main in slots and call.another and not call.correction and self.main in order.lines[-1].slots

    def _target(self, order: Order, call: ToolCall, slots: Mapping[str, str], left: Sequence[int], topic: str, *, more: bool) -> int | None:
        """Which of the lines `left` is spoken of: of those with the drink named (else of all) the one that lacks what was asked, else the
        one last spoken of.

        With `more`, where the same sentence changed others: only a correction of another drink of the order; None is one more.
        """
        fitting = self._fitting(order, left, slots)
        if more or not left:
            return fitting[-1] if fitting and call.correction else None
        spoken = fitting or left
        waiting = [at for at in spoken if order.asked in slots and order.asked not in order.lines[at].slots]
        return waiting[0] if waiting else self._spoken_of(order, spoken, topic)

    def _fitting(self, order: Order, left: Sequence[int], slots: Mapping[str, str]) -> list[int]:
        """Those of the lines `left` that have the drink named, or none yet."""
        drink = slots.get(self.main)
        return [at for at in left if drink in (None, order.lines[at].slots.get(self.main, drink))]

    def _counted(self, order: Order, left: Sequence[int], quantity: int, topic: str) -> int:
        """Which line a number alone is for: the one last spoken of, unless it is that many already: "two lattes and a tea" - "just one"."""
        spoken = self._spoken_of(order, left, topic)
        return next((at for at in (spoken, *reversed(left)) if order.lines[at].quantity != quantity), spoken)

    def _spoken_of(self, order: Order, left: Sequence[int], topic: str) -> int:
        """The last of the lines `left` with the drink `topic`, else the last."""
        return max((at for at in left if order.lines[at].slots.get(self.main) == topic), default=left[-1])

    # --- what to say

    def next(self, order: Order, *, again: bool = False) -> tuple[Order, Answer]:
        """What is still to be asked, or the read-back; `again` after something else was said in between."""
        for line in order.lines:
            for slot in self.tool.slot:
                if slot.required and not line.slots.get(slot.name):
                    text = self._ask(slot, order, line)
                    return msgspec.structs.replace(order, asked=slot.name), Answer(text, "question", slot.name, self.card(order))
        confirm = (again and self.tool.confirm_again) or self.tool.confirm
        text = confirm.format(summary=self.summary(order), total=self.total(order))
        return msgspec.structs.replace(order, asked=CONFIRM), Answer(text, "confirm", CONFIRM, self.card(order))

    def _ask(self, slot: Slot, order: Order, line: Line) -> str:
        """The slot's question; with several drinks in the order it says which one is meant."""
        drink = line.slots.get(self.main, "")
        return f"For the {drink}: {slot.ask}" if drink and len(order.lines) > 1 else slot.ask

    def place(self, order: Order, seed: int) -> tuple[int, Answer]:
        """The order is done: its number and what to say. The number is drawn, so that it tells nothing about other visitors."""
        number = random.Random(seed).randrange(10, 100)
        text = self.tool.done.format(summary=self.summary(order), total=self.total(order), number=number)
        return number, Answer(text, "answer", "", self.card(order, number))

    def cancel(self, order: Order) -> Answer:
        """The visitor wants nothing after all."""
        return Answer(self.tool.cancelled.format(summary=self.summary(order)), card=NO_CARD)

    # --- the order in words

    def summary(self, order: Order) -> str:
        """The whole order as it is read back."""
        said = [self.line(line) for line in order.lines]
        return said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]

    def line(self, line: Line) -> str:
        """One line: "a large latte with oat milk", "two small espressos"."""
        drink = line.slots.get(self.main, "")
        if line.quantity > 1 and drink:
            many = self._summary.render({**line.slots, self.main: f"{drink}s"}) or f"{drink}s"
            return f"{number_words(line.quantity)} {many}"
        text = self._summary.render(line.slots) or drink
        if not text:
            return " ".join(value for value in line.slots.values() if value)
        return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"

    def total(self, order: Order) -> str:
        """The price as it is spoken."""
        return spoken_price(self._sum(order), self.tool.currency)

    def _sum(self, order: Order) -> float:
        return sum(line.quantity * self._line_price(line) for line in order.lines)

    def _line_price(self, line: Line) -> float:
        return sum(self._price.get((slot, value), 0.0) for slot, value in line.slots.items())

    def card(self, order: Order, number: int = 0) -> str:
        """The order for the page."""
        lines = [
            {
                "text": self.line(line),
                "quantity": line.quantity,
                "price": f"{self.tool.currency}{line.quantity * self._line_price(line):.2f}",
            }
            for line in order.lines
            if any(line.slots.values())
        ]
        total = f"{self.tool.currency}{self._sum(order):.2f}"
        card = {"type": "order", "title": self.tool.label, "lines": lines, "total": total, "number": number or None}
        return json.dumps(card, ensure_ascii=False)

    def state(self, order: Order | None, topic: str = "") -> DialogueState:
        """What an engine needs to know of the order; `topic` is the drink last spoken of."""
        if order is None:
            return DialogueState()
        expects = "" if order.asked in (CONFIRM, CHANGE) else order.asked
        line = order.lines[self._spoken_of(order, range(len(order.lines)), topic)]
        there = tuple(line.slots.get(self.main, "") for line in order.lines)
        return DialogueState(self.tool.name, dict(line.slots), expects, line.quantity, there)


def _line(before: Line, slots: Mapping[str, str], quantity: int) -> Line:
    return Line({**before.slots, **slots}, quantity or before.quantity)
