"""The kiosk's own browser."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from kiosk import browser as browsers
from kiosk.browser import BrowserMissing, KioskBrowser, arguments, display, find_chromium
from tests.support.kiosk import House, eventually

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.unit
def test_the_sandbox_is_never_switched_off() -> None:
    """No launcher, unit, policy or page that ships has the flag."""
    shipped = [
        path
        for folder in ("kiosk", "firmware", "provisioning", "runtime")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in {".py", ".js", ".html", ".service", ".sh", ".json", ".toml"}
    ]
    assert shipped
    assert [path for path in shipped if "--no-" + "sandbox" in path.read_text(encoding="utf-8")] == []


@pytest.mark.unit
def test_the_page_names_no_other_host() -> None:
    """No CDN, no font server, no tracker: the page and its scripts mention no address but namespaces."""
    found = {
        address
        for path in (ROOT / "kiosk" / "page").rglob("*")
        if path.is_file()
        for address in re.findall(r"(?:https?|wss?)://[^\s\"'`)]+", path.read_text(encoding="utf-8"))
    }
    assert {address for address in found if "www.w3.org/2000/svg" not in address and "${location.host}" not in address} == set()


@pytest.mark.unit
def test_the_command_line_is_a_kiosks() -> None:
    """Full screen, a profile of its own, the kiosk's address last; Wayland where there is Wayland."""
    line = arguments("/usr/bin/chromium", "http://localhost:8088", Path("/tmp/p"), screen="wayland", extra=("--lang=en",))
    assert line[0] == "/usr/bin/chromium"
    assert line[-1] == "http://localhost:8088/?kiosk=1"
    assert {"--kiosk", "--user-data-dir=/tmp/p", "--ozone-platform=wayland", "--lang=en", "--disable-pinch"} <= set(line)
    assert (display({"WAYLAND_DISPLAY": "w"}), display({"DISPLAY": ":0"}), display({})) == ("wayland", "x11", "")


@pytest.mark.unit
def test_a_missing_browser_is_said_in_one_line(tmp_path: Path) -> None:
    """With what to do about it."""
    with pytest.raises(BrowserMissing, match="install the package chromium"):
        find_chromium({}, lambda _: None)
    with pytest.raises(BrowserMissing, match="does not exist"):
        find_chromium({"VISAVIS_CHROMIUM": str(tmp_path / "none")})
    assert find_chromium({}, lambda name: f"/usr/bin/{name}") == "/usr/bin/chromium"


@pytest.mark.system
def test_the_end_of_a_browser_is_noticed_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started again without waiting for the next look at the page."""
    monkeypatch.setattr(browsers, "_LOOK_S", 3600.0)
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\nexec sleep 3600\n")
    program.chmod(0o755)
    with KioskBrowser("http://localhost:1", chromium=str(program)) as browser:
        first = eventually(lambda: browser.pid, "it runs")
        os.kill(first, signal.SIGKILL)
        eventually(lambda: browser.pid not in (None, first), "it runs again")
        assert browser.starts == 2


@pytest.mark.system
def test_a_browser_that_was_killed_comes_back(house: House, chromium: str) -> None:
    """The page is open, then gone with its browser, then open again; the profile of the dead one is gone too."""
    with KioskBrowser(house.url, chromium=chromium, extra=("--headless=new", "--no-" + "sandbox")) as browser:
        eventually(lambda: house.alive()["beats"] > 0, "the page is open")
        before = browser._profile
        assert browser.pid
        os.killpg(browser.pid, signal.SIGKILL)
        eventually(lambda: house.alive()["pages"] >= 2 and house.alive()["beats"] > 0, "the page is open again")
        assert browser.starts == 2
        assert before is not None
        assert not before.exists()
    assert browser.pid is None
