"""The kiosk and its page as separate processes, as in the shop: `visavis run`, and Chromium on the page it serves."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import httpx

from visavis.rehearse.errors import KioskFailed, MissingProgram

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Browser", "Kiosk", "find_chromium", "free_port", "to_toml"]

FACE_LIMIT_S = 90.0
_STOP_S = 5.0
_PATH_KEYS = ("pack_path", "packs_path", "avatar_path", "model", "piper_model", "background")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def free_port() -> int:
    """A TCP port on loopback that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def to_toml(tables: dict[str, Any]) -> str:
    """kiosk.toml of scalars, lists of scalars and one level of tables."""

    def value(item: Any) -> str:
        if isinstance(item, bool):
            return str(item).lower()
        if isinstance(item, (int, float)):
            return repr(item)
        if isinstance(item, list):
            return f"[{', '.join(value(part) for part in item)}]"
        escaped = str(item).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    lines = [f"{key} = {value(item)}" for key, item in tables.items() if not isinstance(item, dict)]
    for name, table in tables.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {value(item)}" for key, item in table.items())]
    return "\n".join(lines) + "\n"


def _settings(base: Path | None, changes: dict[str, Any]) -> dict[str, Any]:
    """kiosk.toml of the store, its paths made absolute, with `changes` laid over it table by table."""
    tables: dict[str, Any] = tomllib.loads(base.read_text(encoding="utf-8")) if base else {}
    for table in (tables, *(part for part in tables.values() if isinstance(part, dict))):
        for key in _PATH_KEYS:
            text = table.get(key)
            if base and isinstance(text, str) and text and (base.parent / text).exists():
                table[key] = str((base.parent / text).resolve())
    for key, change in changes.items():
        tables[key] = tables.get(key, {}) | change if isinstance(change, dict) else change
    return tables


class Kiosk:
    """`visavis run` with a private run directory and a port of its own; a context manager. `log` gets its stderr.

    `probe`: folder for the page's log of drawn frames; with `record` the frames themselves go there too.
    """

    def __init__(
        self,
        folder: Path,
        env: dict[str, str],
        *,
        config: Path | None,
        changes: dict[str, Any],
        probe: Path | None = None,
        record: bool = False,
    ) -> None:
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.timeline = folder / "timeline.jsonl"
        self.log = folder / "kiosk.log"
        self._home = TemporaryDirectory(prefix="vvr-")
        toml = Path(self._home.name) / "kiosk.toml"
        toml.write_text(to_toml(_settings(config, changes | {"stage": changes.get("stage", {}) | {"port": self.port}})), encoding="utf-8")
        command = [sys.executable, "-m", "visavis", "run", "--no-open", "--config", str(toml), "--timeline", str(self.timeline)]
        if probe is not None:
            command += ["--option", f"{'record_frames' if record else 'probe'}={probe}"]
        self._out: TextIO = self.log.open("w", encoding="utf-8")
        # The sockets' directory must be short (a socket's path has 107 bytes) and ours alone, so that the kiosk's is the only one in it.
        self.started_ns = time.monotonic_ns()
        self._process = subprocess.Popen(
            command, env=env | {"XDG_RUNTIME_DIR": self._home.name}, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._out
        )  # fmt: skip

    def __enter__(self) -> Kiosk:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        return self

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise KioskFailed if the kiosk has ended."""
        status = self._process.poll()
        if status is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            raise KioskFailed(f"the kiosk ended with status {status}: {lines[-1] if lines else 'no message'} (whole log: {self.log})")

    def run_dir(self, limit_s: float = FACE_LIMIT_S) -> Path:
        """The directory of its sockets, once it is there."""
        found: Path | None = _until(lambda: next(Path(self._home.name).glob("visavis-*"), None), limit_s, self.check)
        if found is None:
            raise KioskFailed(f"the kiosk made no run directory within {limit_s:.0f} s (see {self.log})")
        return found

    def wait_for_page(self, limit_s: float = FACE_LIMIT_S) -> None:
        """Wait until the stage serves the page. Raises KioskFailed."""

        def answers() -> bool | None:
            try:
                return httpx.get(self.url, timeout=2.0).status_code == 200 or None
            except httpx.HTTPError:
                return None

        if not _until(answers, limit_s, self.check):
            raise KioskFailed(f"no page on {self.url} within {limit_s:.0f} s (see {self.log})")

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._out.close()
        self._home.cleanup()


def _until(look: Any, limit_s: float, check: Any) -> Any:
    deadline = time.monotonic() + limit_s
    while not (found := look()):
        check()
        if time.monotonic() > deadline:
            return None
        threading.Event().wait(0.05)
    return found


def find_chromium() -> str:
    """The browser's program. Raises MissingProgram."""
    for name in _BROWSERS:
        if found := shutil.which(name):
            return found
    raise MissingProgram("chromium is not installed: apt install chromium")


class Browser:
    """Headless Chromium on `url`, without a debugger unless `debug`; a context manager."""

    def __init__(self, url: str, folder: Path, env: dict[str, str], *, debug: bool = False, size: tuple[int, int] = (720, 1280)) -> None:
        program = find_chromium()
        self._profile = TemporaryDirectory(prefix="visavis-page-", ignore_cleanup_errors=True)
        self._log: TextIO = (folder / "chromium.log").open("w", encoding="utf-8")
        flags = [
            "--headless=new", "--disable-gpu", "--no-first-run", f"--window-size={size[0]},{size[1]}",
            f"--user-data-dir={self._profile.name}",
            "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required", "--disable-background-timer-throttling",
            "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--password-store=basic",
            "--force-device-scale-factor=1", "--disable-dev-shm-usage",
        ]  # fmt: skip
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium's sandbox refuses root; tests in a container run as root, a kiosk never does
        if debug:
            flags.append("--remote-debugging-port=0")
        self._process = subprocess.Popen(
            [program, *flags, url], env=env, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True
        )  # fmt: skip

    def __enter__(self) -> Browser:  # noqa: PYI034
        return self

    @property
    def pid(self) -> int:
        """The browser's main process id."""
        return self._process.pid

    @property
    def debugger(self) -> str:
        """host:port of the debugger, "" while it is not there."""
        note = Path(self._profile.name) / "DevToolsActivePort"
        lines = note.read_text().splitlines() if note.exists() else []
        return f"127.0.0.1:{lines[0]}" if lines else ""

    def check(self) -> None:
        """Raise KioskFailed if the browser has ended."""
        if self._process.poll() is not None:
            raise KioskFailed(f"Chromium ended with status {self._process.returncode} (see {self._log.name})")

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._log.close()
        self._profile.cleanup()
