"""The rules of supervision, with a hand-turned clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.messages import NodeState
from runtime.supervision import (
    CANNOT_WORK_HERE,
    DUMP_GRACE_NS,
    FIRST_DELAY_NS,
    LEAVE_LIMIT_NS,
    MAX_CRASHES,
    MAX_HUNG,
    RENEWED,
    RETRY_GIVEN_UP_NS,
    SECOND,
    START_LIMIT_NS,
    STUCK_FLOOR_NS,
    Announce,
    Command,
    Exited,
    Life,
    Renew,
    Tick,
    decide,
)
from runtime.topology import Node

NODE = Node("voice", "runtime.nodes.voice", cpu_pct=10, pss_mb=10, beat_s=1.0)
ALIVE = Tick(beat_ns=0, ready=True)


def running(now: int = 0) -> Life:
    """A node that is ready since `now`."""
    life, _ = decide(Life(NODE), Tick(0, ready=False), now)
    life, _ = decide(life, Tick(now, ready=True), now)
    return life


def test_starts_then_is_ready():
    """A node that does not exist is started; it is ready when its board line says so, and both are announced."""
    life, actions = decide(Life(NODE), Tick(0, ready=False), 5)
    assert actions == (Command.START, Announce(NodeState.STARTING))
    life, actions = decide(life, Tick(6, ready=True), 7)
    assert (life.state, actions) == (NodeState.READY, (Announce(NodeState.READY),))


def test_dead_node_is_restarted_alone_at_once_and_after_back_off_the_next_time():
    """After a crash the dead node's traces are cleaned and it is started again; one that dies again soon waits, and not less."""
    life, actions = decide(running(), Exited(-9), SECOND)
    assert actions[0] is Command.CLEAN
    assert actions[1] == Announce(NodeState.DOWN, "ended by signal 9")
    life, actions = decide(life, ALIVE, SECOND)
    assert Command.START in actions
    life, _ = decide(life, Exited(-9), 2 * SECOND)
    assert life.due_ns == 2 * SECOND + FIRST_DELAY_NS
    assert decide(life, ALIVE, life.due_ns - 1)[1] == ()
    assert Command.START in decide(life, ALIVE, life.due_ns)[1]


def test_back_off_grows_and_a_hopeless_node_is_given_up_then_tried_again():
    """Each crash in a row waits longer; after MAX_CRASHES the node is given up, and tried once more a minute later."""
    life, now, delays = running(), SECOND, []
    for _ in range(MAX_CRASHES):
        life, _ = decide(life, Exited(1), now)
        delays.append(life.due_ns - now)
        now = life.due_ns
        if life.state is NodeState.DOWN:
            life, _ = decide(life, ALIVE, now)
    assert delays[:-1] == sorted(delays[:-1])
    assert (life.state, delays[-1]) == (NodeState.GIVEN_UP, RETRY_GIVEN_UP_NS)
    assert Command.START in decide(life, ALIVE, now)[1]


def test_a_node_that_cannot_work_here_is_given_up_at_once():
    """A missing model does not come back by trying quickly."""
    life, _ = decide(running(), Exited(CANNOT_WORK_HERE), SECOND)
    assert life.state is NodeState.GIVEN_UP


def test_stuck_node_is_dumped_then_killed():
    """No progress for three beats: first the stacks, then the kill, and the reason says so."""
    life = running()
    stuck_at = STUCK_FLOOR_NS + SECOND
    life, actions = decide(life, ALIVE, stuck_at)
    assert actions == (Command.DUMP,)
    assert decide(life, ALIVE, stuck_at + 1)[1] == ()
    life, actions = decide(life, ALIVE, stuck_at + DUMP_GRACE_NS)
    assert actions == (Command.KILL,)
    assert decide(life, ALIVE, stuck_at + 2 * DUMP_GRACE_NS)[1] == ()
    _, actions = decide(life, Exited(-9), stuck_at + 3 * DUMP_GRACE_NS)
    assert "stuck" in actions[1].reason


def hangs(life: Life, now: int, by: int = -9) -> tuple[Life, int]:
    """A start of which nothing is heard until it is ended, by the kill or already by the dump's signal; the life after it, and when."""
    life, actions = decide(life, Tick(0, ready=False), now)
    assert Command.START in actions
    now += START_LIMIT_NS + SECOND
    life, actions = decide(life, Tick(0, ready=False), now)
    assert actions == (Command.DUMP,)
    if by == -9:
        now += DUMP_GRACE_NS
        life, actions = decide(life, Tick(0, ready=False), now)
        assert actions == (Command.KILL,)
    life, _ = decide(life, Exited(by), now)
    return life, now


def test_a_node_whose_start_hangs_is_given_up():
    """One slow start is no verdict; the second in a row is, and each later try that hangs. Once it is ready, it has two again."""
    life, now = hangs(Life(NODE), 0)
    assert (life.state, life.due_ns, MAX_HUNG) == (NodeState.DOWN, now, 2)
    life, now = hangs(life, life.due_ns, by=-10)
    assert (life.state, life.due_ns) == (NodeState.GIVEN_UP, now + RETRY_GIVEN_UP_NS)
    life, now = hangs(life, life.due_ns)
    assert life.state is NodeState.GIVEN_UP
    life, _ = decide(life, Tick(0, ready=False), life.due_ns)
    life, _ = decide(life, Tick(now, ready=True), life.started_ns)
    life, _ = decide(life, Exited(1), life.started_ns)
    life, _ = hangs(life, life.due_ns)
    assert life.state is NodeState.DOWN


def test_a_crash_after_a_start_that_hung_is_an_ordinary_one():
    """It does not count as the second one that hangs; what is renewed begins anew."""
    life, now = hangs(Life(NODE), 0)
    life, _ = decide(life, Tick(0, ready=False), now)
    life, _ = decide(life, Exited(1), now)
    assert life.state is NodeState.DOWN
    life, _ = decide(life, Renew(), now)
    life, _ = hangs(life, life.due_ns)
    assert life.state is NodeState.DOWN


def test_progress_keeps_a_node_alive():
    """A node whose beat is fresh is left alone however long it runs."""
    life = running()
    for now in range(0, 100 * SECOND, SECOND):
        life, actions = decide(life, Tick(now, ready=True), now)
        assert actions == ()


@given(
    st.lists(
        st.one_of(st.builds(Exited, st.integers(-15, 80)), st.builds(Tick, st.integers(0, 10**12), st.booleans()), st.just(Renew())),
        max_size=60,
    ),
    st.data(),
)
def test_never_two_processes_of_one_node(events, data):
    """Whatever happens in whatever order, a start follows only when no process is alive, a kill only when one is."""
    life, now = Life(NODE), 0
    for event in events:
        now += data.draw(st.integers(0, 30 * SECOND))
        if isinstance(event, Exited) and not life.alive:
            continue
        alive = life.alive
        life, actions = decide(life, event, now)
        assert (Command.START in actions) <= (not alive)
        assert (Command.KILL in actions) <= alive
        assert life.alive == ((alive or Command.START in actions) and not isinstance(event, Exited))


def test_a_node_that_is_renewed_comes_back_at_once_and_it_is_no_crash():
    """However often: it is told to end, its traces are cleaned, it starts again without a wait; one that does not end is killed."""
    life, now = running(), SECOND
    for _ in range(2 * MAX_CRASHES):
        life, actions = decide(life, Renew(), now)
        assert actions == (Command.END,)
        assert decide(life, Renew(), now) == (life, ())
        life, actions = decide(life, Exited(0), now)
        assert actions == (Command.CLEAN, Announce(NodeState.DOWN, RENEWED))
        life, actions = decide(life, ALIVE, now)
        assert Command.START in actions
        life, _ = decide(life, Tick(now, ready=True), now)
    assert (life.state, life.restarts, life.crashes) == (NodeState.READY, 0, ())
    life, _ = decide(life, Renew(), now)
    assert decide(life, Tick(0, ready=True), now + LEAVE_LIMIT_NS - 1)[1] == ()
    life, actions = decide(life, Tick(0, ready=True), now + LEAVE_LIMIT_NS)
    assert actions == (Command.KILL,)
    assert decide(life, Exited(-9), now)[0].restarts == 0


def test_a_node_that_waits_to_be_tried_again_is_renewed_at_once():
    """Given up for a minute: what it could not work with has changed."""
    life, _ = decide(running(), Exited(CANNOT_WORK_HERE), SECOND)
    life, actions = decide(life, Renew(), 2 * SECOND)
    assert actions == ()
    assert Command.START in decide(life, ALIVE, 2 * SECOND)[1]
