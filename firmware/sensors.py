"""All sensors of the box: `Sensors().read()` → `Snapshot`. Any of them may be missing, asleep or broken; the others still tell."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from firmware._files import integer_or_none
from firmware._hwmon import Hwmon
from firmware._nvml import Nvml
from firmware._zones import Zones
from firmware.readings import Event, Snapshot

__all__ = ["Sensors"]


class Sensors:
    """Readers of thermal zones, hwmon and NVML. `root` stands in for / in tests. Not safe for several threads.

    `missing` says in one line each what could not be opened.
    """

    def __init__(self, root: Path = Path("/"), *, nvml: bool = True) -> None:
        self._root = root
        self._zones = Zones(root)
        self._hwmon = Hwmon(root)
        self._nvml, no_nvml = Nvml.open() if nvml else (None, "")
        self._throttled: int | None = None
        self.missing = tuple(why for why in (no_nvml,) if why)

    def read(self) -> Snapshot:
        """Ask every sensor once; never raises. Some two dozen small files, so once a second costs little."""
        temperatures, throttles = self._zones.read()
        more, fans, rails, events = self._hwmon.read(self._zones.types)
        temperatures += more
        events += self._intel_throttling()
        if self._nvml:
            cards, reasons, card_fans, card_rails = self._nvml.read()
            temperatures += cards
            throttles += reasons
            fans += card_fans
            rails += card_rails
        return Snapshot(
            temperatures=tuple(temperatures), throttles=tuple(throttles), events=tuple(events), fans=tuple(fans), rails=tuple(rails)
        )

    def close(self) -> None:
        """Let go of NVML."""
        if self._nvml:
            self._nvml.close()
            self._nvml = None

    def __enter__(self) -> Sensors:  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _intel_throttling(self) -> list[Event]:
        """How often an Intel processor throttled as a whole; every core shows its package's count."""
        counts = [
            count
            for path in self._root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/package_throttle_count")
            if (count := integer_or_none(path)) is not None
        ]
        if not counts:
            return []
        total = max(counts)
        new = max(0, total - (total if self._throttled is None else self._throttled))
        self._throttled = total
        # Not alarming: a burst of load moves it for milliseconds in a cool box; real heat shows in coretemp's margin.
        return [Event(name="package_throttle", meaning="the processor throttled", total=total, new=new, alarming=False)]
