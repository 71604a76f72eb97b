"""The rules of supervision for one node, without I/O: `decide(life, event, now) → (life, actions)`.

A node is started, is ready when it says so, and must show progress. Dead: restarted alone, at once the first time, then with a back-off
that doubles while it keeps dying. Alive but stuck: a stack dump, then the kill. After `MAX_CRASHES` within `CRASH_WINDOW_NS` it is given
up, which takes its feature away, and tried again once a minute: the box is unattended for months, and what was wrong may have passed. So
is one whose start hangs `MAX_HUNG` times in a row: such a life is longer than the window, so no number of crashes would ever tell.
One that is to be renewed is told to end and comes back at once; that is no crash.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from runtime.messages import NodeState
from runtime.topology import Node

__all__ = ["RENEWED", "Action", "Announce", "Command", "Event", "Exited", "Life", "Renew", "Tick", "decide"]

SECOND = 1_000_000_000
FIRST_DELAY_NS = SECOND // 10
MAX_DELAY_NS = 5 * SECOND
MAX_CRASHES = 5
CRASH_WINDOW_NS = 60 * SECOND
MAX_HUNG = 2
"""Starts in a row that hang until they are killed: one may have been a cold disk."""
RETRY_GIVEN_UP_NS = 60 * SECOND
START_LIMIT_NS = 60 * SECOND
"""A node that is not ready by then is stuck (models load within it on the slowest box)."""
STUCK_FLOOR_NS = 4 * SECOND
"""Shortest silence that counts as stuck: a saturated box delays honest nodes by seconds."""
DUMP_GRACE_NS = SECOND // 4
CANNOT_WORK_HERE = 78
"""Exit status (EX_CONFIG) by which a node says that a restart would not help."""
LEAVE_LIMIT_NS = 3 * SECOND
"""A node that is told to end may take so long: it closes models and sockets."""
RENEWED = "renewed: it comes back at once"
"""The reason of a node that went down because it was to be renewed."""


class Command(Enum):
    """What the shell shall do with the process."""

    START = "start"
    DUMP = "dump"  # SIGUSR1: faulthandler writes all stacks
    END = "end"  # SIGTERM
    KILL = "kill"
    CLEAN = "clean"  # clear pins and board line of the dead process


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the others about the node's new state."""

    state: NodeState
    reason: str = ""


Action = Command | Announce


@dataclass(frozen=True, slots=True)
class Tick:
    """The board as read now."""

    beat_ns: int
    ready: bool


@dataclass(frozen=True, slots=True)
class Exited:
    """The process ended: `status` as of waitstatus_to_exitcode (negative: by that signal)."""

    status: int


@dataclass(frozen=True, slots=True)
class Renew:
    """Start the node anew, wherever it is in its life: what it read at its start has changed."""


Event = Tick | Exited | Renew


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of a node; `alive` means that a process of it exists."""

    node: Node
    state: NodeState = NodeState.DOWN
    alive: bool = False
    started_ns: int = 0
    due_ns: int = 0
    restarts: int = 0
    crashes: tuple[int, ...] = ()
    hung: int = 0  # starts that were stuck since it was ready last
    dumped_ns: int = 0
    killed: bool = False
    leaving_ns: int = 0  # since when it ends because it is to be renewed; 0: it is not


def decide(life: Life, event: Event, now_ns: int) -> tuple[Life, tuple[Action, ...]]:
    """The node's next state and what to do about it; `now_ns` is CLOCK_MONOTONIC."""
    if isinstance(event, Exited):
        return _exited(life, event.status, now_ns)
    if isinstance(event, Renew):
        return _renew(life, now_ns)
    if not life.alive:
        return _start(life, now_ns) if now_ns >= life.due_ns else (life, ())
    return _watch(life, event, now_ns)


def _start(life: Life, now_ns: int) -> tuple[Life, tuple[Action, ...]]:
    started = replace(life, state=NodeState.STARTING, alive=True, started_ns=now_ns, dumped_ns=0, killed=False, leaving_ns=0)
    return started, (Command.START, Announce(NodeState.STARTING))


def _renew(life: Life, now_ns: int) -> tuple[Life, tuple[Action, ...]]:
    if not life.alive:  # it waits to be tried again: now, and what it died of before does not count
        return replace(life, due_ns=now_ns, crashes=(), hung=0), ()
    return (life, ()) if life.leaving_ns else (replace(life, leaving_ns=now_ns), (Command.END,))


def _watch(life: Life, tick: Tick, now_ns: int) -> tuple[Life, tuple[Action, ...]]:
    if life.killed:
        return life, ()
    if life.leaving_ns:
        return (life, ()) if now_ns - life.leaving_ns < LEAVE_LIMIT_NS else (replace(life, killed=True), (Command.KILL,))
    if life.dumped_ns:
        if now_ns - life.dumped_ns < DUMP_GRACE_NS:
            return life, ()
        return replace(life, killed=True), (Command.KILL,)
    if life.state is NodeState.STARTING and tick.ready:
        return replace(life, state=NodeState.READY, hung=0), (Announce(NodeState.READY),)
    if life.state is NodeState.READY:
        stuck = now_ns - max(tick.beat_ns, life.started_ns) > max(3 * round(life.node.beat_s * SECOND), STUCK_FLOOR_NS)
    else:
        stuck = now_ns - life.started_ns > START_LIMIT_NS
    return (replace(life, dumped_ns=now_ns), (Command.DUMP,)) if stuck else (life, ())


def _exited(life: Life, status: int, now_ns: int) -> tuple[Life, tuple[Action, ...]]:
    if life.leaving_ns:
        renewed = replace(life, state=NodeState.DOWN, alive=False, due_ns=now_ns, leaving_ns=0)
        return renewed, (Command.CLEAN, Announce(NodeState.DOWN, RENEWED))
    crashes = (*(t for t in life.crashes if now_ns - t < CRASH_WINDOW_NS), now_ns)
    hangs = life.dumped_ns > 0 and life.state is NodeState.STARTING  # before it can dump its stack, the signal for that ends it
    hung = life.hung + hangs
    hopeless = status == CANNOT_WORK_HERE or len(crashes) >= MAX_CRASHES or (hangs and hung >= MAX_HUNG)
    state = NodeState.GIVEN_UP if hopeless else NodeState.DOWN
    again = min(MAX_DELAY_NS, FIRST_DELAY_NS << (len(crashes) - 2)) if len(crashes) > 1 else 0
    delay = RETRY_GIVEN_UP_NS if hopeless else again
    reason = _reason(life, status)
    kept = () if hopeless else crashes
    after = replace(life, state=state, alive=False, due_ns=now_ns + delay, restarts=life.restarts + 1, crashes=kept, hung=hung)
    return after, (Command.CLEAN, Announce(state, reason))


def _reason(life: Life, status: int) -> str:
    if life.killed:
        return "stuck: no progress, killed after a stack dump"
    if status == CANNOT_WORK_HERE:
        return "cannot work here, see its message above"
    return f"ended by signal {-status}" if status < 0 else f"exited with status {status}"
