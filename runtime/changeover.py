"""The rules by which a running kiosk changes its experience pack, without I/O: `decide(change, event, now) → (change, actions)`.

It waits until nobody is being served. Then the nodes that read the pack are started anew, one after another, so that a visitor who comes
meanwhile meets what a single node that died would mean. The pack serves once all of them are ready. If one of them does not come up with
it, those that had changed go back to the pack before; how long a node may take, and that it is killed then, are the rules of supervision.
A node that did not run before the change is no judge of the pack: nobody waits for it, it gets the pack once that serves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from runtime.messages import PackPhase

__all__ = ["CALM_NS", "WAITED", "Action", "Change", "Event", "Fell", "Ready", "Renew", "Tell", "Tick", "Wish", "decide"]

SECOND = 1_000_000_000
CALM_NS = 2 * SECOND
"""Nobody has been served for so long: who has just gone, or begins to speak, is not disturbed."""
WAITED = "somebody was being served all the time"


@dataclass(frozen=True, slots=True)
class Wish:
    """The pack in folder `pack` is wanted; `ask` names the wish, after `until_ns` it is void."""

    pack: str
    ask: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; `free`: nobody is being served, and no node is on its way up. `away`: nodes that do not run, whatever the pack."""

    free: bool
    away: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ready:
    """A node can do its work."""

    node: str


@dataclass(frozen=True, slots=True)
class Fell:
    """A node ended that was not told to."""

    node: str
    why: str


@dataclass(frozen=True, slots=True)
class Renew:
    """Start this node anew, with that pack."""

    node: str
    pack: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the others how it is now."""


Event = Wish | Tick | Ready | Fell
Action = Renew | Tell


@dataclass(frozen=True, slots=True)
class Change:
    """What serves, and how far a change is. `nodes` are those that have to be started anew."""

    serves: str
    nodes: tuple[str, ...]
    phase: PackPhase = PackPhase.SERVES
    wish: Wish = Wish("", 0, 0)  # the newest that was taken
    next: Wish | None = None  # what is wanted after the change that is under way
    reason: str = ""  # why the pack of the wish does not serve
    calm_ns: int = -1  # since when nobody is served
    left: tuple[str, ...] = ()  # to be started anew; the first one is under way
    done: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()  # did not run when the change began: they get the pack once it serves, and nobody waits for them


def decide(change: Change, event: Event, now_ns: int) -> tuple[Change, tuple[Action, ...]]:
    """How the change goes on; `now_ns` is CLOCK_MONOTONIC."""
    if isinstance(event, Tick):
        return _tick(change, event, now_ns)
    if isinstance(event, Wish):
        return _wish(change, event)
    if isinstance(event, Ready):
        return _ready(change, event.node)
    return _fell(change, event)


def _wish(change: Change, wish: Wish) -> tuple[Change, tuple[Action, ...]]:
    if change.left:  # a change is finished first
        return replace(change, next=wish), ()
    phase = PackPhase.SERVES if wish.pack == change.serves else PackPhase.WAITS
    return replace(change, phase=phase, wish=wish, next=None, reason=""), (Tell(),)


def _tick(change: Change, tick: Tick, now_ns: int) -> tuple[Change, tuple[Action, ...]]:
    free = tick.free
    if not free or change.calm_ns < 0:
        change = replace(change, calm_ns=now_ns if free else -1)
    if change.phase is not PackPhase.WAITS:
        return change, ()
    if free and now_ns - change.calm_ns >= CALM_NS:
        left = tuple(node for node in change.nodes if node not in tick.away)
        aside = tuple(node for node in change.nodes if node in tick.away)
        return _go_on(replace(change, phase=PackPhase.CHANGES, left=left, done=(), aside=aside))
    if now_ns >= change.wish.until_ns:
        return replace(change, phase=PackPhase.SERVES, reason=WAITED), (Tell(),)
    return change, ()


def _ready(change: Change, node: str) -> tuple[Change, tuple[Action, ...]]:
    if node not in change.left[:1]:
        return change, ()
    return _go_on(replace(change, left=change.left[1:], done=(*change.done, node)))


def _fell(change: Change, fell: Fell) -> tuple[Change, tuple[Action, ...]]:
    node = fell.node
    if change.phase is PackPhase.CHANGES and node in (*change.done, *change.left[:1]):
        back = (node, *(name for name in (*change.left[:1], *reversed(change.done)) if name != node))
        return _go_on(replace(change, phase=PackPhase.RETURNS, left=back, done=(), reason=f"{node} does not run with it: {fell.why}"))
    if change.phase is PackPhase.RETURNS and node in change.left[:1]:  # it has nowhere to go back to: the supervision tries it again
        return _go_on(replace(change, left=change.left[1:]))
    return change, ()


def _go_on(change: Change) -> tuple[Change, tuple[Action, ...]]:
    """Begin with the first node that is left; without one the change is over."""
    pack = change.wish.pack if change.phase is PackPhase.CHANGES else change.serves
    if change.left:
        return change, (Renew(change.left[0], pack), Tell())
    renew = tuple(Renew(node, pack) for node in change.aside) if change.phase is PackPhase.CHANGES else ()
    over = replace(change, serves=pack, phase=PackPhase.SERVES, next=None, aside=())
    if change.next is None:
        return over, (*renew, Tell())
    after, actions = _wish(over, change.next)
    return after, (*renew, Tell(), *actions)
