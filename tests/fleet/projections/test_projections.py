"""The projections at work: a real controller, its own mosquitto and another one, hosts that hear what is said."""

from __future__ import annotations

import json
import subprocess
import threading

import msgspec
import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.parser import text_string_to_metric_families

import runtime.telemetry as t
from fleet import inventory, readers
from fleet.bundle import write_files
from fleet.config import Config, read_config, with_options
from fleet.errors import BadRequest
from fleet.projections.payload import Datatype, Metric, Payload, encode
from tests.fleet.support import LIMIT_S, Fleet, Stranger
from tests.runtime.telemetry.support import free_port

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

REBIRTH = encode(Payload(ts=1, metrics=(Metric(name="Node Control/Rebirth", ts=1, datatype=Datatype.BOOLEAN, value=True),)))


class Host:
    """A program that hears everything of the projections."""

    def __init__(self, port, *, certificates=None, name="", topics=("spBv1.0/#", "homeassistant/#", "visavis-fleet/#")):
        self.came, self.changed, self.codes = [], threading.Condition(), []
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name or "host", protocol=mqtt.MQTTv5)
        if certificates is not None:
            self.client.tls_set(*(str(certificates / one) for one in ("ca.pem", f"{name[1:]}.pem", f"{name[1:]}.key")))
        ready = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe([(topic, 1) for topic in topics])
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: (self.codes.extend(code.value for code in codes), ready.set())
        self.client.on_message = self._on_message
        self.client.connect("localhost", port)
        self.client.loop_start()
        assert ready.wait(LIMIT_S)

    def _on_message(self, _client, _userdata, message):
        with self.changed:
            self.came.append(message)
            self.changed.notify_all()

    def wait(self, condition):
        """Until `condition(messages)` is true; returns it."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.came), LIMIT_S), [message.topic for message in self.came]
            return condition(self.came)

    def verbs(self):
        return [message.topic.split("/")[2] for message in self.came if message.topic.startswith("spBv1.0/Stores")]

    def last(self, topic):
        found = [message.payload for message in self.came if message.topic == topic]
        return found[-1] if found else None

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def elsewhere(tmp_path):
    """Another broker, without TLS: its port."""
    port = free_port()
    config = tmp_path / "elsewhere.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nconnection_messages false\n")
    process = subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("running" in line for line in process.stderr)
    yield port
    process.terminate()
    process.wait(10)
    process.stderr.close()


@pytest.fixture
def hosts():
    made = []

    def make(*given, **named):
        made.append(Host(*given, **named))
        return made[-1]

    yield make
    for one in made:
        one.close()


def start(tmp_path, **options):
    fleet = Fleet(tmp_path / "data", config=with_options(Config(), **options))
    fleet.do(fleet.controller.projections.told())
    return fleet


def tell(box, **health):
    assert box.say(t.UpKind.STATUS, t.Status(state="online"), retain=True) == 0
    assert box.say(t.UpKind.BIRTH, t.Birth(attributes={"site": "Store 12"}, health_s=3600)) == 0
    assert box.say(t.UpKind.HEALTH, t.Health(m=health, full=True)) == 0


def both(port):
    where = f"mqtt://localhost:{port}"
    return {"sparkplug": "Stores", "sparkplug_broker": where, "home_assistant": "homeassistant", "home_assistant_broker": where}


def test_a_box_appears_changes_and_goes(tmp_path, elsewhere, hosts, decode):
    """At another broker: birth, data, history and death of a box; its device, state and availability; removed when it is revoked."""
    host = hosts(elsewhere)
    fleet = start(tmp_path, **both(elsewhere))
    try:
        assert host.verbs() == ["NBIRTH"]
        box = Stranger(fleet, fleet.enrol("box-1"), "box-1")
        tell(box, temperature=60.0)
        host.wait(lambda _: (host.last("visavis-fleet/default/box-1/state") or b"").find(b"60.0") > 0 and "DBIRTH" in host.verbs())
        assert box.say(t.UpKind.HEALTH, t.Health(m={"temperature": 71.5})) == 0
        host.wait(lambda _: json.loads(host.last("visavis-fleet/default/box-1/state")).get("temperature") == 71.5)
        host.wait(lambda _: "DDATA" in host.verbs())
        earlier = fleet.times.wall_ms() - 3_600_000
        assert box.say(t.UpKind.HEALTH, t.Health(m={"temperature": 44.0}), ts=earlier, hist=True) == 0
        host.wait(lambda _: history(host, decode))
        assert history(host, decode) == [(earlier, 44.0)]
        config = json.loads(host.last("homeassistant/device/visavis_default_box-1/config"))
        assert config["device"]["suggested_area"] == "Store 12"
        assert host.last("visavis-fleet/default/box-1/availability") == b"online"
        assert inventory.revoke(fleet.db, "box-1", 1) == 1
        host.wait(lambda _: host.last("homeassistant/device/visavis_default_box-1/config") == b"" and "DDEATH" in host.verbs())
        later = hosts(elsewhere, name="later", topics=("homeassistant/#", "visavis-fleet/#"))
        later.wait(lambda came: came)
        assert {message.topic for message in later.came} == {"visavis-fleet/default/availability"}  # nothing of the box is retained
    finally:
        fleet.stop()
    host.wait(lambda _: host.verbs()[-1] == "NDEATH")
    assert host.last("visavis-fleet/default/availability") == b"offline"


def history(host, decode):
    data = [decode(message.payload) for message in host.came if "/DDATA/" in message.topic]
    return [(one["timestamp"], one["value"]) for payload in data for one in payload["metrics"] if one.get("isHistorical")]


def test_hosts_ask_again(tmp_path, elsewhere, hosts, decode):
    """A rebirth is answered with NBIRTH and DBIRTHs and the same bdSeq; Home Assistant's start with all configs."""
    host = hosts(elsewhere)
    fleet = start(tmp_path, **both(elsewhere))
    try:
        box = Stranger(fleet, fleet.enrol("box-1"), "box-1")
        tell(box, temperature=60.0)
        fleet.until(lambda: fleet.device("box-1").health)
        host.wait(lambda _: host.last("homeassistant/device/visavis_default_box-1/config") and "DBIRTH" in host.verbs())
        born = host.verbs().count("NBIRTH")
        host.client.publish("spBv1.0/Stores/NCMD/visavis", REBIRTH, qos=0)
        host.wait(lambda _: host.verbs().count("NBIRTH") > born and "DBIRTH" in host.verbs()[::-1][: host.verbs()[::-1].index("NBIRTH")])
        births = [decode(message.payload) for message in host.came if "/NBIRTH/" in message.topic]
        assert {payload["seq"] for payload in births} == {0}
        assert {payload["metrics"][0]["value"] for payload in births} == {0}
        count = len([message for message in host.came if message.topic.endswith("/config")])
        host.client.publish("homeassistant/status", b"online")
        host.wait(lambda came: len([message for message in came if message.topic.endswith("/config")]) == count + 1)
    finally:
        fleet.stop()


def test_a_controller_that_is_killed_is_dead_to_the_hosts(tmp_path, elsewhere, hosts, decode):
    """The connection ends without a word: the broker tells the NDEATH with this session's bdSeq; the next session has the next."""
    host = hosts(elsewhere)
    fleet = start(tmp_path, sparkplug="Stores", sparkplug_broker=f"mqtt://localhost:{elsewhere}")
    try:
        feed = fleet.controller.projections.feeds[0]
        thief = hosts(elsewhere, name="visavis-Stores-visavis", topics=("nothing",))  # takes the session over, as a lost line would end it
        thief.close()
        host.wait(lambda _: host.verbs().count("NBIRTH") == 2)
        assert feed.connects == 2
    finally:
        fleet.stop()
    host.wait(lambda _: host.verbs()[-1] == "NDEATH")
    numbers = [
        (message.topic.split("/")[2], next(m["value"] for m in decode(message.payload)["metrics"] if m["name"] == "bdSeq"))
        for message in host.came
        if message.topic.startswith("spBv1.0/Stores")
    ]
    assert numbers[:3] == [("NBIRTH", 0), ("NDEATH", 0), ("NBIRTH", 1)]
    assert set(numbers[3:]) == {("NDEATH", 1)}


def test_the_primary_host(tmp_path, elsewhere, hosts):
    """Nothing is born before the host is there; when it goes, the node says farewell and waits again."""
    config = tmp_path / "controller.toml"
    config.write_text(f'[sparkplug]\ngroup = "Stores"\nprimary_host = "scada"\nbroker = {{ url = "mqtt://localhost:{elsewhere}" }}\n')
    host = hosts(elsewhere)
    fleet = Fleet(tmp_path / "data", config=read_config(config))
    try:
        fleet.do(fleet.controller.projections.told())
        assert host.verbs() == []
        for online, verb, ts in ((True, "NBIRTH", 1), (False, "NDEATH", 2), (True, "NBIRTH", 3)):
            state = msgspec.json.encode({"online": online, "timestamp": ts})
            host.client.publish("spBv1.0/STATE/scada", state, qos=1, retain=True)
            host.wait(lambda _, verb=verb: host.verbs()[-1:] == [verb])
    finally:
        fleet.stop()


def test_at_the_fleets_own_broker(tmp_path, hosts):
    """A reader that was let in hears the projections and nothing of the boxes; it can ask for a rebirth and not play a box."""
    fleet = start(tmp_path, sparkplug="Stores", home_assistant="homeassistant")
    try:
        issued = readers.admit(fleet.db, fleet.controller.authority, "scada", 30, fleet.times.wall_ms())
        write_files(
            {"ca.pem": fleet.controller.authority.pem, "scada.pem": issued.certificate, "scada.key": issued.key}, tmp_path / "scada"
        )
        rights = fleet.data / "broker" / "rights"
        fleet.until(lambda: "~scada" in rights.read_text())
        topics = ("spBv1.0/#", "homeassistant/#", "visavis-fleet/#", "visavis/#", "#")
        host = hosts(fleet.settings.broker_port, certificates=tmp_path / "scada", name="~scada", topics=topics)
        box = Stranger(fleet, fleet.enrol("box-1"), "box-1")
        tell(box, temperature=60.0)
        host.wait(lambda _: "DBIRTH" in host.verbs() and host.last("visavis-fleet/default/box-1/state"))
        host.client.publish("visavis/1/default/box-1/up/status", b"x", qos=1)
        host.client.publish("spBv1.0/Stores/DDATA/visavis/box-1", b"x", qos=1)
        host.client.publish("spBv1.0/Stores/NCMD/visavis", REBIRTH)
        host.wait(lambda _: "NBIRTH" in host.verbs())
        assert not [message for message in host.came if message.topic.startswith("visavis/") or message.payload == b"x"]
        assert readers.dismiss(fleet.db, "scada", 1) == 1
        fleet.until(lambda: "~scada" not in rights.read_text())
    finally:
        fleet.stop()


def test_no_reader_is_called_like_one_of_ours(fleet):
    """Nobody gets the projections' or the controller's own name."""
    for name in ("controller", "sparkplug", "home-assistant", "broker", "a/b", "", "~x"):
        with pytest.raises(BadRequest, match="cannot name a reader"):
            readers.admit(fleet.db, fleet.controller.authority, name, 30, 1)


def test_a_broker_that_is_away_holds_nothing_up(tmp_path):
    """The controller starts and works; the projection tries again."""
    fleet = Fleet(tmp_path / "data", config=with_options(Config(), **both(free_port())))
    try:
        box = Stranger(fleet, fleet.enrol("box-1"), "box-1")
        tell(box, temperature=60.0)
        fleet.until(lambda: fleet.state("box-1") == "online")
        assert not any(feed.connected.is_set() for feed in fleet.controller.projections.feeds)
    finally:
        fleet.stop()


def test_prometheus_scrapes_every_box(fleet, stranger):
    """/metrics/boxes with a viewer's token, read by Prometheus' own parser."""
    import httpx

    from fleet import accounts

    tell(stranger("box-1"), temperature=60.0, rung=1)
    fleet.until(lambda: fleet.device("box-1").health)
    token = accounts.make_token(fleet.db, "prometheus", accounts.Role.VIEWER, "anna", 1, fleet.times.wall_ms())
    url = f"{fleet.controller.server.url}/metrics/boxes"
    assert httpx.get(url).status_code == 401
    text = httpx.get(url, headers={"Authorization": f"Bearer {token}"}).text
    samples = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
    assert samples["visavis_box_temperature_celsius"] == 60.0
    assert samples["visavis_box_rung"] == 1
    for query, temperature, rung in (("metric=rung", False, True), ("site=Store+12", True, True), ("site=elsewhere", False, False)):
        text = httpx.get(f"{url}?{query}", headers={"Authorization": f"Bearer {token}"}).text
        assert ("temperature_celsius" in text, "visavis_box_rung{" in text) == (temperature, rung)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[sparkplug]\ngroup = "a/b"', "cannot be an id"),
        ("[sparkplug]\n", "group"),
        ('[sparkplug]\ngroup = "a"\nbroker = { url = "http://x" }', "is no broker"),
        ('[sparkplug]\ngroup = "a"\nbroker = { url = "mqtt://u:p@x" }', "password_file"),
        ('[home_assistant]\nprefix = "#"', "prefix"),
        ("[homeassistant]\n", "homeassistant"),
        ("[sparkplug", "Expected"),
    ],
)
def test_mistakes_in_the_file_are_one_line(tmp_path, text, says):
    """What, where, and what instead."""
    file = tmp_path / "controller.toml"
    file.write_text(text)
    with pytest.raises(BadRequest, match=says) as caught:
        read_config(file)
    assert str(caught.value).startswith(str(file)) or "[sparkplug]" in str(caught.value) or "mqtt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_that_miss_something_are_one_line():
    """A broker without its projection."""
    for option in ("sparkplug", "home_assistant"):
        with pytest.raises(BadRequest, match=f"--{option.replace('_', '-')}-broker needs"):
            with_options(Config(), **{f"{option}_broker": "mqtt://x"})
