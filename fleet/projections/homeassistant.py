"""Home Assistant's MQTT discovery: each box a device with its sensors. The rules without I/O.

A retained config for each box at `PREFIX/device/ID/config`; its values as one retained JSON at `visavis-fleet/TENANT/BOX/state`, whether
it is there at `…/availability`, whether the controller is there at `visavis-fleet/TENANT/availability` (its will). Nothing is a switch:
whoever may command has a name at the controller.
Formats: home-assistant.io/integrations/mqtt (device discovery, availability), developers.home-assistant.io (device and state classes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fleet.projections.outlet import Publish
from fleet.projections.source import Box, values
from runtime.telemetry import METRICS, STAGES, Metric, Per, Type

__all__ = ["Discovery", "HomeAssistant"]

ONLINE, OFFLINE = b"online", b"offline"
_UNITS: dict[str, tuple[str, str | None]] = {  # of the catalogue → unit, device class
    "celsius": ("°C", "temperature"),
    "watts": ("W", "power"),
    "hertz": ("Hz", "frequency"),
    "ms": ("ms", "duration"),
    "seconds": ("s", "duration"),
    "bytes": ("B", "data_size"),
    "megabytes": ("MB", "data_size"),
    "ratio": ("%", None),
    "percent": ("%", None),
    "dBFS": ("dBFS", None),
}
_DIFFERENCES = {"thermal_margin"}
"""Degrees between two temperatures: of the class `temperature` Home Assistant would add 32 on their way to Fahrenheit."""
_PROBLEMS = {"throttled", "heat_alarm"}
"""Booleans that are bad when true."""


class HomeAssistant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[home_assistant]`: the discovery prefix as Home Assistant's MQTT integration is set to."""

    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", max_length=100)] = "homeassistant"


class Discovery:
    """What to publish; remembers what it has published in this connection."""

    def __init__(self, settings: HomeAssistant, tenant: str, console: str = "", version: str = "") -> None:
        self._prefix, self._root, self._tenant = settings.prefix, f"visavis-fleet/{tenant}", tenant
        self._origin = {"name": "Visavis fleet", **({"sw": version} if version else {}), **({"url": console} if console else {})}
        self._configs: dict[str, bytes] = {}
        self._states: dict[str, bytes] = {}
        self._there: dict[str, bytes] = {}

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Where Home Assistant says that it has started."""
        return (f"{self._prefix}/status",)

    def will(self) -> Publish:
        """Without the controller nobody knows how the boxes are."""
        return Publish(f"{self._root}/availability", OFFLINE, qos=1, retain=True)

    def farewell(self) -> list[Publish]:
        """The last word."""
        return [self.will()]

    def begin(self, boxes: Iterable[Box]) -> Iterator[Publish]:
        """All of it, for somebody who knows nothing; also takes away the boxes that are gone."""
        self._configs, self._states, self._there = {}, {}, {}
        for box in boxes:
            yield from self.tell(box)
        yield Publish(f"{self._root}/availability", ONLINE, qos=1, retain=True)

    def tell(self, box: Box) -> Iterator[Publish]:
        """What is new about this box. One that was never heard is not told; of one that is gone everything retained is removed."""
        if box.gone:
            yield from self._remove(box.name)
            return
        if not box.seen:
            return
        parts = (
            (f"{self._prefix}/device/{self._id(box.name)}/config", self._config(box), self._configs),
            (f"{self._root}/{box.name}/state", _state(box), self._states),
            (f"{self._root}/{box.name}/availability", ONLINE if box.online else OFFLINE, self._there),
        )
        for topic, payload, known in parts:
            if known.get(box.name) != payload:
                known[box.name] = payload
                yield Publish(topic, payload, qos=1, retain=True)

    def came(self, topic: str, payload: bytes) -> bool:
        """Whether everything has to be told again: Home Assistant has started."""
        return topic in self.subscriptions and payload == ONLINE

    def _remove(self, name: str) -> Iterator[Publish]:
        topics = (f"{self._prefix}/device/{self._id(name)}/config", f"{self._root}/{name}/state", f"{self._root}/{name}/availability")
        if self._configs.get(name) == b"":
            return
        for topic in topics:
            yield Publish(topic, b"", qos=1, retain=True)
        self._configs[name] = b""
        self._states.pop(name, None)
        self._there.pop(name, None)

    def _id(self, name: str) -> str:
        # Ids of Home Assistant have letters, digits, '_' and '-'; a box's name may have dots. The '_' doubled: no two are ever the same.
        return "visavis_" + "_".join(part.replace("_", "__").replace(".", "_2e") for part in (self._tenant, name))

    def _config(self, box: Box) -> bytes:
        id_ = self._id(box.name)
        device = {
            "identifiers": [id_],
            "name": box.name,
            "manufacturer": "Visavis",
            **({"model": box.model} if box.model else {}),
            **({"sw_version": box.release} if box.release else {}),
            **({"suggested_area": box.site} if box.site else {}),
        }
        parts = {
            key.replace(".", "_"): _component(row, key, f"{id_}_{key.replace('.', '_')}")
            for row in METRICS
            for key in _names(row, {name for name, _, _ in values(box)})
        }
        return msgspec.json.encode(
            {
                "device": device,
                "origin": self._origin,
                "components": parts,
                "state_topic": f"{self._root}/{box.name}/state",
                "availability": [{"topic": f"{self._root}/availability"}, {"topic": f"{self._root}/{box.name}/availability"}],
                "availability_mode": "all",
                "qos": 1,
            }
        )


def _names(row: Metric, told: set[str]) -> list[str]:
    """The names under which this metric travels from a box that told these."""
    if row.per is Per.BOX:
        return [row.name]
    if row.per is Per.STAGE:
        return [f"{row.name}.{stage}" for stage in STAGES]
    return sorted(name for name in told if name.partition(".")[0] == row.name)


def _component(row: Metric, name: str, unique: str) -> dict[str, Any]:
    part = name.partition(".")[2]
    title = f"{row.title}: {part.replace('_', ' ')}" if part else row.title
    found: dict[str, Any] = {"unique_id": unique, "name": title, "entity_category": "diagnostic"}
    value = f"value_json.get('{name}')"
    if row.per is Per.NODE or (row.per is Per.STAGE and part != "sound_heard"):
        found["enabled_by_default"] = False  # an admin who wants the details of every node switches them on
    if row.type is Type.BOOL:
        found |= {"platform": "binary_sensor", "payload_on": "True", "payload_off": "False", "value_template": f"{{{{ {value} }}}}"}
        return found | ({"device_class": "problem"} if row.name in _PROBLEMS else {})
    found["platform"] = "sensor"
    if row.type is Type.NAME:
        return found | {"device_class": "enum", "options": list(row.values), "value_template": f"{{{{ {value} }}}}"}
    unit, kind = _UNITS.get(row.unit, (row.unit, None))
    if unit:
        found["unit_of_measurement"] = unit
    if kind and row.name not in _DIFFERENCES:
        found["device_class"] = kind
    found["state_class"] = "total_increasing" if row.type is Type.COUNT else "measurement"
    if row.unit == "ratio":
        value = f"({value} * 100) | round(1) if {value} is not none else none"
    return found | {"value_template": f"{{{{ {value} }}}}"}


def _state(box: Box) -> bytes:
    return msgspec.json.encode(dict(sorted((name, value) for name, _, value in values(box))))
