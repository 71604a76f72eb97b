"""NVIDIA cards through NVML. Every call may be "not supported" on some card, so each is asked singly; none is trusted to exist.

The distance to the nearest slowdown comes first: it is the card's own, while the thresholds are being withdrawn from Ada on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from firmware._zones import ABSURD, numbered
from firmware.readings import CapKind, Fan, Rail, State, Temperature, Throttle

__all__ = ["Nvml"]

_REASONS = (
    ("power cap", CapKind.POWER, 0x4),  # SwPowerCap: ordinary on laptops and small cards
    ("heat", CapKind.HEAT, 0x20 | 0x40),  # SwThermalSlowdown, HwThermalSlowdown
    ("hardware slowdown", CapKind.EMERGENCY, 0x8 | 0x80),  # HwSlowdown, HwPowerBrakeSlowdown: clocks halved or worse
)
"""Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h, nvmlClocksEventReason*)."""


class Nvml:
    """The cards that NVML lists when this is made. `open()` gives None where there is no library, driver or card."""

    def __init__(self, library: Any) -> None:
        self._nvml = library
        handles = [library.nvmlDeviceGetHandleByIndex(i) for i in range(library.nvmlDeviceGetCount())]
        names = numbered([self._ask(library.nvmlDeviceGetName, handle) or "NVIDIA GPU" for handle in handles])
        self._cards = list(zip(names, handles, strict=True))

    @classmethod
    def open(cls) -> tuple[Nvml | None, str]:
        """(the reader, "") or (None, why there is none)."""
        try:
            import pynvml
        except ImportError:
            return None, "nvidia-ml-py is not installed"
        try:
            pynvml.nvmlInit()
            return cls(pynvml), ""
        except pynvml.NVMLError as error:
            return None, f"NVML: {error}"

    def close(self) -> None:
        """Let go of the library."""
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def read(self) -> tuple[list[Temperature], list[Throttle], list[Fan], list[Rail]]:
        """What each card tells; a lost card is an unreadable temperature."""
        temperatures, throttles, fans, rails = [], [], [], []
        for name, card in self._cards:
            temperatures.append(self._temperature(name, card))
            reasons = self._ask(self._nvml.nvmlDeviceGetCurrentClocksEventReasons, card)
            if reasons is not None:
                throttles += [Throttle(name=f"{name} {what}", kind=kind, active=bool(reasons & bits)) for what, kind, bits in _REASONS]
            percent = self._ask(self._nvml.nvmlDeviceGetFanSpeed, card)
            if percent is not None:
                fans.append(Fan(name=f"{name} fan", duty=percent / 100))
            milliwatts = self._ask(self._nvml.nvmlDeviceGetPowerUsage, card)
            if milliwatts is not None:
                limit = self._ask(self._nvml.nvmlDeviceGetEnforcedPowerLimit, card)
                rails.append(Rail(name=name, watts=milliwatts / 1000, limit_w=None if limit is None else limit / 1000))
        return temperatures, throttles, fans, rails

    def _temperature(self, name: str, card: Any) -> Temperature:
        nvml = self._nvml
        try:
            celsius = float(self._celsius(card))
        except nvml.NVMLError as error:
            return Temperature(name=name, source="nvml", state=State.UNREADABLE, trouble=str(error).lower())
        if not ABSURD[0] <= celsius <= ABSURD[1]:
            return Temperature(name=name, source="nvml", state=State.UNREADABLE, trouble=f"{celsius:g} °C cannot be")
        margin = self._ask(nvml.nvmlDeviceGetMarginTemperature, card)
        if margin is not None and abs(margin) > ABSURD[1]:
            margin = None
        slows = self._ask(nvml.nvmlDeviceGetTemperatureThreshold, card, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
        stops = self._ask(nvml.nvmlDeviceGetTemperatureThreshold, card, nvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN)
        return Temperature(
            name=name,
            source="nvml",
            state=State.OK,
            celsius=celsius,
            slows_c=float(slows) if slows else None,
            stops_c=float(stops) if stops else None,
            told_margin_c=None if margin is None else float(margin),
        )

    def _celsius(self, card: Any) -> int:
        value = self._ask(self._nvml.nvmlDeviceGetTemperatureV, card, self._nvml.NVML_TEMPERATURE_GPU)
        # Older drivers have only the other call; its error is the one worth telling.
        return int(self._nvml.nvmlDeviceGetTemperature(card, self._nvml.NVML_TEMPERATURE_GPU) if value is None else value)

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """The answer, or None where this card or driver has none."""
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None
