"""The processes of `visavis bench fleet`: controller with its broker, simulator, real uplinks. Started, killed, started again, ended."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec

from fleet import accounts, inventory
from fleet.authority import Authority
from fleet.bundle import bundle, write_bundle
from fleet.database import Database, open_database
from runtime.telemetry.times import SystemTimes
from visavis import _processes
from visavis.bench.report import BenchError
from visavis.simulate.crowd import Seen

__all__ = ["Controller", "Simulator", "Uplink", "wait_for"]

_START_S = 60.0
_STOP_S = 150.0
_FINISH_S = 450.0


def wait_for(what: str, condition: Callable[[], object], limit_s: float, every_s: float = 0.1) -> None:
    """Look again and again. Raises BenchError after `limit_s`."""
    pause, times = threading.Event(), SystemTimes()
    end = times.mono_ms() + round(limit_s * 1000)
    while not condition():
        if times.mono_ms() > end:
            raise BenchError(f"fleet: {what} did not come about within {limit_s:.0f} s")
        pause.wait(every_s)


def spawn(command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
    """A child that ends when we do, however we end (util-linux' setpriv has the kernel see to it)."""
    tether = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    return subprocess.Popen([*tether, *command], stdin=subprocess.DEVNULL, **streams)


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Controller:
    """`visavis fleet serve` in `folder`, with its mosquitto, on ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kills = folder, 0
        self.broker_port, self.port = free_port(), free_port()
        self._log = (folder.parent / "controller.log").open("ab")
        self._process = self._spawn()
        self._cpu = {"controller": 0.0, "broker": 0.0}
        self._ready()
        self.db: Database = open_database(folder / "fleet.db")
        self.authority = Authority(folder / "authority", SystemTimes().wall_ms())
        self.token = accounts.make_token(self.db, "benchmark", accounts.Role.ADMIN, "benchmark", 1, SystemTimes().wall_ms())

    @property
    def url(self) -> str:
        """Of the console."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the controller."""
        return self._process.pid

    @property
    def broker(self) -> int:
        """The process of mosquitto; 0 while there is none."""
        with suppress(OSError):
            for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
                if _processes.name_of(int(word)) == "mosquitto":
                    return int(word)
        return 0

    def kill_broker(self) -> None:
        """SIGKILL; the controller starts another one."""
        before = self.broker
        if before:
            self._cpu["broker"] += _processes.cpu_s(before)
            os.kill(before, signal.SIGKILL)
            wait_for("a new broker", lambda: self.broker not in (0, before), _START_S)

    def kill(self) -> None:
        """SIGKILL to the controller, which takes the broker along; then it is started again, as systemd would."""
        self._cpu["broker"] += _processes.cpu_s(self.broker)
        self._cpu["controller"] += _processes.cpu_s(self.pid)
        self._process.kill()
        self._process.wait()
        self._process = self._spawn()
        self._ready()

    def cpu_s(self) -> dict[str, float]:
        """Seconds of CPU that controller and broker took so far, in all their lives."""
        return {
            "controller": self._cpu["controller"] + _processes.cpu_s(self.pid),
            "broker": self._cpu["broker"] + _processes.cpu_s(self.broker),
        }

    def stop(self) -> None:
        """End in order."""
        self.db.close()
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        finally:
            self._process.kill()
            self._log.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "visavis", "fleet", "serve", "--data", str(self.folder), "--broker-host", "127.0.0.1"]
        command += ["--broker-port", str(self.broker_port), "--port", str(self.port), "--name", "localhost"]
        return spawn(command, stdout=self._log, stderr=self._log)

    def _ready(self) -> None:
        def listens() -> bool:
            if self._process.poll() is not None:
                raise BenchError(f"fleet: the controller ended: see {self._log.name}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait_for("the controller", listens, _START_S)


class Simulator:
    """`visavis fleet simulate`; `seen` is what it said last."""

    def __init__(self, controller: Controller, ledger: Path, *, devices: int, health_s: float, faults: str, seed: int) -> None:
        command = [sys.executable, "-m", "visavis", "fleet", "simulate", "--devices", str(devices), "--data", str(controller.folder)]
        command += ["--broker", f"localhost:{controller.broker_port}", "--health-s", str(health_s), "--faults", faults]
        command += ["--seed", str(seed), "--ledger", str(ledger), "--every-s", "0.5"]
        self.seen = Seen(ms=0, devices=devices, connected=0, waiting=0, counts={})
        self._process = spawn(command, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def complete(self) -> bool:
        """Whether all boxes are connected."""
        self.check()
        return self.seen.connected == self.seen.devices

    def check(self) -> None:
        """Raise BenchError if it ended."""
        if self._process.poll() is not None:
            raise BenchError(f"fleet: the simulator ended with status {self._process.returncode}")

    def finish(self) -> None:
        """Nothing new is made; returns when what waited has arrived, or seven minutes have passed."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(_FINISH_S)
        self._reader.join(5)

    def close(self) -> None:
        """End it however it is."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(msgspec.MsgspecError):
                self.seen = msgspec.json.decode(line, type=Seen)


class Uplink:
    """A real uplink (`_fleet_uplink`) with its outbox in `folder`."""

    def __init__(self, controller: Controller, folder: Path, name: str) -> None:
        self.name, self.ledger, self.kills = name, folder / "ledger", 0
        now = SystemTimes().wall_ms()
        issued = inventory.enrol(controller.db, controller.authority, name, 1, now)
        write_bundle(bundle(issued, controller.authority.pem, f"localhost:{controller.broker_port}", "default"), folder)
        self._config = folder / "kiosk.toml"
        self._config.write_text((folder / "fleet.toml").read_text() + 'outbox_path = "outbox"\n')
        self._log = (folder / "log").open("ab")
        self._process = self._spawn()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and a new life."""
        self.end()
        self.kills += 1
        self._process = self._spawn()

    def end(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def quieten(self) -> None:
        """Make nothing new. Waits until this life listens: before, the signal would end it."""
        wait_for(f"the start of {self.name}", lambda: self._lives() > self.kills, _START_S)
        self._process.send_signal(signal.SIGUSR1)

    def _lives(self) -> int:
        return self.ledger.read_bytes().count(b"life\n") if self.ledger.exists() else 0

    def close(self) -> None:
        """End it in order, or by force."""
        with ExitStack() as stack:
            stack.callback(self._log.close)
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.end()

    def kept(self) -> list[int]:
        """Numbers of the events that its outbox took."""
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [int(line.split()[1]) for line in lines if " " in line]

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "visavis.bench._fleet_uplink", str(self._config), str(self.ledger)]
        return spawn(command, stdout=self._log, stderr=self._log)
