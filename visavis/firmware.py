"""`visavis firmware …`: put the units on a box, look at them, prove the box. And `visavis screen`, which the display's unit runs."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

if TYPE_CHECKING:
    from firmware.install import Finding

__all__ = ["app", "screen"]

app = App(name="firmware", help="The box: install units and settings, check them, accept the box; what the units themselves run.")

_MARKS = {"pass": "ok  ", "fail": "FAIL", "skip": "skip"}
_LEVERS = Path("/var/lib/visavis/levers.json")
_LADDER = Path("/var/lib/visavis-health/ladder.json")
_SHIPPED_CONFIG = Path(__file__).resolve().parent.parent / "kiosk" / "kiosk.toml"


@app.command
def install(*, root: Path = Path("/"), dry_run: bool = False, program: str = "", config: Path | None = None) -> int:
    """Write systemd units, limits, firewall and browser policy, make the user, and switch it all on from the next start. As root.

    Parameters
    ----------
    root
        Write below this folder instead, e.g. an image that is being built.
    dry_run
        Only say what would be done.
    program
        The path of `visavis` on the box; by default that of the current release in /opt/visavis.
    config
        The kiosk.toml of a new box; one that is there is never overwritten.

    """
    from firmware import install as installer
    from firmware.errors import InstallError
    from runtime.config import load

    chosen = config or _SHIPPED_CONFIG
    if config is not None:
        load(config)  # a mistake in a new box's file is told before it is there
    port = _boxes_port(root, None if (root / installer.CONFIG).exists() else config)
    try:
        content = chosen.read_bytes()
    except OSError as error:
        raise InstallError(f"{chosen}: {error.strerror}: run it as somebody who may read that file") from None
    lines = installer.install(root, program=program or installer.PROGRAM, port=port, config=content, dry_run=dry_run)
    print("\n".join(lines) or "Everything is there.")
    if lines and not dry_run and root == Path("/"):
        print("Restart the box: the kiosk starts with it. Then run: visavis firmware acceptance")
    return 0


@app.command
def check(*, root: Path = Path("/"), program: str = "", config: Path | None = None) -> int:
    """Say what of the units and settings is missing or was changed. Exit status 1 if something is."""
    from firmware import install as installer

    return _tell(installer.check(root, program=program or installer.PROGRAM, port=_boxes_port(root, config)))


@app.command
def acceptance(*, root: Path = Path("/"), out: Path = Path("visavis-acceptance.md"), program: str = "", config: Path | None = None,
               fan: tuple[str, ...] = ()) -> int:  # fmt: skip
    """Prove this box: sensors, limits, fan, watchdog, display, sound, units; writes a page for the file. Exit status 1 if a check failed.

    Parameters
    ----------
    root
        Look below this folder instead.
    out
        The report, Markdown.
    program
        The path of `visavis` on the box.
    config
        The box's kiosk.toml.
    fan
        hwmon driver whose fan may be driven, e.g. nct6775 on a PC; on a Jetson it is known.

    """
    from firmware import acceptance as run
    from firmware import install as installer
    from firmware.errors import FirmwareError
    from firmware.power import OWN_FANS

    never = threading.Event()
    # As root in a folder of root's: what is put back from it must not be the kiosk's to choose.
    record = root / (_LADDER.with_name("levers.json") if os.geteuid() == 0 else _LEVERS).relative_to("/")
    port = _boxes_port(root, config)
    findings = run.examine(root, wait=never.wait, record=record, fans=fan or OWN_FANS, program=program or installer.PROGRAM, port=port)
    status = _tell(findings)
    try:
        out.write_text(run.report(findings, root), encoding="utf-8")
    except OSError as error:
        raise FirmwareError(f"{out}: {error.strerror}: the report cannot be written, choose another place with --out") from error
    print(f"Written to {out}.")
    return status


@app.command
def watch(*, url: str = "", record: Path = _LADDER, config: Path | None = None) -> int:
    """Watch the kiosk and climb the ladder when it does not come back (the unit visavis-health runs this)."""
    import logging
    import sys

    from firmware.health import ThisBox
    from firmware.health import watch as look
    from firmware.notify import Notifier

    logging.basicConfig(level="INFO", format="%(name)s: %(message)s", stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    look(ThisBox(url or f"http://localhost:{_any_port(config)}"), record, boot_id, Notifier.from_environment(os.environ, os.getpid()), stop)
    return 0


@app.command
def restore(*, record: Path = _LEVERS) -> int:
    """Put fan and power mode back as they were before the kiosk (its unit runs this when it has ended)."""
    from firmware.power import Levers

    troubles = Levers(record).restore()
    print("\n".join(troubles), end="\n" if troubles else "")
    return int(bool(troubles))


@app.command
def switch(*, base: Path = Path("/opt/visavis"), record: Path = _LADDER) -> int:
    """Make the staged release current and restart the kiosk (the unit visavis-update runs this)."""
    from firmware import releases
    from firmware.health import ThisBox
    from firmware.ladder import Step, load

    known = load(record)
    print(f"{releases.switch(base, known.rolled_back if known else '')} is the current release.")
    box = ThisBox("", base)
    for step in (Step.SERVICE, Step.DISPLAY):
        box.take(step)
    return 0


def screen(*, config: Path | None = None) -> int:
    """Keep the browser on the kiosk's page, full screen, until SIGTERM (the unit visavis-display runs this inside its compositor)."""
    from kiosk.browser import KioskBrowser

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with KioskBrowser(f"http://localhost:{_any_port(config)}"):
        stop.wait()
    return 0


def _boxes_port(root: Path, config: Path | None) -> int:
    """The port in `config`, else in the box's own kiosk.toml, else the usual one. Raises ConfigError."""
    from firmware.install import CONFIG, PORT
    from runtime.config import port_in

    kept = root / CONFIG
    path = config or (kept if kept.exists() else None)
    return port_in(path) if path else PORT


def _any_port(config: Path | None) -> int:
    """The stage's port. Who watches the kiosk or shows its page must start even with a broken kiosk.toml: then it is the usual one."""
    import logging

    from firmware.install import PORT
    from runtime.config import ConfigError, environment, port_in

    path = config or environment().config
    if path is None:
        return PORT
    try:
        return port_in(path)
    except ConfigError as error:
        logging.getLogger("firmware").error("%s: port %d is taken for the stage's", "; ".join(str(error).splitlines()), PORT)  # noqa: TRY400
        return PORT


def _tell(findings: list[Finding]) -> int:
    width = max(len(f.what) for f in findings)
    for f in findings:
        print(f"{_MARKS[f.state]}  {f.what:<{width}}  {f.detail}" + (f"  → {f.remedy}" if f.remedy else ""))
    return int(any(f.state == "fail" for f in findings))
