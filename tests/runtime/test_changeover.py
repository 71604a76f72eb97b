"""How a running kiosk changes its experience pack, with a hand-turned clock."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from runtime import topology
from runtime.changeover import CALM_NS, WAITED, Change, Fell, Ready, Renew, Tell, Tick, Wish, decide
from runtime.messages import PackPhase

NODES = ("recogniser", "conductor", "dialogue", "voice")
TEA = Wish("/packs/tea", 1, 10**12)
START = Change("/packs/coffee", NODES)


def after(change, *events):
    """The change after events (the time given with Tick), and the actions of the last one."""
    actions, now = (), 0
    for item in events:
        event, now = item if isinstance(item, tuple) else (item, now)
        change, actions = decide(change, event, now)
    return change, actions


def calm(since=0):
    """Nobody is served, for long enough."""
    return (Tick(free=True), since), (Tick(free=True), since + CALM_NS)


def test_the_nodes_that_read_the_pack_when_they_start_are_those_of_the_table():
    """The face and the line to the fleet stay; who reads no pack is not disturbed."""
    by_use = {use: [row.name for row in topology.NODES if row.pack is use] for use in topology.PackUse}
    assert tuple(by_use[topology.PackUse.START]) == NODES
    assert by_use[topology.PackUse.LIVE] == ["renderer", "stage", "uplink"] == list(topology.link("pack").dst)


def test_one_node_after_another_then_it_serves():
    """Each is started anew when the one before is ready; the pack serves when all are."""
    change, actions = after(START, TEA, *calm())
    for name in NODES:
        assert Renew(name, "/packs/tea") in actions
        assert (change.phase, change.serves) == (PackPhase.CHANGES, "/packs/coffee")
        assert after(change, Ready("stage"))[0] == change  # nobody else's readiness counts
        change, actions = after(change, Ready(name))
    assert (change.phase, change.serves, change.reason, actions) == (PackPhase.SERVES, "/packs/tea", "", (Tell(),))


def test_it_waits_for_the_visitor_to_go():
    """A visit, and the moment after it, are not disturbed; a wish that has waited too long is void and says why."""
    wish = Wish("/packs/tea", 1, 9 * CALM_NS)
    change, _ = after(START, wish, (Tick(free=True), 0), (Tick(free=False), CALM_NS - 1), (Tick(free=True), CALM_NS + 5))
    assert change.phase is PackPhase.WAITS
    assert after(change, (Tick(free=True), 2 * CALM_NS + 4))[0].phase is PackPhase.WAITS
    assert after(change, (Tick(free=True), 2 * CALM_NS + 5))[0].phase is PackPhase.CHANGES
    given_up, actions = after(change, (Tick(free=False), 9 * CALM_NS))
    assert (given_up.phase, given_up.reason, given_up.serves, actions) == (PackPhase.SERVES, WAITED, "/packs/coffee", (Tell(),))


def test_a_node_that_does_not_run_with_it_takes_all_back():
    """It and those that had changed return to the pack before, itself first; why is told in the end."""
    change, _ = after(START, TEA, *calm(), Ready("recogniser"), Ready("conductor"))
    change, actions = after(change, Fell("dialogue", "exited with status 1"))
    assert actions[0] == Renew("dialogue", "/packs/coffee")
    order = []
    while change.left:
        order.append(change.left[0])
        change, _ = after(change, Ready(change.left[0]))
    assert order == ["dialogue", "conductor", "recogniser"]
    assert (change.phase, change.serves) == (PackPhase.SERVES, "/packs/coffee")
    assert change.reason == "dialogue does not run with it: exited with status 1"


def test_a_node_that_falls_after_it_was_ready_takes_all_back_too():
    """As long as the change is under way; later it is an ordinary crash."""
    change, _ = after(START, TEA, *calm(), Ready("recogniser"), Ready("conductor"))
    back, _ = after(change, Fell("recogniser", "ended by signal 11"))
    assert (back.phase, back.left) == (PackPhase.RETURNS, ("recogniser", "dialogue", "conductor"))  # dialogue has begun with the pack, too
    over, _ = after(change, Ready("dialogue"), Ready("voice"), Fell("voice", "ended by signal 11"))
    assert (over.phase, over.serves) == (PackPhase.SERVES, "/packs/tea")


def test_a_wish_takes_back_the_one_before():
    """While it waits at once; while nodes change after that; for what serves already there is nothing to do."""
    cancelled, actions = after(START, TEA, Wish("/packs/coffee", 2, 0))
    assert (cancelled.phase, cancelled.wish.ask, actions) == (PackPhase.SERVES, 2, (Tell(),))
    change, _ = after(START, TEA, *calm(), Wish("/packs/coffee", 2, 10**12))
    assert change.wish == TEA
    change, actions = after(change, *(Ready(name) for name in NODES))
    assert (change.serves, change.phase, change.wish.ask, actions) == ("/packs/tea", PackPhase.WAITS, 2, (Tell(), Tell()))


def test_a_node_that_did_not_run_is_no_judge_of_the_pack():
    """Given up before the change: nobody waits for it, its falls take nothing back, and it gets the pack when that serves."""
    away = Tick(free=True, away=("recogniser", "voice"))
    change, actions = after(START, TEA, (away, 0), (away, CALM_NS))
    assert actions[0] == Renew("conductor", "/packs/tea")
    change, actions = after(change, Ready("recogniser"), Fell("recogniser", "cannot work here"), Ready("conductor"))
    assert (change.phase, actions[0]) == (PackPhase.CHANGES, Renew("dialogue", "/packs/tea"))
    over, actions = after(change, Ready("dialogue"))
    assert (over.phase, over.serves, over.reason) == (PackPhase.SERVES, "/packs/tea", "")
    assert actions == (Renew("recogniser", "/packs/tea"), Renew("voice", "/packs/tea"), Tell())
    assert after(over, Fell("recogniser", "cannot work here"))[0] == over
    change, _ = after(change, Fell("dialogue", "exited with status 1"), Ready("dialogue"))
    change, actions = after(change, Ready("conductor"))
    assert (change.serves, change.left, actions) == ("/packs/coffee", (), (Tell(),))  # they have never left that one


EVENTS = st.one_of(
    st.builds(Wish, st.sampled_from(["/packs/coffee", "/packs/tea", "/packs/juice"]), st.integers(1, 9), st.integers(0, 10**11)),
    st.builds(Tick, st.booleans(), st.sampled_from([(), ("recogniser",), ("stage", *NODES)])),
    st.builds(Ready, st.sampled_from([*NODES, "stage"])),
    st.builds(Fell, st.sampled_from([*NODES, "stage"]), st.just("why")),
)


UNDER_WAY = [
    (TEA, 0),
    (Tick(free=True), 0),
    (Tick(free=True), CALM_NS),
    (Ready("recogniser"), 0),
    (Fell("recogniser", "why"), 0),
    (Ready("recogniser"), 0),
]
"""One falls that was done, while the next one has begun."""


@given(st.lists(st.tuples(EVENTS, st.integers(0, 2 * CALM_NS)), max_size=60))
@example(UNDER_WAY)
def test_whatever_happens_all_nodes_have_what_serves(events):
    """When nothing is under way, each node was last started with the pack that serves; nothing begins while somebody is served."""
    change, now, packs = START, 0, dict.fromkeys(NODES, START.serves)
    for event, later in events:
        now += later
        before = change
        change, actions = decide(change, event, now)
        for action in actions:
            if isinstance(action, Renew):
                packs[action.node] = action.pack
        if change.phase is PackPhase.CHANGES and before.phase is PackPhase.WAITS:
            assert isinstance(event, Tick)
            assert event.free
        if not change.left:
            assert set(packs.values()) == {change.serves}
        assert bool(change.left) == (change.phase in (PackPhase.CHANGES, PackPhase.RETURNS))


@given(st.lists(st.tuples(EVENTS, st.integers(0, 2 * CALM_NS)), max_size=40))
def test_it_always_comes_to_rest(events):
    """From anywhere: nodes that come up, nobody there, and the newest wish serves or says why not."""
    change, now = START, 0
    for event, later in events:
        now += later
        change, _ = decide(change, event, now)
    for _ in range(100):
        now += CALM_NS
        change, _ = decide(change, Ready(change.left[0]) if change.left else Tick(free=True), now)
    assert (change.phase, change.next) == (PackPhase.SERVES, None)
    assert change.reason or not change.wish.ask or change.serves == change.wish.pack
