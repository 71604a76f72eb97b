"""The watch on a real page's answer, with a program in systemctl's place; and the release it goes back to."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware import releases
from firmware.errors import FirmwareError
from firmware.health import ThisBox
from firmware.ladder import Step, Verdict

ROOT = Path(__file__).resolve().parent.parent.parent


class Stage(http.server.BaseHTTPRequestHandler):
    """Answers as the stage does; the server's `body` and `status` say what."""

    def do_GET(self) -> None:
        """Whatever is asked."""
        server = self.server
        assert isinstance(server, StageServer)
        server.asked.set()
        self.send_response(server.status if self.path == "/alive" else 404)
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class StageServer(http.server.ThreadingHTTPServer):
    """On a free port of loopback."""

    status = 200
    body = b'{"page": true}'

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Stage)
        self.asked = threading.Event()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def stage() -> Iterator[StageServer]:
    """A running stage."""
    with StageServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def systemctl(tmp_path: Path) -> Path:
    """A program that writes down its arguments beside itself."""
    program = tmp_path / "systemctl"
    program.write_text('#!/bin/sh\necho "$*" >> "$0.log"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Two releases, the newer one current."""
    for release in ("1.0", "2.0"):
        (tmp_path / "opt/releases" / release).mkdir(parents=True)
    (tmp_path / "opt/current").symlink_to("releases/2.0")
    (tmp_path / "opt/previous").symlink_to("releases/1.0")
    return tmp_path / "opt"


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b'{"page": true, "more": 1}', Verdict.WELL),
        (200, b'{"page": false}', Verdict.NO_PAGE),
        (200, b"{}", Verdict.NO_KIOSK),
        (200, b"[]", Verdict.NO_KIOSK),
        (200, b"\xff\xfe", Verdict.NO_KIOSK),
        (500, b'{"page": true}', Verdict.NO_KIOSK),
    ],
)
def test_verdicts_by_the_stages_answer(stage: StageServer, status: int, body: bytes, verdict: Verdict) -> None:
    """Only a page that is there is well; anything that is not the stage's answer is no kiosk."""
    stage.status, stage.body = status, body
    assert ThisBox(stage.url).look() is verdict


def test_nobody_listens() -> None:
    """A closed port is no kiosk."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert ThisBox(f"http://127.0.0.1:{free.getsockname()[1]}").look() is Verdict.NO_KIOSK


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root asks visavis-health instead")
def test_steps_are_what_systemd_is_asked(base: Path, systemctl: Path) -> None:
    """Each step asks for its unit; the previous release is linked before the restart."""
    box = ThisBox("http://127.0.0.1:9", base, (str(systemctl),))
    for step in Step:
        box.take(step)
    assert systemctl.with_name("systemctl.log").read_text().splitlines() == [
        "restart visavis-kiosk.service",
        "restart visavis-display.service",
        "reboot",
        "reboot",
        "start visavis-safe.service",
    ]
    assert (base / "current").resolve().name == "1.0"
    assert box.release() == "1.0"


def test_who_is_not_root_asks(tmp_path: Path, systemctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kiosk's wish is a file, which the watch finds once; a rollback is not to be wished for; without the folder it is one line."""
    box = ThisBox("http://127.0.0.1:9", tmp_path, (str(systemctl),), asks=tmp_path / "ask")
    monkeypatch.setattr(os, "geteuid", lambda: 999)
    with pytest.raises(FirmwareError, match="nobody can be asked for it"):
        box.take(Step.REBOOT)
    (tmp_path / "ask").mkdir()
    box.take(Step.REBOOT)
    with pytest.raises(FirmwareError, match="previous release: only root may"):
        box.take(Step.PREVIOUS_RELEASE)
    (tmp_path / "ask" / "display").mkdir()
    assert box.asked() == (Step.REBOOT,)
    assert box.asked() == ()
    assert not systemctl.with_name("systemctl.log").exists()


def test_a_rollback_is_done_once(base: Path) -> None:
    """After it there is no release to go back to, and asking again is one line."""
    assert releases.has_previous(base)
    assert releases.roll_back(base) == "2.0"
    assert not releases.has_previous(base)
    with pytest.raises(FirmwareError, match="there is no release to go back to"):
        releases.roll_back(base)
    assert (base / "current").resolve().name == "1.0"


@pytest.mark.parametrize("previous", ["releases/2.0", "releases/none", None])
def test_what_is_no_previous_release(base: Path, previous: str | None) -> None:
    """The current release itself, a folder that is gone, or no link."""
    (base / "previous").unlink()
    if previous:
        (base / "previous").symlink_to(previous)
    assert not releases.has_previous(base)


def stage_release(base: Path, name: str, *, program: bool = True) -> None:
    """A release that waits."""
    folder = base / "releases" / name / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    if program:
        (folder / "visavis").write_text("#!/bin/sh\n")
        (folder / "visavis").chmod(0o755)
    (base / "staged").unlink(missing_ok=True)
    (base / "staged").symlink_to(f"releases/{name}")


def test_a_staged_release_becomes_current(base: Path) -> None:
    """The old one is previous, nothing waits any more, and going back leads to it."""
    stage_release(base, "3.0")
    assert releases.switch(base) == "3.0"
    assert ((base / "current").resolve().name, (base / "previous").resolve().name) == ("3.0", "2.0")
    assert not (base / "staged").is_symlink()
    assert releases.roll_back(base) == "3.0"
    assert (base / "current").resolve().name == "2.0"


def test_the_first_release_has_no_previous(tmp_path: Path) -> None:
    """A box without a current release takes the staged one."""
    stage_release(tmp_path, "1.0")
    assert releases.switch(tmp_path) == "1.0"
    assert not releases.has_previous(tmp_path)


def test_the_same_release_again_keeps_the_way_back(base: Path) -> None:
    """Staging what is current changes nothing, least of all `previous`."""
    stage_release(base, "2.0")
    assert releases.switch(base) == "2.0"
    assert (base / "previous").resolve().name == "1.0"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/etc", "which is not in"),
        ("releases/none", "no release is waiting"),
        ("releases/1.0", "has no program bin/visavis"),
        ("releases/3.0", "was left before because the kiosk did not work with it"),
    ],
)
def test_a_release_that_must_not_be_is_one_line(base: Path, target: str, message: str) -> None:
    """Outside the folder, missing, empty, or rolled back before: refused, forgotten, and the current release stays."""
    stage_release(base, "3.0")
    (base / "staged").unlink()
    (base / "staged").symlink_to(target)
    with pytest.raises(FirmwareError, match=message):
        releases.switch(base, refused="3.0")
    assert (base / "current").resolve().name == "2.0"
    assert not (base / "staged").is_symlink()


def test_a_box_without_releases(tmp_path: Path) -> None:
    """Installed from a clone: nothing to go back to, no name."""
    box = ThisBox("http://127.0.0.1:9", tmp_path)
    assert (box.has_previous(), box.release()) == (False, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root asks visavis-health instead")
@pytest.mark.parametrize("program", ["no-such-systemctl", "false"])
def test_a_systemctl_that_fails_is_one_line(program: str) -> None:
    """Missing or failing: a FirmwareError."""
    with pytest.raises(FirmwareError, match="systemctl reboot: "):
        ThisBox("http://127.0.0.1:9", Path("/nowhere"), (program,)).take(Step.REBOOT)


@pytest.mark.system
def test_the_watch_runs_and_stops(tmp_path: Path, stage: StageServer) -> None:
    """The command says READY=1, looks and pings, and ends on SIGTERM with STOPPING=1."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        command = [sys.executable, "-m", "visavis", "firmware", "watch", "--record", str(tmp_path / "ladder.json"), "--url", stage.url]
        with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}) as process:
            assert manager.recv(100) == b"READY=1"
            assert manager.recv(100) == b"WATCHDOG=1\nSTATUS=tried: nothing"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert manager.recv(100) == b"STOPPING=1"


BROKEN = {
    "a typo elsewhere": '[stage]\nport = {port}\n[vidio]\nfps = "many"\npack_path = "none"\n',
    "files nobody may see": '[stage]\nport = {port}\n[fleet]\nbroker = "x"\ndevice = "a"\nca = "/proc/1/no/ca.pem"\n',
}


@pytest.mark.system
@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_the_watch_looks_where_a_broken_kiosk_toml_says(tmp_path: Path, stage: StageServer, text: str) -> None:
    """Only the port is read: what else is wrong in the file is the kiosk's trouble, and the reason to watch it."""
    config = tmp_path / "kiosk.toml"
    config.write_text(text.format(port=stage.server_address[1]))
    first, _ = watched(tmp_path, config)
    assert first == b"READY=1"
    assert stage.asked.is_set()


@pytest.mark.system
def test_the_watch_starts_without_a_readable_kiosk_toml(tmp_path: Path) -> None:
    """No TOML at all: one line, and the usual port."""
    config = tmp_path / "kiosk.toml"
    config.write_text("[stage\nport = 1")
    first, said = watched(tmp_path, config)
    assert first == b"READY=1"
    assert [
        line for line in said.splitlines() if "kiosk.toml: is no valid TOML" in line and line.endswith("port 8088 is taken for the stage's")
    ]
    assert "Traceback" not in said


def watched(tmp_path: Path, config: Path) -> tuple[bytes, str]:
    """What `firmware watch` with this file tells systemd first, and what it says; ended after its first look."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        command = [sys.executable, "-m", "visavis", "firmware", "watch", "--record", str(tmp_path / "ladder.json"), "--config", str(config)]
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
            first = b""
            while process.poll() is None and not first:
                manager.settimeout(1)
                try:
                    first = manager.recv(100)
                    manager.settimeout(60)
                    manager.recv(100)  # it has looked
                except TimeoutError:
                    continue
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
    return first, said
