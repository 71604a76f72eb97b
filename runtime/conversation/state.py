"""What the dialogue remembers of a visit, as one value: it can be saved, restored, and thrown away when a turn is not granted."""

from __future__ import annotations

import msgspec

__all__ = ["Line", "Order", "State", "Turn", "heard"]

_KEEP_TURNS = 24


class Line(msgspec.Struct, frozen=True):
    """One thing that the visitor wants of a tool: slot → canonical value ("": expressly none), and how many."""

    slots: dict[str, str] = {}
    quantity: int = 1


class Order(msgspec.Struct, frozen=True):
    """A tool under way. `asked` is the slot last asked for, `confirm` while the read-back waits for a yes, `change` after a plain no."""

    tool: str
    lines: tuple[Line, ...] = (Line(),)
    asked: str = ""
    urged: bool = False  # a goodbye was answered with the read-back once more


class Turn(msgspec.Struct, frozen=True):
    """One exchange: what the visitor said and what they heard of the answer."""

    turn: int
    user: str
    assistant: str
    cut: bool = False  # the answer was interrupted


class State(msgspec.Struct, frozen=True):
    """Everything of the visit."""

    visit: int = 0
    turns: tuple[Turn, ...] = ()
    order: Order | None = None
    offer: str = ""  # what a plain yes would accept: "staff"
    topic: str = ""  # what "it" means: a value of the tool's main slot
    done: tuple[str, ...] = ()  # tools done and topics answered in this visit, for the objectives
    number: int = 0  # of the last order
    last: str = ""  # the last answer in full, for "sorry?", with what it asked for
    last_expects: str = ""
    said: dict[str, int] = {}  # how often each kind of reply was given, to vary the wording
    misses: int = 0  # times in a row that nothing was understood

    def after(self, turn: int, user: str, assistant: str) -> State:
        """This state with one more exchange."""
        return msgspec.structs.replace(self, turns=(*self.turns, Turn(turn, user, assistant))[-_KEEP_TURNS:])


def heard(state: State, turn: int, text: str) -> State:
    """Law 3: of turn `turn` the visitor heard only `text`; an answer of which nothing was heard leaves the history."""
    turns = []
    for item in state.turns:
        if item.turn == turn:
            turns.append(msgspec.structs.replace(item, assistant=text.strip(), cut=True))
        else:
            turns.append(item)
    return msgspec.structs.replace(state, turns=tuple(turns))
