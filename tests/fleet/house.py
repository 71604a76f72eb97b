"""A grown-up set-up on this machine: a real PostgreSQL, a mosquitto that is not the controllers', and controllers as processes."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from types import SimpleNamespace

from fleet import accounts, inventory, journal
from fleet.accounts import Role
from fleet.authority import Authority
from fleet.broker import Place
from fleet.bundle import bundle, write_bundle
from fleet.database import open_database
from fleet.outside import broker_files
from tests.fleet.support import LIMIT_S, SetTimes
from tests.runtime.telemetry.support import free_port

ROOT = Path(__file__).resolve().parents[2]


class House:
    """`start(NAME)` begins a controller as a process, `kill(NAME)` ends it with SIGKILL; `close` ends all."""

    def __init__(self, folder: Path, url: str, *, names=("a", "b"), crl_url=""):
        self.folder, self.url, self.times = folder, url, SetTimes()
        self.settings = SimpleNamespace(tenant="default", broker_port=free_port(), crl_url=crl_url)
        self.authority = Authority(folder / "a" / "authority", self.times.wall_ms(), crl_url=crl_url)
        self.authority.write_revoked((), self.times.wall_ms())
        for name in names[1:]:  # as docs/fleet.md says: the authority goes to every controller
            shutil.copytree(folder / "a" / "authority", folder / name / "authority")
        self.db = open_database(url)
        self.token = accounts.make_token(self.db, "test", Role.ADMIN, "test", 1, self.times.wall_ms())
        self.broker, self.controllers, self.ports = self._mosquitto(names), {}, {}

    def _mosquitto(self, names):
        """As `visavis fleet broker-files` makes it."""
        folder = self.folder / "mosquitto"
        folder.mkdir()
        place = Place(host="", port=self.settings.broker_port, folder=folder, ca=folder / "ca.pem", revoked=folder / "revoked.pem")
        user = pwd.getpwuid(os.getuid()).pw_name
        made = broker_files(
            self.authority, names=("localhost",), controllers=names, place=place, user=user, tenant="default", days=1,
            now_ms=self.times.wall_ms(),
        )  # fmt: skip
        for name, data in made.items():
            (folder / name).write_bytes(data)
        process = subprocess.Popen(["mosquitto", "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL)
        for _ in range(int(LIMIT_S / 0.05)):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.settings.broker_port), 1):
                return process
            threading.Event().wait(0.05)
        raise AssertionError("mosquitto does not listen")

    def start(self, name: str, broker_port: int = 0) -> None:
        self.ports[name] = free_port()
        broker = f"mqtts://localhost:{broker_port or self.settings.broker_port}"
        command = [
            *(sys.executable, "-m", "tests.fleet.hasty", "fleet", "serve", "--data", self.folder / name, "--port", str(self.ports[name])),
            *("--database", self.url, "--broker", broker, "--controller", name),
            *("--broker-crl", self.folder / "mosquitto" / "revoked.pem"),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
        self.controllers[name] = process
        while "The console:" not in (line := process.stdout.readline()):
            assert line, f"controller {name} ended"

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self.controllers.pop(name)
        process.send_signal(number)
        process.wait(LIMIT_S)
        process.stdout.close()

    def reread(self) -> None:
        """What the broker's admin has arranged for whenever the list of revoked certificates is written."""
        self.broker.send_signal(signal.SIGHUP)

    def api(self, name: str, path: str, body: object = None):
        """Ask controller NAME."""
        with self._ask(name, f"/api/v1{path}", None if body is None else json.dumps(body).encode()) as response:
            return json.load(response)

    def live(self, name: str):
        """Controller NAME's live stream."""
        return self._ask(name, "/api/v1/live")

    def metrics(self, name: str) -> list[str]:
        """What Prometheus would get of controller NAME."""
        with self._ask(name, "/metrics") as response:
            return response.read().decode().splitlines()

    def _ask(self, name, path, data=None):
        url, headers = f"http://127.0.0.1:{self.ports[name]}{path}", {"Authorization": f"Bearer {self.token}"}
        return urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=LIMIT_S)

    def enrol(self, name: str) -> Path:
        """Enrol a box; returns the folder of its bundle."""
        issued = inventory.enrol(self.db, self.authority, name, 30, self.times.wall_ms())
        folder = self.folder / f"{name}-{issued.serial[:6]}"
        write_bundle(bundle(issued, self.authority.pem, f"localhost:{self.settings.broker_port}", "default"), folder)
        return folder

    def until(self, condition):
        """Wait until `condition()` is true, and return it. Processes elsewhere ring no bell here."""
        for _ in range(int(LIMIT_S / 0.1)):
            if found := condition():
                return found
            threading.Event().wait(0.1)
        raise AssertionError(found)

    def state(self, name):
        found = inventory.device(self.db, name)
        return found.state if found else ""

    def codes(self, name):
        return [event.code for event in reversed(journal.events(self.db, device=name, limit=1000))]

    def leader(self):
        """The host and number of who leads, "" for nobody."""
        found = self.db.read("SELECT content FROM memo WHERE name = 'lease.main'")
        return json.loads(found[0][0])["holder"] if found else ""

    def close(self):
        for name in list(self.controllers):
            self.kill(name, signal.SIGTERM)
        self.broker.terminate()
        self.broker.wait(LIMIT_S)
        self.db.close()
