"""The fleet gives a kiosk another experience pack: real processes, a real mosquitto, the page without a browser."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime.telemetry as t
from runtime import messages as m
from runtime import topology
from runtime.telemetry.times import SystemTimes
from tests.runtime.telemetry.support import Broker, Controller, Party
from tests.support.running import ROOT, Kiosk

pytestmark = [pytest.mark.system, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")]

PAY = "How can I pay?"
CHANGED = [row.name for row in topology.NODES if row.pack is topology.PackUse.START]


class Shop:
    """A folder with two packs and a box's kiosk.toml, and a fleet that this box belongs to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.coffee, self.tea = folder / "packs" / "coffee-bar", folder / "packs" / "tea-bar"
        shutil.copytree(ROOT / "kiosk" / "packs" / "coffee-bar", self.coffee)
        self.brew()
        party = Party(folder / "ca")
        self.broker = Broker(folder / "broker", party)
        self.controller = Controller(self.broker)
        certificate, key = party.sign("box-1")
        self.config = (
            f'pack_path = "packs/coffee-bar"\n[voice]\nrate = 1.6\n[fleet]\nbroker = "localhost:{self.broker.port}"\ndevice = "box-1"\n'
            f'ca = "{party.ca}"\ncertificate = "{certificate}"\nkey = "{key}"\nhealth_s = 5\noutbox_path = "fleet"\n'
        )

    def brew(self) -> None:
        """A small pack: no tools, one fact, a name and a colour of its own."""
        (self.tea / "knowledge").mkdir(parents=True, exist_ok=True)
        text = (self.coffee / "pack.toml").read_text()
        text = text.replace('title = "Alder & Finch"', 'title = "Tea and Leaf"').replace("#e9e4da", "#203040")
        (self.tea / "pack.toml").write_text(text)
        (self.tea / "knowledge" / "facts.md").write_text(f"## {PAY}\nWith tea leaves only.\n")

    def command(self, name: str, **args: Any) -> str:
        """Send a command; its id."""
        now = SystemTimes().wall_ms()
        command = t.Command(id=secrets.token_hex(8), name=name, issued=now, expires=now + 300_000, args=args)
        self.controller.send("default", "box-1", t.DownKind.COMMAND, command, expiry=300)
        return command.id

    def answer(self, id_: str) -> t.Answer:
        """The answer to a command."""
        self.controller.wait(lambda c: id_ in c.answers)
        return self.controller.answers[id_]

    def heard(self, kind: type, wanted: Callable[[Any], bool]) -> Any:
        """The first body of this kind that is `wanted`."""

        def found(controller: Controller) -> list[Any]:
            return [body for _, body in controller.rows.values() if isinstance(body, kind) and wanted(body)]

        self.controller.wait(found)
        return found(self.controller)[0]

    def codes(self) -> list[str]:
        """The events so far."""
        return [body.code for _, body in self.controller.rows.values() if isinstance(body, t.EventBody)]

    def close(self) -> None:
        """End the fleet."""
        self.controller.close()
        self.broker.kill()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """The shop of one test."""
    made = Shop(tmp_path)
    yield made
    made.close()


def told(kiosk: Kiosk, since: int, wanted: Callable[[m.PackServes], bool], why: str) -> m.PackServes:
    """The supervisor's word about the pack."""
    found: m.PackServes = kiosk.seen.wait("bus pack", wanted, since=since, why=why)
    return found


def asked(kiosk: Kiosk, word: str) -> None:
    """A question is answered with this word, to its end."""
    since = kiosk.seen.mark()
    kiosk.ask(PAY)
    assert word in kiosk.finished(since).text


def leave(kiosk: Kiosk) -> None:
    """The visitor goes."""
    since = kiosk.seen.mark()
    kiosk.page.input("start_over")
    kiosk.seen.wait("bus floor", lambda floor: floor.session is m.Session.ATTRACT, since=since, why="the visit is over")


def test_a_pack_is_changed_while_the_kiosk_runs(shop: Shop) -> None:
    """The visitor is served to the end; then only the nodes that read the pack start anew; face and page stay. It survives a restart."""
    with Kiosk(shop.folder, shop.config) as kiosk:
        assert shop.heard(t.Birth, lambda birth: birth.pack == "coffee-bar").packs == ("coffee-bar", "tea-bar")
        before = kiosk.nodes()
        asked(kiosk, "cash")
        since = kiosk.seen.mark()
        command = shop.command("switch_pack", pack="tea-bar")
        told(kiosk, since, lambda pack: pack.phase is m.PackPhase.WAITS, "it waits for the visitor")
        asked(kiosk, "cash")  # as long as they like
        assert kiosk.nodes() == before
        assert command not in shop.controller.answers
        leave(kiosk)
        begun = kiosk.seen.mark()
        told(kiosk, since, lambda pack: pack.pack == str(shop.tea) and pack.phase is m.PackPhase.SERVES, "the other pack serves")
        assert kiosk.seen.all("page frame", begun), "no frame was drawn meanwhile"
        answer = shop.answer(command)
        assert (answer.outcome, answer.reason, answer.result) == (t.Outcome.DONE, "", {"pack": "tea-bar"})
        dressed = kiosk.seen.wait("page pack", since=since, why="the page has the other brand")
        assert dressed["brand"]["title"] == "Tea and Leaf"
        after = kiosk.nodes()
        assert [name for name in before if before[name] != after[name]] == [name for name in before if name in CHANGED]
        assert kiosk.seen.all("page closed", since) == []
        asked(kiosk, "tea leaves")
        shop.heard(t.Birth, lambda birth: birth.pack == "tea-bar")
        shop.heard(t.Reported, lambda reported: reported.reported["pack"] == "tea-bar")
        assert "pack_changed" in shop.codes()
        assert {"node_down", "node_ready", "node_given_up"}.isdisjoint(shop.codes())
        assert kiosk.stop() == 0
    with Kiosk(shop.folder, shop.config) as kiosk:
        asked(kiosk, "tea leaves")


def test_who_comes_in_between_is_answered(shop: Shop) -> None:
    """A question while the nodes start anew, one after another: it is answered out of one pack or the other, and the change is finished."""
    with Kiosk(shop.folder, shop.config) as kiosk:
        shop.heard(t.Birth, lambda birth: birth.pack == "coffee-bar")
        since = kiosk.seen.mark()
        command = shop.command("switch_pack", pack="tea-bar")
        told(kiosk, since, lambda pack: pack.phase is m.PackPhase.CHANGES, "nodes start anew")
        kiosk.page.type(PAY)
        kiosk.seen.wait(
            "bus heard",
            lambda heard: heard.kind is m.HeardKind.FINISHED and ("cash" in heard.text or "tea leaves" in heard.text),
            since=since,
            why="the question is answered",
        )
        assert shop.answer(command).outcome is t.Outcome.DONE
        asked(kiosk, "tea leaves")


def test_a_pack_that_does_not_come_up_is_taken_back(shop: Shop) -> None:
    """It is damaged while the box waits for the visitor to go: the old one returns, and the fleet is told what was wrong with the new."""
    with Kiosk(shop.folder, shop.config) as kiosk:
        shop.heard(t.Birth, lambda birth: birth.pack == "coffee-bar")
        asked(kiosk, "cash")
        since = kiosk.seen.mark()
        command = shop.command("switch_pack", pack="tea-bar")
        told(kiosk, since, lambda pack: pack.phase is m.PackPhase.WAITS, "it waits for the visitor")
        (shop.tea / "pack.toml").write_text('name = "Tea')
        leave(kiosk)
        told(kiosk, since, lambda pack: pack.phase is m.PackPhase.RETURNS, "it goes back")
        back = told(kiosk, since, lambda pack: bool(pack.reason) and pack.phase is m.PackPhase.SERVES, "the old pack serves")
        assert back.pack == str(shop.coffee)
        answer = shop.answer(command)
        assert answer.outcome is t.Outcome.FAILED
        assert "does not run with it" in answer.reason
        assert "pack.toml: is no valid TOML" in answer.reason
        asked(kiosk, "cash")
        assert kiosk.seen.all("page closed", since) == []
        assert "pack_refused" in shop.codes()
        assert shop.answer(shop.command("switch_pack", pack="tea-bar")).outcome is t.Outcome.REFUSED  # it is looked at first
        missing = shop.answer(shop.command("switch_pack", pack="juice-bar"))
        assert (missing.outcome, missing.reason) == (t.Outcome.REFUSED, "it is not installed; this box has coffee-bar, tea-bar")
        leave(kiosk)
        shop.brew()
        since = kiosk.seen.mark()
        wish = t.Shadow(version=1, desired={"pack": "tea-bar"})
        shop.controller.send("default", "box-1", t.DownKind.SHADOW, wish)
        reported = shop.heard(t.Reported, lambda reported: reported.version == 1)  # told once it is so, and not before
        assert (reported.reported["pack"], reported.refused) == ("tea-bar", {})
        asked(kiosk, "tea leaves")
        held = shop.answer(shop.command("switch_pack", pack="coffee-bar"))
        assert (held.outcome, "tea-bar" in held.reason) == (t.Outcome.REFUSED, True)
        leave(kiosk)
        shop.controller.send("default", "box-1", t.DownKind.SHADOW, t.Shadow(version=2, desired={}))
        reported = shop.heard(t.Reported, lambda reported: reported.version == 2)
        assert (reported.reported["pack"], reported.refused) == ("coffee-bar", {})
        asked(kiosk, "cash")
