"""The technician's run on a real box: what of it works, one line each. Fakes prove the code; this proves the box."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from firmware import install
from firmware._files import text_or_none
from firmware.errors import LeverError
from firmware.install import Finding
from firmware.power import Levers
from firmware.readings import CapKind, Snapshot, State
from firmware.sensors import Sensors

__all__ = ["examine", "report"]

_SPIN_UP_S = 8
_FASTER = 1.1
"""A fan at full drive must turn at least so much faster, or already turn at full drive before."""
_SERVICES = ("visavis-kiosk.service", "visavis-display.service", "visavis-health.service", "visavis-firewall.service")


def examine(
    root: Path = Path("/"),
    *,
    wait: Callable[[float], object],
    record: Path = Path("/var/lib/visavis/levers.json"),
    fans: tuple[str, ...] = ("pwmfan",),
    program: str = install.PROGRAM,
    port: int = install.PORT,
) -> list[Finding]:
    """All checks, in the order of the report; never raises. `wait` lets seconds pass while the fan spins up."""
    with Sensors(root, nvml=root == Path("/")) as sensors:
        snapshot = sensors.read()
        found = [_temperatures(snapshot), _limits(snapshot), _throttling(snapshot)]
        found += _levers(sensors, root, record, fans, wait)
    found += [_watchdog(root), _clock(root), _display(root), *_sound(root), _camera(root)]
    found += install.check(root, program=program, port=port)
    return [*found, *_services(root)]


def report(findings: list[Finding], root: Path = Path("/")) -> str:
    """The page that stays with the box, as Markdown."""
    board = (text_or_none(root / "proc/device-tree/model") or platform.machine()).rstrip("\0")
    system = re.search(r'^PRETTY_NAME="?([^"\n]+)', text_or_none(root / "etc/os-release") or "", re.MULTILINE)
    when = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M}"
    failed = [f.what for f in findings if f.state == "fail"]
    lines = [
        f"# Acceptance of {socket.gethostname()}",
        "",
        f"{when} UTC by the box's clock · {board} · {system[1] if system else 'unknown system'} · kernel {platform.release()}",
        "",
        "| check | result | what was seen | do |",
        "| --- | --- | --- | --- |",
        *(f"| {f.what} | **{f.state}** | {_cell(f.detail)} | {_cell(f.remedy)} |" for f in findings),
        "",
        f"{len(findings)} checks, {len(failed)} failed{': ' + ', '.join(failed) if failed else ''}.",
        "",
        "Seen by a person (see docs/firmware.md): plug pulled and put back ☐ · browser killed ☐ · fan blocked for a minute ☐ · name, date:",
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _temperatures(snapshot: Snapshot) -> Finding:
    told = [t for t in snapshot.temperatures if t.state is State.OK]
    broken = [f"{t.name}: {t.trouble}" for t in snapshot.temperatures if t.state is State.UNREADABLE]
    if not told:
        return Finding(
            "sensors", "fail", "; ".join(broken) or "no temperature sensor was found", "without one the box runs at its safe setting"
        )
    detail = ", ".join(f"{t.name} {t.celsius:.0f} °C" for t in told)
    return Finding("sensors", "fail" if broken else "pass", "; ".join([detail, *broken]), "look at the sensors named" if broken else "")


def _limits(snapshot: Snapshot) -> Finding:
    nearest = snapshot.tightest
    if nearest is None or nearest.margin_c is None:
        return Finding("limits", "fail", "no sensor tells where this box throttles", "without one the box runs at its safe setting")
    limit = nearest.slows_c or nearest.stops_c
    told = f" (limit {limit:.1f} °C)" if limit else ""
    state = "pass" if nearest.margin_c > 0 else "fail"
    return Finding(
        "limits", state, f"nearest: {nearest.name}, {nearest.margin_c:.1f} °C to go{told}", "" if state == "pass" else "cool the box"
    )


def _throttling(snapshot: Snapshot) -> Finding:
    held = [t.name for t in snapshot.throttles if t.active and t.kind is not CapKind.POWER]
    counted = [f"{e.meaning}: {e.total}" for e in snapshot.events if e.alarming and e.total]
    if held:
        return Finding("throttling", "fail", f"held down now: {', '.join(held)}", "cool the box, check the power supply")
    if counted:
        return Finding("throttling", "fail", f"since it was switched on: {', '.join(counted)}", "check heat sink and power supply")
    return Finding("throttling", "pass", "nothing holds the clocks down")


def _levers(sensors: Sensors, root: Path, record: Path, fans: tuple[str, ...], wait: Callable[[float], object]) -> list[Finding]:
    with Levers(record, root, fans=fans) as levers:
        modes = (
            Finding("power modes", "pass", ", ".join(levers.modes))
            if levers.modes
            else Finding("power modes", "skip", levers.why_not["power mode"])
        )
        try:
            before = _rpm(sensors.read())
            levers.set_fan(1.0)
        except LeverError as error:
            return [Finding("fan moves", "skip", str(error)), modes]
        after: list[int] = []
        for _ in range(_SPIN_UP_S):
            wait(1.0)
            after = _rpm(sensors.read())
            if before and after and max(after) >= _FASTER * max(before):
                break
        return [_fan(levers.fans, before, after), modes]


def _rpm(snapshot: Snapshot) -> list[int]:
    return [fan.rpm for fan in snapshot.fans if fan.rpm is not None]


def _fan(names: tuple[str, ...], before: list[int], after: list[int]) -> Finding:
    if not after:
        return Finding(
            "fan moves", "skip", f"{', '.join(names)} driven at 100 %, but nothing tells how fast it turns", "listen: is it louder?"
        )
    seen = f"{max(before, default=0)} → {max(after)} rpm at 100 %"
    if max(after) >= max(1, _FASTER * max(before, default=0)):
        return Finding("fan moves", "pass", seen)
    return Finding("fan moves", "fail", seen, "is it plugged in, free of dust, or already at its fastest?")


def _watchdog(root: Path) -> Finding:
    for path in sorted((root / "sys/class/watchdog").glob("watchdog[0-9]*")):
        name = text_or_none(path / "identity") or path.name
        if text_or_none(path / "state") == "active":
            return Finding("hardware watchdog", "pass", f"{name} is armed, {text_or_none(path / 'timeout') or '?'} s")
        return Finding("hardware watchdog", "fail", f"{name} is there and not armed", "restart the box after visavis firmware install")
    return Finding(
        "hardware watchdog",
        "fail",
        "this board has none, or its driver is not loaded",
        "load it (modprobe); softdog helps only while the kernel itself runs",
    )


def _clock(root: Path) -> Finding:
    clock = text_or_none(root / "sys/class/rtc/rtc0/name")
    if clock is None:
        return Finding("clock", "skip", "no real-time clock: without network the box wakes up in 1970; it works, its log is misdated")
    return Finding("clock", "pass", clock)


def _display(root: Path) -> Finding:
    ports = sorted((root / "sys/class/drm").glob("card*-*"))
    for port in ports:
        if text_or_none(port / "status") == "connected":
            mode = (text_or_none(port / "modes") or "no mode").splitlines()[0]
            return Finding("display", "pass", f"{port.name.partition('-')[2]}: {mode}")
    return Finding(
        "display", "fail", f"nothing on {', '.join(p.name.partition('-')[2] for p in ports) or 'any port: no graphics driver'}", "plug in"
    )


def _sound(root: Path) -> list[Finding]:
    streams = text_or_none(root / "proc/asound/pcm") or ""
    findings = []
    for what, kind in (("loudspeaker", "playback"), ("microphone", "capture")):
        names = [line.split(":")[1].strip() for line in streams.splitlines() if f": {kind}" in line]
        findings.append(
            Finding(what, "pass" if names else "fail", ", ".join(names) or f"no sound card with {kind}", "" if names else "plug in")
        )
    return findings


def _camera(root: Path) -> Finding:
    names = sorted({text_or_none(path / "name") or path.name for path in (root / "sys/class/video4linux").glob("video*")})
    return Finding("camera", "pass" if names else "skip", ", ".join(names) or "none: presence by voice and touch")


def _services(root: Path) -> list[Finding]:
    if not (root / "run/systemd/system").is_dir():
        return [Finding("services", "skip", "systemd does not run here")]
    findings = []
    for name in _SERVICES:
        try:
            state = subprocess.run(["systemctl", "is-active", name], capture_output=True, text=True, timeout=10, check=False).stdout.strip()
        except (OSError, subprocess.TimeoutExpired) as error:
            state = str(error)
        good = state == "active"
        findings.append(Finding(name, "pass" if good else "fail", state, "" if good else f"journalctl -u {name}"))
    if os.geteuid() != 0:
        findings.append(Finding("root", "skip", "run as root to prove fan and power mode"))
    return findings
