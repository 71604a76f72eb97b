"""The kiosk's own browser: finds Chromium, opens the page full screen, opens it again when it is gone or stuck.

The sandbox stays on: a flag that turns it off exists for test machines only, and a test proves that nothing shipped here has it.
What flags cannot do (permissions, blocked addresses, no developer tools) is in the managed policy that provisioning installs.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["BrowserMissing", "KioskBrowser", "arguments", "display", "find_chromium"]

log = logging.getLogger("browser")

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_LOOK_S = 2.0
_NOTICE_S = 0.1
"""A browser that ended is noticed within this: its visitor looks at a dark screen."""
_LIVES_S = 2.0
START_LIMIT_S = 30.0
"""A browser that shows no page by then is started again; a cold one takes about a second."""
LOST_LIMIT_S = 10.0
"""So long a page that was there may be away: the stage reloads it by itself, which takes a second or two."""
_STOP_S = 3.0
_ALWAYS = (
    "--no-first-run",
    "--no-default-browser-check",
    "--noerrdialogs",
    "--hide-crash-restore-bubble",
    "--disable-session-crashed-bubble",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-pinch",
    "--overscroll-history-navigation=0",
    "--password-store=basic",
    # Allowed by policy on a provisioned box; on a desk there is none, and a kiosk has nobody to press "Allow".
    "--autoplay-policy=no-user-gesture-required",
    "--auto-accept-camera-and-microphone-capture",
)


class BrowserMissing(Exception):
    """There is no Chromium; the text says what to do."""


def find_chromium(environ: Mapping[str, str] = os.environ, which: Callable[[str], str | None] = shutil.which) -> str:
    """The path of Chromium: VISAVIS_CHROMIUM, or the first that is installed.

    Raises BrowserMissing.
    """
    named = environ.get("VISAVIS_CHROMIUM", "")
    if named:
        if not Path(named).is_file():
            raise BrowserMissing(f"VISAVIS_CHROMIUM names {named}, which does not exist")
        return named
    for name in _NAMES:
        found = which(name)
        if found:
            return found
    raise BrowserMissing("no Chromium found: install the package chromium, or set VISAVIS_CHROMIUM to its path")


def display(environ: Mapping[str, str] = os.environ) -> str:
    """`wayland`, `x11`, or "" where there is no screen to open a window on."""
    if environ.get("WAYLAND_DISPLAY"):
        return "wayland"
    return "x11" if environ.get("DISPLAY") else ""


def arguments(chromium: str, url: str, profile: Path, *, screen: str = "", extra: Sequence[str] = ()) -> list[str]:
    """The command line of a full-screen browser on the page at `url`; `extra` are more flags (a test's --headless=new)."""
    window = ["--ozone-platform=wayland"] if screen == "wayland" else []
    return [chromium, f"--user-data-dir={profile}", *_ALWAYS, "--kiosk", *window, *extra, f"{url.rstrip('/')}/?kiosk=1"]


class KioskBrowser:
    """Keeps one Chromium on the page of the stage at `url`; a thread of its own watches. Use as a context manager.

    The profile is a fresh directory under $TMPDIR (a tmpfs on the box) and goes with each life of the browser: nothing of a visit stays.
    """

    def __init__(
        self,
        url: str,
        *,
        chromium: str | None = None,
        extra: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._url = url
        self._chromium = chromium or find_chromium(environ)
        self._screen, self._extra = display(environ), tuple(extra)
        self._environ = dict(environ)
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._profile: Path | None = None
        self._thread = threading.Thread(target=self._run, name="browser", daemon=True)
        self._brief = 0  # lives in a row that ended at once
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """The browser's process id while it runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> KioskBrowser:  # noqa: PYI034
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._start()
                self._watch()
                self._stop()
        finally:
            self._stop()

    def _start(self) -> None:
        self.starts += 1
        self._profile = Path(tempfile.mkdtemp(prefix="visavis-browser-"))
        command = arguments(self._chromium, self._url, self._profile, screen=self._screen, extra=self._extra)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environ,
            start_new_session=True,
        )

    def _watch(self) -> None:
        """Until the browser should be started anew."""
        absent_s, limit_s = 0.0, START_LIMIT_S
        looks = round(_LOOK_S / _NOTICE_S)
        for count in itertools.count(1):
            if self._stopping.wait(_NOTICE_S):
                return
            assert self._process is not None
            if self._process.poll() is not None:
                log.warning("the browser ended with status %s, starting it again", self._process.returncode)
                self._brief = self._brief + 1 if count * _NOTICE_S < _LIVES_S else 0
                if self._brief > 1:  # it cannot even start: not ten times a second
                    self._stopping.wait(_LIVES_S)
                return
            if count % looks:
                continue
            if self._page_is_there():
                absent_s, limit_s = 0.0, LOST_LIMIT_S
            else:
                absent_s += _LOOK_S
            if absent_s > limit_s:
                log.warning("the browser shows no page for %d s, starting it again", round(absent_s))
                return

    def _page_is_there(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url.rstrip('/')}/alive", timeout=_LOOK_S) as answer:  # noqa: S310 - our own loopback address
                return bool(json.load(answer)["page"])
        except (urllib.error.URLError, TimeoutError, ValueError):
            return True  # the stage itself is away: the page waits for it, and a restart of the browser would not help

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._profile:
            shutil.rmtree(self._profile, ignore_errors=True)
            self._profile = None
