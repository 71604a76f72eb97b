"""Discovery for Home Assistant: what is retained where, and what takes it away."""

from __future__ import annotations

import msgspec
import pytest

from fleet.projections.homeassistant import Discovery, HomeAssistant
from runtime.telemetry import METRICS
from tests.fleet.projections.test_sparkplug import box

pytestmark = pytest.mark.unit

CONFIG = "homeassistant/device/visavis_default_box-1/config"
STATE = "visavis-fleet/default/box-1/state"
THERE = "visavis-fleet/default/box-1/availability"


@pytest.fixture
def discovery():
    return Discovery(HomeAssistant(), "default", "https://fleet.example.com:8480", "1.2")


def told(messages):
    return {message.topic: message.payload for message in messages}


def test_a_box_is_a_device(discovery):
    """One retained config with device, origin, components and availability; the values in one retained JSON."""
    messages = list(discovery.begin([box(temperature=61.5, memory_free=0.25, mic_live=True, **{"node_state.voice": "ready"})]))
    assert all(message.retain and message.qos == 1 for message in messages)
    found = told(messages)
    config = msgspec.json.decode(found[CONFIG])
    assert config["device"] == {
        "identifiers": ["visavis_default_box-1"], "name": "box-1", "manufacturer": "Visavis", "model": "Orin", "sw_version": "1.2",
        "suggested_area": "Store 12",
    }  # fmt: skip
    assert config["origin"] == {"name": "Visavis fleet", "sw": "1.2", "url": "https://fleet.example.com:8480"}
    assert config["state_topic"] == STATE
    assert config["availability"] == [{"topic": "visavis-fleet/default/availability"}, {"topic": THERE}]
    assert config["availability_mode"] == "all"
    assert msgspec.json.decode(found[STATE]) == {"temperature": 61.5, "memory_free": 0.25, "mic_live": True, "node_state.voice": "ready"}
    assert found[THERE] == b"online"
    assert messages[-1].topic == "visavis-fleet/default/availability"


def test_every_metric_has_a_component_of_its_kind(discovery):
    """All of the catalogue: unique ids, a platform, unit and class that Home Assistant takes together."""
    config = msgspec.json.decode(told(discovery.begin([box(**{"node_cpu.voice": 1.0})]))[CONFIG])
    parts = config["components"]
    assert {name.partition(".")[0] for name in parts} >= {row.name for row in METRICS if row.per.value == "box"}
    assert len({part["unique_id"] for part in parts.values()}) == len(parts)
    assert parts["temperature"] == {
        "platform": "sensor", "unique_id": "visavis_default_box-1_temperature", "name": "Hottest sensor",
        "entity_category": "diagnostic", "unit_of_measurement": "°C", "device_class": "temperature", "state_class": "measurement",
        "value_template": "{{ value_json.get('temperature') }}",
    }  # fmt: skip
    assert "device_class" not in parts["thermal_margin"]
    assert parts["heat_alarm"]["platform"] == "binary_sensor"
    assert parts["heat_alarm"]["device_class"] == "problem"
    assert parts["session"]["options"] == ["attract", "engaged", "still_there"]
    assert parts["session"]["device_class"] == "enum"
    assert "state_class" not in parts["session"]
    assert parts["turns"]["state_class"] == "total_increasing"
    assert parts["memory_free"]["unit_of_measurement"] == "%"
    assert parts["node_cpu_voice"]["enabled_by_default"] is False
    assert "enabled_by_default" not in parts["stage_p95_ms_sound_heard"]


def test_only_what_changed_is_sent(discovery):
    """The same again: nothing; another value: the state alone; away: availability alone; another site: the config."""
    first = box(temperature=61.5)
    list(discovery.begin([first]))
    assert list(discovery.tell(first)) == []
    assert [message.topic for message in discovery.tell(box(temperature=62.0))] == [STATE]
    assert [(message.topic, message.payload) for message in discovery.tell(box(temperature=62.0, state="lost"))] == [(THERE, b"offline")]
    moved = msgspec.structs.replace(box(temperature=62.0, state="lost"), site="Store 13")
    assert [message.topic for message in discovery.tell(moved)] == [CONFIG]


def test_a_revoked_box_is_removed(discovery):
    """Empty retained payloads, once; also for one that was revoked while nobody looked; a new certificate brings it back."""
    list(discovery.begin([box(temperature=1.0)]))
    gone = list(discovery.tell(box(gone=True)))
    assert [(message.topic, message.payload, message.retain) for message in gone] == [
        (CONFIG, b"", True),
        (STATE, b"", True),
        (THERE, b"", True),
    ]
    assert list(discovery.tell(box(gone=True))) == []
    assert [message.topic for message in discovery.tell(box(temperature=1.0))] == [CONFIG, STATE, THERE]
    again = Discovery(HomeAssistant(), "default")
    assert told(again.begin([box(gone=True)]))[CONFIG] == b""


def test_a_box_that_was_never_heard_is_not_told(discovery):
    """There is nothing to say of it yet."""
    assert [message.topic for message in discovery.begin([box(state="new")])] == ["visavis-fleet/default/availability"]


def test_home_assistant_starts(discovery):
    """Its `online` asks for everything; its `offline` and other topics for nothing."""
    assert discovery.came("homeassistant/status", b"online")
    assert not discovery.came("homeassistant/status", b"offline")
    assert not discovery.came("homeassistant/other", b"online")


def test_names_that_differ_have_ids_that_differ():
    """Dots cannot be in an id; two boxes never share one."""
    discovery = Discovery(HomeAssistant(prefix="ha/x"), "default")
    topics = [message.topic for name in ("a.b", "a_b", "a_2eb", "a__2eb") for message in discovery.tell(box(name, temperature=1.0))]
    assert len({topic for topic in topics if topic.endswith("/config")}) == 4
