"""The edge node by the assertions of the Sparkplug 3.0.0 specification: each test is named by the id of what it checks.

Payloads are read by Eclipse Tahu's decoder, not by ours. Assertions about hosts, templates, data sets and device commands have no test:
there are none here.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.projections.payload import Datatype, Metric, Payload, encode
from fleet.projections.source import Box
from fleet.projections.sparkplug import Ask, Edge, Sparkplug, following
from runtime.telemetry import METRICS

NOW = 1_790_000_000_000
CHECKS: dict[str, object] = {}


def tck(*ids):
    """Register a check under the assertions that it checks."""

    def keep(function):
        for one in ids:
            assert one not in CHECKS, one
            CHECKS[one] = function
        return function

    return keep


def box(name="box-1", state="online", told=NOW - 1000, gone=False, **health):
    return Box(name=name, state=state, condition="ok", site="Store 12", model="Orin", release="1.2", told=told, values=health, gone=gone)


class World:
    """An edge node, and what a host that hears everything reads of it."""

    def __init__(self, decode, **more):
        self.decode, self.kept = decode, []
        self.edge = Edge(Sparkplug(group="Stores", **more), self._number)
        self.said = []

    def _number(self, last):
        self.kept.append(following(last))
        return self.kept[-1]

    def connect(self, *boxes, now=NOW):
        """A session with these boxes; returns the will."""
        will = self.edge.will(now)
        self.hear(self.edge.begin(boxes, now))
        return will

    def tell(self, one, now=NOW + 5000):
        return self.hear(self.edge.tell(one, now))

    def hear(self, messages):
        heard = [(message, self.decode(message.payload)) for message in messages]
        self.said += heard
        return heard

    def of(self, verb):
        return [(message, payload) for message, payload in self.said if message.topic.split("/")[2] == verb]

    def rebirth(self, value=True, datatype=Datatype.BOOLEAN, name="Node Control/Rebirth"):
        command = encode(Payload(ts=NOW, metrics=(Metric(name=name, ts=NOW, datatype=datatype, value=value),)))
        return self.edge.came("spBv1.0/Stores/NCMD/visavis", command)

    def state(self, online, timestamp, host="scada"):
        return self.edge.came(f"spBv1.0/STATE/{host}", msgspec.json.encode({"online": online, "timestamp": timestamp}))


def by_name(payload):
    return {metric["name"]: metric for metric in payload["metrics"]}


@pytest.fixture
def world(decode):
    """Two boxes, one of them there; it changes, tells something late, and goes; then it comes back and the node leaves."""
    made = World(decode)
    first = box(temperature=60.5, rung=0, mic_live=True, session="attract", **{"node_state.voice": "ready"})
    made.will = made.connect(first, box("box-2", state="lost", temperature=50.0))
    made.tell(msgspec.structs.replace(first, values=first.values | {"temperature": 71.0, "rung": 2}, told=NOW + 4000))
    made.hear(made.edge.late("box-1", NOW - 900_000, {"temperature": 45.0, "unknown": 1}, NOW + 6000))
    made.tell(box(state="lost"))
    made.tell(box(temperature=61.0))
    made.hear(made.edge.farewell(NOW + 9000))
    return made


# --- topics, QoS, retain


@tck(
    "tck-id-topic-structure",
    "tck-id-topic-structure-namespace-a",
    "tck-id-message-flow-edge-node-birth-publish-nbirth-topic",
    "tck-id-message-flow-device-birth-publish-dbirth-topic",
    "tck-id-message-flow-device-birth-publish-dbirth-match-edge-node-topic",
)
def topics(world):
    """spBv1.0/GROUP/VERB/EDGE, and /DEVICE for a box."""
    assert [message.topic for message, _ in world.said] == [
        "spBv1.0/Stores/NBIRTH/visavis",
        "spBv1.0/Stores/DBIRTH/visavis/box-1",
        "spBv1.0/Stores/DDATA/visavis/box-1",
        "spBv1.0/Stores/DDATA/visavis/box-1",
        "spBv1.0/Stores/DDEATH/visavis/box-1",
        "spBv1.0/Stores/DBIRTH/visavis/box-1",
        "spBv1.0/Stores/NDEATH/visavis",
    ]


@tck(
    "tck-id-topics-nbirth-mqtt",
    "tck-id-topics-dbirth-mqtt",
    "tck-id-topics-ddata-mqtt",
    "tck-id-topics-ddeath-mqtt",
    "tck-id-message-flow-edge-node-birth-publish-nbirth-qos",
    "tck-id-message-flow-edge-node-birth-publish-nbirth-retained",
    "tck-id-message-flow-device-birth-publish-dbirth-qos",
    "tck-id-message-flow-device-birth-publish-dbirth-retained",
)
def quality(world):
    """QoS 0 and not retained, all of them."""
    assert {(message.qos, message.retain) for message, _ in world.said} == {(0, False)}


@tck(
    "tck-id-message-flow-edge-node-birth-publish-will-message-topic",
    "tck-id-message-flow-edge-node-birth-publish-will-message-qos",
    "tck-id-message-flow-edge-node-birth-publish-will-message-will-retained",
    "tck-id-payloads-ndeath-will-message-qos",
    "tck-id-payloads-ndeath-will-message-retain",
)
def will(world):
    """The will is the NDEATH, QoS 1, not retained."""
    assert (world.will.topic, world.will.qos, world.will.retain) == ("spBv1.0/Stores/NDEATH/visavis", 1, False)


@tck("tck-id-message-flow-edge-node-ncmd-subscribe")
def subscribes(world):
    """The node hears its own commands (with QoS 1: see test_projections) and nothing else."""
    assert world.edge.subscriptions == ("spBv1.0/Stores/NCMD/visavis",)


# --- the death


@tck(
    "tck-id-topics-ndeath-payload",
    "tck-id-topics-ndeath-seq",
    "tck-id-payloads-ndeath-seq",
    "tck-id-payloads-ndeath-bdseq",
    "tck-id-message-flow-edge-node-birth-publish-will-message-payload",
)
def death(world):
    """Only bdSeq, and no seq; the same as in the birth."""
    for payload in (world.decode(world.will.payload), world.of("NDEATH")[0][1]):
        assert "seq" not in payload
        (metric,) = payload["metrics"]
        assert (metric["name"], metric["type"], metric["value"]) == ("bdSeq", "Int64", 0)


@tck(
    "tck-id-topics-nbirth-bdseq-increment",
    "tck-id-message-flow-edge-node-birth-publish-will-message-payload-bdSeq",
    "tck-id-payloads-nbirth-bdseq-repeat",
)
def births_are_numbered(world):
    """The bdSeq begins at 0, grows with every CONNECT, goes from 255 to 0, and what survives a restart is where it stood."""
    fresh = World(world.decode)
    numbers = [fresh.decode(fresh.edge.will(NOW).payload)["metrics"][0]["value"] for _ in range(258)]
    assert numbers == [*range(256), 0, 1]
    assert fresh.kept == numbers
    again = Edge(Sparkplug(group="Stores"), lambda _: following(fresh.kept[-1]))
    assert world.decode(again.will(NOW).payload)["metrics"][0]["value"] == 2


@tck(
    "tck-id-topics-nbirth-bdseq-included",
    "tck-id-topics-nbirth-bdseq-matching",
    "tck-id-payloads-nbirth-bdseq",
    "tck-id-message-flow-edge-node-birth-publish-nbirth-payload-bdSeq",
)
def birth_names_its_death(world):
    """The NBIRTH's bdSeq is the will's."""
    number = world.decode(world.will.payload)["metrics"][0]
    metric = by_name(world.of("NBIRTH")[0][1])["bdSeq"]
    assert (metric["type"], metric["value"]) == ("Int64", number["value"])


@tck("tck-id-operational-behavior-edge-node-intentional-disconnect-ndeath", "tck-id-payloads-ndeath-will-message-publisher")
def leaves_with_a_word(world):
    """The NDEATH is the last thing said; without a birth there is none."""
    assert world.said[-1][0].topic.endswith("NDEATH/visavis")
    assert world.edge.farewell(NOW) == []


# --- numbers and times


@tck(
    "tck-id-payloads-sequence-num-always-included",
    "tck-id-payloads-sequence-num-zero-nbirth",
    "tck-id-payloads-sequence-num-incrementing",
    "tck-id-topics-nbirth-seq-num",
    "tck-id-topics-dbirth-seq",
    "tck-id-topics-ddata-seq-num",
    "tck-id-topics-ddeath-seq-num",
    "tck-id-payloads-nbirth-seq",
    "tck-id-payloads-dbirth-seq",
    "tck-id-payloads-dbirth-seq-inc",
    "tck-id-payloads-ddata-seq",
    "tck-id-payloads-ddata-seq-inc",
    "tck-id-payloads-ddeath-seq",
    "tck-id-payloads-ddeath-seq-inc",
    "tck-id-message-flow-edge-node-birth-publish-nbirth-payload-seq",
    "tck-id-message-flow-device-birth-publish-dbirth-payload-seq",
)
def numbers(world):
    """From 0 in the NBIRTH, by one, over all boxes, and from 255 to 0."""
    fresh = World(world.decode)
    fresh.connect(box(temperature=0.0), box("box-2", temperature=0.0))
    for turn in range(1, 300):
        fresh.tell(box(f"box-{1 + turn % 2}", temperature=float(turn)))
    fresh.tell(box(state="lost"))
    seqs = [payload["seq"] for _, payload in fresh.said]
    assert seqs == [number % 256 for number in range(len(seqs))]


@tck(
    "tck-id-topics-nbirth-timestamp",
    "tck-id-topics-dbirth-timestamp",
    "tck-id-topics-ddata-timestamp",
    "tck-id-payloads-nbirth-timestamp",
    "tck-id-payloads-dbirth-timestamp",
    "tck-id-payloads-ddata-timestamp",
    "tck-id-payloads-ddeath-timestamp",
    "tck-id-payloads-timestamp-in-UTC",
)
def times(world):
    """Every payload says when it was sent."""
    sent = [payload["timestamp"] for _, payload in world.said]
    assert sent == [NOW, NOW, NOW + 5000, NOW + 6000, NOW + 5000, NOW + 5000, NOW + 9000]


@tck("tck-id-payloads-name-birth-data-requirement", "tck-id-payloads-metric-timestamp-in-UTC")
def metric_times(world):
    """Every metric says when it was so: the box's time, not the time of sending."""
    for message, payload in world.said:
        assert all(metric["timestamp"] > 0 for metric in payload.get("metrics", ())), message.topic
    assert {metric["timestamp"] for metric in world.of("DBIRTH")[0][1]["metrics"]} == {NOW - 1000}
    assert {metric["timestamp"] for metric in world.of("DDATA")[0][1]["metrics"]} == {NOW + 4000}


# --- what a birth holds


@tck(
    "tck-id-topics-dbirth-metric-reqs",
    "tck-id-operational-behavior-data-publish-dbirth",
    "tck-id-operational-behavior-data-publish-dbirth-values",
    "tck-id-topics-dbirth-metrics",
)
def everything_is_born(world):
    """Every metric of the catalogue: with its value, or null where the box has told none."""
    born = by_name(world.of("DBIRTH")[0][1])
    for row in METRICS:
        if row.per.value == "box":
            assert f"{row.group.value}/{row.name}" in born
    assert born["heat/temperature"]["value"] == 60.5
    assert born["face/rung"]["value"] == 0
    assert born["sound/mic_live"]["value"] is True
    assert born["talk/session"]["value"] == "attract"
    assert born["nodes/node_state/voice"]["value"] == "ready"
    assert born["Properties/site"]["value"] == "Store 12"
    assert born["talk/stage_p95_ms/sound_heard"]["value"] is None
    assert born["heat/temperature"]["properties"]["engUnit"]["value"] == "celsius"


@tck("tck-id-payloads-metric-datatype-req", "tck-id-payloads-metric-datatype-value", "tck-id-payloads-metric-datatype-value-type")
def birth_types(world):
    """Names, datatypes, and the datatype that belongs to the kind of value."""
    born = by_name(world.of("DBIRTH")[0][1])
    assert all(metric["type"] in ("Int64", "Double", "Boolean", "String") for metric in born.values())
    assert [born[name]["type"] for name in ("heat/temperature", "face/rung", "sound/mic_live", "talk/session", "talk/turns")] == [
        "Double", "Int64", "Boolean", "String", "Int64",
    ]  # fmt: skip


@tck(
    "tck-id-topics-nbirth-rebirth-metric",
    "tck-id-payloads-nbirth-rebirth-req",
    "tck-id-operational-behavior-data-commands-rebirth-name",
    "tck-id-operational-behavior-data-commands-rebirth-name-aliases",
    "tck-id-operational-behavior-data-commands-rebirth-datatype",
    "tck-id-operational-behavior-data-commands-rebirth-value",
)
def rebirth_is_offered(world):
    """Node Control/Rebirth: Boolean, false, without an alias."""
    metric = by_name(world.of("NBIRTH")[0][1])["Node Control/Rebirth"]
    assert (metric["type"], metric["value"]) == ("Boolean", False)
    assert "alias" not in metric


@tck("tck-id-payloads-alias-uniqueness", "tck-id-payloads-alias-birth-requirement")
def aliases(world):
    """One for each metric over all boxes, the same after a rebirth."""
    fresh = World(world.decode)
    fresh.connect(box(), box("box-2"))
    first = [(message.topic, metric["name"], metric["alias"]) for message, payload in fresh.of("DBIRTH") for metric in payload["metrics"]]
    assert len({alias for _, _, alias in first}) == len(first)
    fresh.said.clear()
    fresh.hear(fresh.edge.begin([box(), box("box-2")], NOW))
    assert first == [
        (message.topic, metric["name"], metric["alias"]) for message, payload in fresh.of("DBIRTH") for metric in payload["metrics"]
    ]


@tck("tck-id-payloads-alias-data-cmd-requirement", "tck-id-payloads-name-requirement")
def data_by_alias(world):
    """Data has aliases and no names; every alias is of the birth."""
    born = {metric["alias"]: metric["name"] for metric in world.of("DBIRTH")[0][1]["metrics"]}
    for _, payload in world.of("DDATA"):
        assert all(not metric.get("name") and metric["alias"] in born for metric in payload["metrics"])


@tck("tck-id-payloads-metric-datatype-not-req")
def lean_data(world):
    """With `datatypes = false` data has none, as recommended; births keep theirs."""
    lean = World(world.decode, datatypes=False)
    lean.connect(box(temperature=1.0))
    lean.tell(box(temperature=9.0))
    assert "type" not in lean.of("DDATA")[0][1]["metrics"][0]
    assert all("type" in metric for metric in lean.of("DBIRTH")[0][1]["metrics"])
    assert {metric["type"] for metric in world.of("DDATA")[0][1]["metrics"]} == {"Double", "Int64"}


@tck("tck-id-payloads-propertyset-keys-array-size", "tck-id-payloads-propertyset-values-array-size",
     "tck-id-payloads-metric-propertyvalue-type-req", "tck-id-payloads-metric-propertyvalue-type-value")  # fmt: skip
def properties(world):
    """As many values as keys, each with its type."""
    metric = by_name(world.of("DBIRTH")[0][1])["heat/temperature"]
    assert metric["properties"] == {
        "documentation": {"value": "Hottest sensor", "type": "String"},
        "engUnit": {"value": "celsius", "type": "String"},
    }


# --- what changes


@tck("tck-id-topics-ddata-payload", "tck-id-operational-behavior-data-publish-dbirth-change")
def by_exception(world):
    """Data holds what changed, nothing else; nothing is sent for what did not."""
    born = {metric["name"]: metric["alias"] for metric in world.of("DBIRTH")[0][1]["metrics"]}
    live = world.of("DDATA")[0][1]
    assert {metric["alias"]: metric["value"] for metric in live["metrics"]} == {born["heat/temperature"]: 71.0, born["face/rung"]: 2}
    assert world.tell(box(temperature=61.0)) == []


@tck("tck-id-operational-behavior-data-publish-dbirth-order")
def history(world):
    """What was told late is marked as history and has its own time; live data is not marked."""
    live, late = (payload for _, payload in world.of("DDATA"))
    assert not any(metric.get("isHistorical") for metric in live["metrics"])
    assert [(metric["isHistorical"], metric["value"], metric["timestamp"]) for metric in late["metrics"]] == [(True, 45.0, NOW - 900_000)]


@tck("tck-id-operational-behavior-device-ddeath")
def a_box_that_goes(world):
    """Lost, silent, switched off or revoked: a DDEATH, once; back again: a DBIRTH."""
    assert len(world.of("DDEATH")) == 1
    assert len(world.of("DBIRTH")) == 2
    for gone in (box(state="silent"), box(state="offline"), box(gone=True)):
        world = World(world.decode)
        world.connect(box(temperature=1.0))
        assert [message.topic for message, _ in world.tell(gone)] == ["spBv1.0/Stores/DDEATH/visavis/box-1"]
        assert world.tell(gone) == []


@tck("tck-id-topics-nbirth-metric-reqs", "tck-id-operational-behavior-data-publish-nbirth",
     "tck-id-operational-behavior-data-publish-nbirth-values", "tck-id-topics-nbirth-metrics")  # fmt: skip
def the_node_itself(world):
    """The node reports on nothing but what its birth says; a box's metric that its birth did not name makes a new birth of the box."""
    born = by_name(world.of("NBIRTH")[0][1])
    assert all(metric["value"] is not None for metric in born.values())
    assert not world.of("NDATA")
    fresh = World(world.decode)
    fresh.connect(box(temperature=1.0))
    ((message, payload),) = fresh.tell(box(temperature=1.0, **{"node_cpu.voice": 12.0}))
    assert message.topic == "spBv1.0/Stores/DBIRTH/visavis/box-1"
    assert by_name(payload)["nodes/node_cpu/voice"]["value"] == 12.0


@tck("tck-id-message-flow-device-birth-publish-nbirth-wait", "tck-id-message-flow-edge-node-birth-publish-connect")
def node_before_boxes(world):
    """Before the node's birth no box says anything, and a new connection begins anew."""
    fresh = World(world.decode)
    fresh.edge.will(NOW)
    assert fresh.tell(box(temperature=1.0)) == []
    assert fresh.hear(fresh.edge.late("box-1", NOW, {"temperature": 1.0}, NOW)) == []
    fresh.connect(box(temperature=1.0))
    assert [message.topic.split("/")[2] for message, _ in fresh.said] == ["NBIRTH", "DBIRTH"]


# --- what hosts say


@tck(
    "tck-id-operational-behavior-data-commands-rebirth-action-1",
    "tck-id-operational-behavior-data-commands-rebirth-action-2",
    "tck-id-operational-behavior-data-commands-rebirth-action-3",
    "tck-id-operational-behavior-data-commands-ncmd-rebirth-verb",
    "tck-id-operational-behavior-data-commands-ncmd-rebirth-name",
    "tck-id-operational-behavior-data-commands-ncmd-rebirth-value",
)
def rebirth(world):
    """A rebirth tells everything anew, with the same bdSeq and seq from 0; other commands and values do nothing."""
    fresh = World(world.decode)
    fresh.connect(box(temperature=1.0))
    assert fresh.rebirth(value=False) is Ask.NOTHING
    assert fresh.rebirth(name="Node Control/Reboot") is Ask.NOTHING
    assert fresh.edge.came("spBv1.0/Stores/NCMD/visavis", b"\xff\x00 no payload") is Ask.NOTHING
    assert fresh.rebirth() is Ask.BIRTH
    fresh.said.clear()
    fresh.hear(fresh.edge.begin([box(temperature=2.0)], NOW + 10))
    assert [(message.topic.split("/")[2], payload["seq"]) for message, payload in fresh.said] == [("NBIRTH", 0), ("DBIRTH", 1)]
    assert by_name(fresh.said[0][1])["bdSeq"]["value"] == 0


@tck(
    "tck-id-message-flow-edge-node-birth-publish-phid-wait",
    "tck-id-message-flow-edge-node-birth-publish-phid-wait-id",
    "tck-id-message-flow-edge-node-birth-publish-phid-wait-online",
    "tck-id-operational-behavior-edge-node-birth-sequence-wait",
)
def waits_for_its_host(world):
    """With a primary host nothing is born before that very host says that it is online."""
    fresh = World(world.decode, primary_host="scada")
    assert "spBv1.0/STATE/scada" in fresh.edge.subscriptions
    fresh.connect(box(temperature=1.0))
    assert fresh.said == []
    assert fresh.state(online=True, timestamp=NOW, host="another") is Ask.NOTHING
    assert fresh.state(online=False, timestamp=NOW) is Ask.NOTHING
    assert fresh.edge.came("spBv1.0/STATE/scada", b"{}") is Ask.NOTHING
    assert fresh.state(online=True, timestamp=NOW + 1) is Ask.BIRTH
    fresh.hear(fresh.edge.begin([box(temperature=1.0)], NOW))
    assert len(fresh.said) == 2


@tck(
    "tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp",
    "tck-id-operational-behavior-edge-node-termination-host-offline-timestamp",
)
def old_states_do_not_count(world):
    """A word of the host that is older than the last one is ignored: it is a will that came late."""
    fresh = World(world.decode, primary_host="scada")
    fresh.edge.will(NOW)
    assert fresh.state(online=True, timestamp=NOW) is Ask.BIRTH
    assert fresh.state(online=False, timestamp=NOW - 1) is Ask.NOTHING
    assert fresh.edge.host_online


@tck(
    "tck-id-message-flow-edge-node-birth-publish-phid-offline",
    "tck-id-operational-behavior-edge-node-termination-host-offline",
    "tck-id-operational-behavior-edge-node-termination-host-offline-reconnect",
)
def leaves_with_its_host(world):
    """The host goes: farewell, and with the next CONNECT the wait begins again."""
    fresh = World(world.decode, primary_host="scada")
    fresh.edge.will(NOW)
    fresh.state(online=True, timestamp=NOW)
    fresh.hear(fresh.edge.begin([box()], NOW))
    assert fresh.state(online=False, timestamp=NOW) is Ask.LEAVE
    assert len(fresh.edge.farewell(NOW)) == 1
    fresh.said.clear()
    fresh.connect(box())
    assert fresh.said == []


@pytest.mark.unit
@pytest.mark.parametrize("check", [pytest.param(check, id=name) for name, check in CHECKS.items()])
def test_assertion(check, world):
    """The assertion of the specification by which the test is named."""
    check(world)


@pytest.mark.unit
@given(st.lists(st.tuples(st.sampled_from(["online", "lost", "silent"]), st.integers(0, 3), st.booleans()), max_size=30))
@settings(deadline=None)
def test_a_host_that_follows_the_rules_always_knows_the_truth(steps):
    """Whatever the boxes do, a host that starts from the births and applies each message has exactly the state of the boxes."""
    from fleet.projections.payload import decode

    edge = Edge(Sparkplug(group="Stores"))
    edge.will(NOW)
    names, alive, expected = {}, {}, -1

    def host(messages):
        nonlocal expected
        for message in messages:
            payload, (verb, *_), device = decode(message.payload), message.topic.split("/")[2:], message.topic.split("/")[-1]
            expected = 0 if verb == "NBIRTH" else (expected + 1) % 256
            assert payload.seq == expected
            if verb == "NBIRTH":
                alive.clear()
            elif verb == "DBIRTH":
                names.update({metric.alias: metric.name for metric in payload.metrics})
                alive[device] = {metric.name: metric.value for metric in payload.metrics}
            elif verb == "DDATA":
                alive[device].update({names[metric.alias]: metric.value for metric in payload.metrics})
            else:
                del alive[device]

    truth = {}
    host(edge.begin([], NOW))
    for state, number, again in steps:
        one = box(f"box-{number}", state=state, temperature=float(len(truth) + number), rung=number)
        truth[one.name] = one
        host(edge.begin(truth.values(), NOW) if again else edge.tell(one, NOW))
    assert alive.keys() == {name for name, one in truth.items() if one.online}
    for name, known in alive.items():
        assert known["heat/temperature"] == truth[name].values["temperature"]
