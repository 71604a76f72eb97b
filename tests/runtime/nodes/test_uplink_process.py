"""The uplink as a process under the real supervisor: killed, restarted, and restarting others."""

from __future__ import annotations

import os
import secrets
import select
import signal
import threading
import time

import msgspec
import pytest

import runtime.telemetry as t
from runtime.messages import NodeState
from runtime.supervisor import Supervisor
from runtime.telemetry.times import SystemTimes
from runtime.topology import Node, node
from tests.runtime.telemetry.support import Broker, Controller, Party

pytestmark = pytest.mark.system

VOICE = Node("voice", "tests.support.nodes.well", cpu_pct=1, pss_mb=50, beat_s=0.2)
UPLINK = msgspec.structs.replace(node("uplink"), module="tests.support.nodes.quick_uplink")


class Kiosk:
    """A supervisor with the real uplink, the real health and a voice that only beats."""

    def __init__(self, tmp_path, broker, party):
        certificate, key = party.sign("box-1")
        config = tmp_path / "kiosk.toml"
        lines = [
            "[fleet]",
            f'broker = "localhost:{broker.port}"',
            'device = "box-1"',
            f'ca = "{party.ca}"',
            f'certificate = "{certificate}"',
            f'key = "{key}"',
            "health_s = 5",
            'outbox_path = "outbox"',
        ]
        config.write_text("\n".join(lines))
        run_dir = tmp_path / "run"
        run_dir.mkdir(mode=0o700)
        self.supervisor = Supervisor(config, nodes=(UPLINK, node("health"), VOICE), run_dir=run_dir)
        self.thread = threading.Thread(target=self.supervisor.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.supervisor.stop()
        self.thread.join()

    def state(self, name, wanted, restarts=0):
        """Wait for a node's state; returns its pid."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            life = self.supervisor.lives[name]
            if life.state is wanted and life.restarts >= restarts:
                return self.supervisor.pid(name)
            select.select([], [], [], 0.02)
        raise AssertionError(self.supervisor.lives[name])


def ask(controller, name, **args):
    """A command and its answer; asked again until the box, which may just have been killed, answers."""
    now = SystemTimes().wall_ms()
    command = t.Command(id=secrets.token_hex(8), name=name, issued=now, expires=now + 120_000, args=args)
    controller.send("default", "box-1", t.DownKind.COMMAND, command, expiry=120)
    controller.wait(lambda c: command.id in c.answers, 60)
    return controller.answers[command.id]


def codes(controller):
    return [(body.code, body.names.get("node")) for _, body in controller.rows.values() if isinstance(body, t.EventBody)]


def test_killed_and_restarted(tmp_path):
    """SIGKILL of the uplink: it comes back, tells that it was down, and obeys; the kiosk is born once. Other nodes restart when asked."""
    party = Party(tmp_path / "ca")
    broker = Broker(tmp_path / "broker", party)
    controller = Controller(broker)
    with Kiosk(tmp_path, broker, party) as kiosk:
        kiosk.state("voice", NodeState.READY)
        controller.wait(lambda c: c.status and c.status[-1][0] == "online", 60)
        first = kiosk.state("uplink", NodeState.READY)
        assert ask(controller, "ping").outcome is t.Outcome.DONE
        os.kill(first, signal.SIGKILL)
        kiosk.state("uplink", NodeState.READY, restarts=1)
        assert ask(controller, "ping").outcome is t.Outcome.DONE
        before = kiosk.state("voice", NodeState.READY)
        assert ask(controller, "log_level", level="debug").outcome is t.Outcome.DONE
        assert kiosk.supervisor.pid("voice") == before
        assert ask(controller, "restart_node", node="voice").outcome is t.Outcome.DONE
        assert kiosk.state("voice", NodeState.READY, restarts=1) != before
        controller.wait(lambda c: ("node_ready", "voice") in codes(c), 60)
        assert ask(controller, "restart_node", node="uplink").outcome is t.Outcome.DONE
        kiosk.state("uplink", NodeState.READY, restarts=2)
        seen = 0
        for _ in range(60):  # the health node writes what diagnostics reads, every five seconds
            seen = ask(controller, "diagnostics").result["report"]["nodes"]["voice"]["restarts"]
            if seen:
                break
            select.select([], [], [], 0.5)
        assert seen == 1
        assert codes(controller).count(("kiosk_started", None)) == 1
    controller.wait(lambda c: c.status[-1] == ("offline", False), 60)
    controller.close()
    broker.kill()


def test_no_event_is_lost_when_the_uplink_is_killed_again_and_again(tmp_path):
    """A node is restarted while the uplink is killed five times: each restart that the uplink kept is told, none twice."""
    party = Party(tmp_path / "ca")
    broker = Broker(tmp_path / "broker", party)
    controller = Controller(broker)
    with Kiosk(tmp_path, broker, party) as kiosk:
        kiosk.state("voice", NodeState.READY)
        for life in range(4):
            kiosk.state("uplink", NodeState.READY, restarts=life)
            controller.wait(lambda c, lives=life: sum(isinstance(body, t.Birth) for _, body in c.rows.values()) > lives, 60)
            os.kill(kiosk.state("voice", NodeState.READY), signal.SIGKILL)
            controller.wait(
                lambda c, lives=life: any(
                    isinstance(body, t.EventBody) and body.code == "node_down" and body.numbers.get("restarts") == lives + 1
                    for _, body in c.rows.values()
                ),
                60,
            )
            os.kill(kiosk.supervisor.pid("uplink"), signal.SIGKILL)
            kiosk.state("uplink", NodeState.READY, restarts=life + 1)
            kiosk.state("voice", NodeState.READY, restarts=life + 1)
        downs = [
            body.numbers["restarts"]
            for _, body in controller.rows.values()
            if isinstance(body, t.EventBody) and body.code == "node_down" and body.names["node"] == "voice"
        ]
        assert sorted(downs) == [1, 2, 3, 4]
    controller.close()
    broker.kill()
