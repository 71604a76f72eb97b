"""What stands around the kiosk and can break too: the fleet's broker, and the browser that shows the page."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from kiosk.browser import BrowserMissing, KioskBrowser, find_chromium
from visavis._processes import tree
from visavis.chaos.campaign import Hit
from visavis.chaos.house import House
from visavis.rehearse.errors import MissingProgram
from visavis.rehearse.kiosk import free_port

__all__ = ["Broker", "Screen", "why_no_broker", "why_no_browser"]

_DEVICE = "chaos-box"
_AWAY_S = 3.0
_LIMIT_S = 30.0
_LOOK_S = 0.02
_FRAMES = 3
"""At most two frames are under way unconfirmed, so the third that is sent says that the page has taken the first."""


# --- the broker -----------------------------------------------------------------------------------------------------------


def why_no_broker() -> str:
    """What is missing for a broker, "" if nothing is."""
    absent = [name for name in ("mosquitto", "openssl") if shutil.which(name, path=_search_path()) is None]
    return f"not installed: {' and '.join(absent)}" if absent else ""


def _search_path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


class Broker:
    """A mosquitto with mutual TLS in `folder`, and the `[fleet]` table of a box that may speak to it. A context manager.

    Raises MissingProgram.
    """

    def __init__(self, folder: Path) -> None:
        if why := why_no_broker():
            raise MissingProgram(f"no broker: {why}")
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True)
        self._certificates()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\ncafile {folder}/ca.pem\ncertfile {folder}/localhost.pem\nkeyfile {folder}/localhost.key\n"
            f"require_certificate true\nuse_identity_as_username true\nallow_anonymous false\nlog_dest stderr\n"
            + ("user root\n" if os.geteuid() == 0 else "")
        )
        self._log = (folder / "log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None
        self.fleet: dict[str, Any] = {
            "broker": f"localhost:{self.port}", "device": _DEVICE, "ca": str(folder / "ca.pem"),
            "certificate": str(folder / f"{_DEVICE}.pem"), "key": str(folder / f"{_DEVICE}.key"),
        }  # fmt: skip

    def _certificates(self) -> None:
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        self._openssl("req", "-x509", *curve, "-subj", "/CN=chaos CA", "-keyout", "ca.key", "-out", "ca.pem")
        for name in ("localhost", _DEVICE):
            self._openssl("req", *curve[:-2], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
            (self.folder / "names").write_text(f"subjectAltName=DNS:{name}\n")
            self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                          "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def __enter__(self) -> Broker:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        self.start()
        return self

    def start(self) -> None:
        """Start, and wait until it listens."""
        program = shutil.which("mosquitto", path=_search_path()) or "mosquitto"
        self._process = subprocess.Popen([program, "-c", str(self._config)], stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + _LIMIT_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise MissingProgram(f"mosquitto does not listen (see {self.folder}/log)")
            threading.Event().wait(0.05)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def joined(self) -> int:
        """How often the box has connected so far."""
        return (self.folder / "log").read_text(errors="replace").count(f" as {_DEVICE}")

    def away(self, _house: House, _target: str, _rng: random.Random) -> str:
        """The fault: killed, and started again a moment later. The box comes back in its own time, minutes at most."""
        self.kill()
        threading.Event().wait(_AWAY_S)
        self.start()
        return f"away for {_AWAY_S:.0f} s"

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._log.close()


# --- the browser ----------------------------------------------------------------------------------------------------------


def why_no_browser() -> str:
    """What is missing for a browser, "" if nothing is."""
    try:
        find_chromium()
    except BrowserMissing as missing:
        return str(missing)
    return ""


class Screen:
    """The kiosk's own browser and its watcher, as `visavis screen` runs it, but headless."""

    def __init__(self, house: House) -> None:
        self._house = house

    def kill(self) -> Hit:
        """Open the page in Chromium, kill it with SIGKILL, and see how long the new page takes to have a face."""
        result = Hit("browser", note="Chromium, headless")
        with self._open() as browser:
            if not self._face(0):
                result.hang = "Chromium showed no face"
                return result
            pages, pid = int(self._alive().get("pages", 0)), browser.pid
            assert pid is not None
            began = time.monotonic()
            for one in reversed(tree(pid)):
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            if self._face(pages):
                result.face_back_s = result.recovery_s = round(time.monotonic() - began, 2)
            else:
                result.hang = "the browser did not come back with a face"
        return result

    @contextmanager
    def _open(self) -> Iterator[KioskBrowser]:
        extra = ["--headless=new", "--disable-gpu"]
        if os.geteuid() == 0:
            extra.append("--no-sandbox")  # Chromium's sandbox refuses root; a kiosk never runs as root
        self._house.page.away()
        try:
            with KioskBrowser(self._house.kiosk.url, extra=extra) as browser:
                yield browser
        finally:
            since = self._house.seen.mark()
            self._house.page.back()
            self._house.seen.wait("page frame", since=since, limit_s=self._house.limit_s)

    def _face(self, pages: int) -> bool:
        """Wait for a page that came after the first `pages`, and for frames that it has taken."""
        deadline, sent = time.monotonic() + self._house.limit_s, None
        while time.monotonic() < deadline:
            alive = self._alive()
            if alive.get("page") and int(alive.get("pages", 0)) > pages and alive.get("beats") is not None:
                frames = int(alive["video"]["sent"])
                sent = frames if sent is None else sent
                if frames >= sent + _FRAMES:
                    return True
            threading.Event().wait(_LOOK_S)
        return False

    def _alive(self) -> dict[str, Any]:
        try:
            found = httpx.get(f"{self._house.kiosk.url}/alive", timeout=2.0).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return dict(found)
