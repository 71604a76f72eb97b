"""Units and settings as shipped: systemd takes them without a word, they expose little, and nothing turns the browser's sandbox off."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from firmware.install import UNITS, plan
from firmware.ladder import BOOT_GRACE_NS, SECOND
from firmware.watchdog import LIMIT_NS
from kiosk.browser import arguments

EXPOSURE = 25
"""Ten times systemd's exposure level."""
SERVICES = sorted(path.name for path in UNITS.rglob("*.service"))
ALL_UNITS = sorted(path.name for path in (UNITS / "etc/systemd/system").iterdir())
KIOSK_UNITS = ("visavis-kiosk.service", "visavis-display.service", "visavis-health.service", "visavis-update.service")

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze: scripts/system.sh installs systemd")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that exists here in the place of those that a box has."""
    for name in ALL_UNITS:
        content = (UNITS / "etc/systemd/system" / name).read_text()
        for program in ("/opt/visavis/current/bin/visavis", "/usr/bin/cage", "/usr/sbin/nft"):
            content = content.replace(program, "/bin/true")
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.system
@pytest.mark.parametrize("name", ALL_UNITS)
def test_systemd_takes_the_unit_without_a_word(units: Path, name: str) -> None:
    """`systemd-analyze verify`: exit status 0 and an empty stderr (unknown keys only warn)."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"./{name}"],
        cwd=units,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.system
@pytest.mark.parametrize("name", SERVICES)
def test_the_unit_exposes_little(units: Path, name: str) -> None:
    """`systemd-analyze security --offline`: exposure at most 2.5."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", f"./{name}"],
        cwd=units, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("name", ALL_UNITS)
def test_the_unit_uses_what_the_oldest_systemd_knows(name: str) -> None:
    """JetPack 6 has systemd 249: no setting that came later."""
    keys = set(re.findall(r"^(\w+)=", (UNITS / "etc/systemd/system" / name).read_text(), re.MULTILINE))
    assert not keys & {
        "RestartSteps",
        "RestartMaxDelaySec",
        "RestartMode",
        "ExitType",
        "OpenFile",
        "MemoryPressureWatch",
        "ImportCredential",
    }


def test_the_kiosk_never_fails_for_good() -> None:
    """No start limit: a unit that systemd refuses to start again could not be helped by any later step."""
    for name in ("visavis-kiosk.service", "visavis-display.service", "visavis-health.service"):
        content = (UNITS / "etc/systemd/system" / name).read_text()
        assert "StartLimitIntervalSec=0" in content
        assert "Restart=always" in content


def test_the_watch_does_not_wait_for_the_kiosk() -> None:
    """A kiosk that never gets ready is watched too; its first look that counts comes after the longest start."""
    folder = UNITS / "etc/systemd/system"
    assert "visavis-kiosk.service" not in (folder / "visavis-health.service").read_text().partition("[Service]")[0].partition("[Unit]")[2]
    limit = re.search(r"^TimeoutStartSec=(\d+)$", (folder / "visavis-kiosk.service").read_text(), re.MULTILINE)
    assert limit
    assert max(LIMIT_NS, int(limit[1]) * SECOND) < BOOT_GRACE_NS


def test_no_unit_restarts_the_box_by_itself() -> None:
    """Restarts of the box are counted, so only the watch asks for them."""
    for name in ALL_UNITS:
        content = (UNITS / "etc/systemd/system" / name).read_text()
        assert not re.search(r"^(StartLimitAction|FailureAction|SuccessAction)=", content, re.MULTILINE)


def test_the_units_run_commands_that_there_are() -> None:
    """Every `visavis …` in a unit is a command with the options it is given."""
    from visavis.cli import app

    found = 0
    for name in KIOSK_UNITS:
        for line in re.findall(r"bin/visavis (.+)$", (UNITS / "etc/systemd/system" / name).read_text(), re.MULTILINE):
            app.parse_args(line.split(), exit_on_error=False, print_error=False)
            found += 1
    assert found == 5


def test_the_sandbox_stays_on() -> None:
    """Neither unit, setting, nor the browser's command line turns Chromium's sandbox off, or opens it to a debugger."""
    flags = ("--no-sandbox", "--disable-setuid-sandbox", "--disable-namespace-sandbox", "--disable-seccomp-filter-sandbox",
             "--remote-debugging", "--disable-web-security")  # fmt: skip
    shipped = {path: content.decode() for path, content in plan().items()}
    shipped["the browser's command"] = " ".join(arguments("chromium", "http://localhost:8088", Path("/run/x"), screen="wayland"))
    assert [(where, flag) for where, content in shipped.items() for flag in flags if flag in content] == []


def test_the_display_allows_what_the_sandbox_is_made_of() -> None:
    """Chromium builds its sandbox from user, pid and net namespaces and a chroot; the unit must leave it those."""
    content = (UNITS / "etc/systemd/system/visavis-display.service").read_text()
    assert "RestrictNamespaces=user pid net" in content
    assert "SystemCallFilter=@system-service chroot" in content
    assert "MemoryDenyWriteExecute" not in content


@pytest.mark.system
@pytest.mark.skipif(shutil.which("nft") is None, reason="no nft: scripts/system.sh installs nftables")
def test_nftables_takes_the_firewall() -> None:
    """`nft --check` reads it; where we may not talk to the kernel at all, there is nothing to check."""
    done = subprocess.run(["nft", "--check", "--file", UNITS / "etc/visavis/firewall.nft"], capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("nft needs CAP_NET_ADMIN")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.system
@pytest.mark.parametrize(
    ("tool", "path"), [("systemd-sysusers", "etc/sysusers.d/visavis.conf"), ("systemd-tmpfiles", "etc/tmpfiles.d/visavis.conf")]
)
def test_users_and_folders_are_made(tmp_path: Path, tool: str, path: str) -> None:
    """Both files do their work in an empty root, twice, without a word."""
    root = tmp_path / "box"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nvisavis:x:999:999::/var/lib/visavis:/usr/sbin/nologin\n")
    (root / "etc/group").write_text("root:x:0:\nvisavis:x:999:\n")
    if tool == "systemd-sysusers":
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\n")
    command = [tool, *(["--create"] if tool == "systemd-tmpfiles" else []), f"--root={root}", str(UNITS / path)]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    if tool == "systemd-sysusers":
        assert re.search(r"^visavis:", (root / "etc/passwd").read_text(), re.MULTILINE)
        # jtop lets only its own group in.
        assert re.search(r"^jtop:[^:]*:\d+:visavis$", (root / "etc/group").read_text(), re.MULTILINE)
    else:
        assert (root / "opt/visavis/releases").is_dir()
        asks = (root / "run/visavis-ask").stat()
        assert (asks.st_uid, asks.st_gid, asks.st_mode & 0o7777) == (0, 999, 0o770)
        assert (root / "var/lib/visavis").stat().st_mode & 0o777 == 0o750


def test_the_policy_lets_in_one_address_only() -> None:
    """The page's own origin may hear the microphone and play; everything else is blocked, the browser's own pages included."""
    policy = json.loads(plan(port=9000)["etc/chromium/policies/managed/visavis.json"])
    for key in ("URLAllowlist", "AudioCaptureAllowedUrls", "AutoplayAllowlist"):
        assert policy[key] == ["http://localhost:9000"]
    assert {"*", "chrome://*", "file://*"} <= set(policy["URLBlocklist"])
    assert (policy["VideoCaptureAllowed"], policy["DeveloperToolsAvailability"], policy["DownloadRestrictions"]) == (False, 2, 3)
    assert plan(port=9000)["etc/opt/chrome/policies/managed/visavis.json"] == plan(port=9000)["etc/chromium/policies/managed/visavis.json"]


def test_udev_rules_are_rules() -> None:
    """Every line is a comment or a list of KEY operator "value" (udevadm verify does not exist before systemd 254)."""
    part = r'[A-Z_]+(\{[^}]+\})?(==|!=|=|\+=|:=)"[^"]*"'
    for line in (UNITS / "etc/udev/rules.d/60-visavis.rules").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(rf"{part}(, {part})*", line), line


@pytest.mark.parametrize(
    ("path", "section", "keys"),
    [
        ("etc/systemd/system.conf.d/50-visavis.conf", "Manager", {"RuntimeWatchdogSec": "30s", "RebootWatchdogSec": "10min"}),
        ("etc/systemd/journald.conf.d/50-visavis.conf", "Journal", {"SystemMaxUse": "200M", "Storage": "persistent"}),
        ("etc/systemd/coredump.conf.d/50-visavis.conf", "Coredump", {"Storage": "none"}),
    ],
)
def test_limits_are_set(path: str, section: str, keys: dict[str, str]) -> None:
    """Hardware watchdog, bounded log, no core dumps."""
    import configparser

    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / path)
    assert dict(parser[section]).items() >= keys.items()
