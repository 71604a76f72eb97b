"""Puts the units and settings of `firmware/units` on a box, and says what of them is missing or was changed since.

Everything below `units/` lands at the same path below `root`. Files that belong to the store (`_KEPT`) are written once and then left
alone; the others are ours: to change one, put a drop-in with a higher number beside it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from firmware._files import text_or_none, write_record
from firmware.errors import InstallError
from firmware.ladder import Record, load, save

__all__ = ["CONFIG", "LADDER", "PORT", "PROGRAM", "Finding", "check", "install", "plan"]

UNITS = Path(__file__).resolve().parent / "units"
PROGRAM = "/opt/visavis/current/bin/visavis"
PORT = 8088
LADDER = Path("var/lib/visavis-health/ladder.json")
CONFIG = "etc/visavis/kiosk.toml"
_ENABLED = ("visavis-firewall.service", "visavis-kiosk.service", "visavis-display.service", "visavis-health.service", "visavis-update.path")
_KEPT = (CONFIG, "etc/visavis/safe-screen.txt")
_POLICY = "etc/chromium/policies/managed/visavis.json"
_OTHER_BROWSERS = ("etc/chromium-browser/policies/managed/visavis.json", "etc/opt/chrome/policies/managed/visavis.json")
"""Ubuntu's package and Google's build read the same policy elsewhere."""
_NEEDED = {"cage": "usr/bin/cage", "xwayland": "usr/bin/Xwayland", "nftables": "usr/sbin/nft"}
"""Package → its program. Debian's cage does not start without Xwayland, which its package does not ask for."""
_COMMAND_S = 60.0


class Finding(msgspec.Struct, frozen=True):
    """One line of a check. `state`: pass, fail, or skip (cannot be told here)."""

    what: str
    state: str
    detail: str
    remedy: str = ""


def plan(program: str = PROGRAM, port: int = PORT, config: bytes = b"") -> dict[str, bytes]:
    """Path below the root → content, of everything that `install` writes. `config` is the kiosk.toml of a new box."""
    files = {str(path.relative_to(UNITS)): path.read_bytes() for path in sorted(UNITS.rglob("*")) if path.is_file()}
    files = {
        path: content.replace(PROGRAM.encode(), program.encode()).replace(f"localhost:{PORT}".encode(), f"localhost:{port}".encode())
        for path, content in files.items()
    }
    files |= dict.fromkeys(_OTHER_BROWSERS, files[_POLICY])
    return files | {CONFIG: config}


def install(root: Path = Path("/"), *, program: str = PROGRAM, port: int = PORT, config: bytes = b"", dry_run: bool = False) -> list[str]:
    """Write the files, make user and folders, switch the units on (from the next start); gives one line for each thing done.

    With another `root` than / (an image that is being built) nothing of the running system is touched. Running it again changes nothing.
    Raises InstallError: not root, read-only, a command that failed.
    """
    done = []
    for path, content in plan(program, port, config).items():
        target = root / path
        if path in _KEPT and target.exists():
            continue
        if _same(target, content):
            continue
        done.append(f"{'would write' if dry_run else 'wrote'} {target}")
        if not dry_run:
            _write(target, content)
    ladder = root / LADDER
    if load(ladder) is None:
        done.append(f"{'would write' if dry_run else 'wrote'} {ladder}")
        if not dry_run:
            _make(ladder.parent)
            save(ladder, Record(boot_id=""))
    for command in _commands(root):
        done.append(f"{'would run' if dry_run else 'ran'} {' '.join(command)}")
        if not dry_run:
            _run(command)
    return done


def check(root: Path = Path("/"), *, program: str = PROGRAM, port: int = PORT) -> list[Finding]:
    """What of it is on this box; never raises."""
    again = "visavis firmware install"
    findings = []
    wrong = [f"{path} ({state})" for path, content in plan(program, port).items() if (state := _state(root / path, path, content))]
    findings.append(Finding("files", "fail" if wrong else "pass", _few(wrong) or "all as shipped", again if wrong else ""))
    off = [name for name in _ENABLED if not _enabled(root, name)]
    findings.append(
        Finding(
            "units", "fail" if off else "pass", f"not switched on: {', '.join(off)}" if off else "all switched on", again if off else ""
        )
    )
    findings += [_program(root, program), _user(root), _ladder(root), _display_manager(root), _namespaces(root)]
    for package, path in _NEEDED.items():
        there = (root / path).exists()
        findings.append(Finding(package, "pass" if there else "fail", f"/{path}", "" if there else f"apt install {package}"))
    return findings


def _few(names: list[str], most: int = 4) -> str:
    return "; ".join(names[:most]) + (f"; and {len(names) - most} more" if len(names) > most else "")


def _state(target: Path, path: str, content: bytes) -> str:
    if not target.exists():
        return "missing"
    return "" if path in _KEPT or _same(target, content) else "changed"


def _same(target: Path, content: bytes) -> bool:
    try:
        return target.read_bytes() == content
    except OSError:
        return False


def _write(target: Path, content: bytes) -> None:
    _make(target.parent)
    try:
        write_record(target, content)
    except OSError as error:
        raise _mistake(target, error) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _mistake(folder, error) from error


def _mistake(path: Path, error: OSError) -> InstallError:
    if os.geteuid() != 0:
        return InstallError(f"{path}: {error.strerror}: run it as root (sudo visavis firmware install), or look first with --dry-run")
    return InstallError(f"{path}: {error.strerror}")


def _commands(root: Path) -> list[Sequence[str]]:
    """User and folders, then the units. tmpfiles is given our file alone: it must not clean anything of this box."""
    if root != Path("/"):
        return [("systemctl", f"--root={root}", "enable", *_ENABLED)]
    return [
        ("systemd-sysusers", "/etc/sysusers.d/visavis.conf"),
        ("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/visavis.conf"),
        ("udevadm", "control", "--reload"),
        ("sysctl", "--quiet", "--load=/etc/sysctl.d/50-visavis.conf"),
        ("systemctl", "daemon-reload"),
        ("systemctl", "enable", *_ENABLED),
    ]


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_COMMAND_S)
    except FileNotFoundError as error:
        raise InstallError(f"{command[0]} is not installed: this box has no systemd") from error
    except subprocess.CalledProcessError as error:
        raise InstallError(f"{' '.join(command)}: {' '.join(error.stderr.split()) or f'exit status {error.returncode}'}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{' '.join(command)}: {error}") from error


def _enabled(root: Path, unit: str) -> bool:
    return any((root / f"etc/systemd/system/{target}.wants/{unit}").is_symlink() for target in ("multi-user.target", "sysinit.target"))


def _program(root: Path, program: str) -> Finding:
    target = root / program.lstrip("/")
    if not os.access(target, os.X_OK):
        return Finding("program", "fail", f"{program} is not there", "install a release to /opt/visavis, or name yours with --program")
    if program.startswith(("/home/", "/root/")):
        return Finding("program", "fail", f"{program}: the units cannot see home folders", "install to /opt/visavis")
    return Finding("program", "pass", program)


def _user(root: Path) -> Finding:
    try:
        there = any(line.startswith("visavis:") for line in (root / "etc/passwd").read_text().splitlines())
    except OSError:
        there = False
    return Finding(
        "user", "pass" if there else "fail", "visavis" if there else "no user visavis", "" if there else "visavis firmware install"
    )


def _ladder(root: Path) -> Finding:
    record = load(root / LADDER)
    if record is None:
        return Finding(
            "record of steps", "fail", f"/{LADDER} is missing or broken: this box will not restart itself", "visavis firmware install"
        )
    detail = f"since the last calm: {record.boots} starts, {record.reboots} restarts by us, {record.rollbacks} rollbacks"
    return Finding("record of steps", "pass", detail)


def _display_manager(root: Path) -> Finding:
    link = root / "etc/systemd/system/display-manager.service"
    if link.is_symlink() and link.readlink() != Path("/dev/null"):
        manager = link.readlink().name
        return Finding("screen", "fail", f"{manager} wants the same screen", f"systemctl disable {manager}")
    return Finding("screen", "pass", "no other display manager")


def _namespaces(root: Path) -> Finding:
    """Chromium's sandbox needs user namespaces without privileges; Ubuntu 24.04 allows them only to programs with an AppArmor profile."""
    for path, bad in (("kernel/unprivileged_userns_clone", "0"), ("kernel/apparmor_restrict_unprivileged_userns", "1")):
        if text_or_none(root / "proc/sys" / path) == bad:
            name = path.replace("/", ".")
            return Finding(
                "browser's sandbox",
                "fail",
                f"{name} = {bad}: no user namespaces",
                f"an AppArmor profile for Chromium, or {name} = {1 - int(bad)}",
            )
    return Finding("browser's sandbox", "pass", "user namespaces are allowed")
