"""`visavis firmware install|check` on a root of their own, and the mistakes people make."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from firmware.errors import InstallError
from firmware.install import LADDER, Finding, check, install, plan
from firmware.ladder import Record, load, save
from visavis import firmware as commands

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = "/opt/visavis/current/bin/visavis"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """The root of a box with the programs that are needed, a release, and its user."""
    for program in ("usr/bin/cage", "usr/bin/Xwayland", "usr/sbin/nft", PROGRAM.lstrip("/")):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("visavis:x:999:999::/var/lib/visavis:/usr/sbin/nologin\n")
    return tmp_path


def failed(findings: list[Finding]) -> dict[str, str]:
    """What failed, and why."""
    return {f.what: f.detail for f in findings if f.state == "fail"}


@pytest.mark.system
def test_install_then_check_then_install(box: Path) -> None:
    """Everything is written and switched on; the check agrees; a second run writes nothing."""
    done = install(box, config=b"# mine\n")
    assert f"wrote {box}/etc/systemd/system/visavis-kiosk.service" in done
    assert (box / "etc/systemd/system/multi-user.target.wants/visavis-kiosk.service").is_symlink()
    assert (box / "etc/systemd/system/sysinit.target.wants/visavis-firewall.service").is_symlink()
    assert failed(check(box)) == {}
    assert load(box / LADDER) == Record(boot_id="")
    assert [line for line in install(box, config=b"# other\n") if line.startswith("wrote")] == []
    assert (box / "etc/visavis/kiosk.toml").read_bytes() == b"# mine\n"


def test_a_dry_run_touches_nothing(tmp_path: Path) -> None:
    """Every line says what would be done, and nothing is."""
    lines = install(tmp_path, dry_run=True)
    assert len(lines) == len(plan()) + 2
    assert all(line.startswith("would ") for line in lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.system
def test_what_was_changed_is_named_and_mended(box: Path) -> None:
    """A unit edited in place, a missing rule, a unit that is off: each is named; the counts of the ladder survive the mending."""
    install(box)
    save(box / LADDER, Record(boot_id="x", reboots=2))
    with (box / "etc/systemd/system/visavis-health.service").open("a") as unit:
        unit.write("# my own idea\n")
    (box / "etc/udev/rules.d/60-visavis.rules").unlink()
    (box / "etc/systemd/system/multi-user.target.wants/visavis-display.service").unlink()
    (box / "etc/visavis/safe-screen.txt").write_text("Back at ten.\n")
    assert failed(check(box)) == {
        "files": "etc/systemd/system/visavis-health.service (changed); etc/udev/rules.d/60-visavis.rules (missing)",
        "units": "not switched on: visavis-display.service",
    }
    install(box)
    assert failed(check(box)) == {}
    assert load(box / LADDER) == Record(boot_id="x", reboots=2)
    assert (box / "etc/visavis/safe-screen.txt").read_text() == "Back at ten.\n"


def test_an_empty_box_is_told_what_to_do(tmp_path: Path) -> None:
    """Each failure has a remedy."""
    findings = check(tmp_path)
    assert set(failed(findings)) == {"files", "units", "program", "user", "record of steps", "cage", "xwayland", "nftables"}
    assert all(f.remedy for f in findings if f.state == "fail")


def test_what_would_fight_the_kiosk(box: Path) -> None:
    """Another display manager, namespaces that Chromium's sandbox needs and may not have, a program in somebody's home."""
    (box / "etc/systemd/system").mkdir(parents=True)
    (box / "etc/systemd/system/display-manager.service").symlink_to("/lib/systemd/system/gdm3.service")
    (box / "proc/sys/kernel").mkdir(parents=True)
    (box / "proc/sys/kernel/apparmor_restrict_unprivileged_userns").write_text("1\n")
    home = box / "home/me/visavis"
    home.parent.mkdir(parents=True)
    home.write_text("")
    home.chmod(0o755)
    found = failed(check(box, program="/home/me/visavis"))
    assert found["screen"] == "gdm3.service wants the same screen"
    assert found["browser's sandbox"] == "kernel.apparmor_restrict_unprivileged_userns = 1: no user namespaces"
    assert found["program"] == "/home/me/visavis: the units cannot see home folders"


def test_program_and_port_reach_the_files() -> None:
    """Another path of the program and another port are in the units and the policy, and nowhere the old ones."""
    files = plan("/srv/visavis/bin/visavis", 9000)
    assert b"ExecStart=/srv/visavis/bin/visavis run" in files["etc/systemd/system/visavis-kiosk.service"]
    assert not any(PROGRAM.encode() in content or b"localhost:8088" in content for content in files.values())


def test_the_boxes_own_port_stays(box: Path) -> None:
    """Installed with a file that names another port: install, check and acceptance without the file take the port of the box's own."""
    config = box / "mine.toml"
    config.write_text("[stage]\nport = 9123\n")
    assert commands.install(root=box, config=config) == 0
    policy = box / "etc/chromium/policies/managed/visavis.json"
    assert "localhost:9123" in policy.read_text()
    assert commands.check(root=box) == 0
    assert commands.install(root=box) == 0
    assert "localhost:9123" in policy.read_text()
    page = box / "page.md"
    commands.acceptance(root=box, out=page)
    assert "| files | **pass** |" in page.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps a record of its own")
def test_root_puts_nothing_back_that_the_kiosk_wrote(box: Path) -> None:
    """Acceptance as root leaves the kiosk's record alone: it is the kiosk's, who may do less."""
    record = box / "var/lib/visavis/levers.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    commands.acceptance(root=box, out=box / "page.md")
    assert record.read_text() == "{"


def test_a_read_only_place_is_one_line(tmp_path: Path) -> None:
    """A file where a folder must be: the path and the reason."""
    (tmp_path / "etc").write_text("")
    with pytest.raises(InstallError, match=rf"{tmp_path}/etc/\S+: (Not a directory|File exists)$"):
        install(tmp_path)


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without permissions")
def test_without_root_it_is_one_line() -> None:
    """Somebody else than root gets one line that says how, and no traceback."""
    if any(not folder.stat().st_mode & 0o001 for folder in (ROOT, *ROOT.parents)):
        pytest.skip(f"nobody else may look into {ROOT}")
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        # What the command imports comes before: nobody may read this machine's Python.
        program = (
            "import os, sys, firmware.install, runtime.config\nfrom visavis.cli import main\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\nsys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", program, "firmware", "install", "--root", place]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert list(Path(place).iterdir()) == []
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("Permission denied: run it as root (sudo visavis firmware install), or look first with --dry-run")
