"""The lever of the experience pack: what a command is answered, what a setting reports, what is kept."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

import runtime.telemetry as t
from runtime.bus import LinkError
from runtime.changeover import WAITED
from runtime.config import Config, load
from runtime.messages import PackPhase, PackServes
from runtime.packchoice import Choice, fleet_folder, keep_choice, kept_choice
from runtime.telemetry.levers import Levers
from runtime.telemetry.packchange import WAIT_S, PackChange
from runtime.telemetry.page import Page
from tests.support.harness import LIMIT_S

ALL = frozenset(t.Duty)


class Uplink:
    """The lever among the page's, and a supervisor that does what the test says."""

    def __init__(self, folder, *, serving=""):
        for name in ("coffee-bar", "tea-bar", "juice-bar"):
            if not (folder / "packs" / name).exists():
                shutil.copytree(Config().pack_path, folder / "packs" / name)
        (folder / "kiosk.toml").write_text(
            'pack_path = "packs/coffee-bar"\n[fleet]\nbroker = "localhost"\ndevice = "box-1"\noutbox_path = "fleet"\n'
        )
        self.config = load(folder / "kiosk.toml")
        self.packs, self.now = folder / "packs", 1_000_000_000
        self.there, self.wishes, self.events = True, [], []
        self.asked, self.ended = asyncio.Event(), asyncio.Event()
        self.page = Page(lambda _: None, lambda: 1, volume=1.0, languages=("en-GB",))
        self.change = PackChange(
            self.config,
            self.packs / (serving or "coffee-bar"),
            send=self._send,
            now_ns=self._clock,
            serves=lambda pack: self.levers.renew(self.page.speak(pack.languages)),
            ended=self._ended,
            missed=lambda name: self.levers.missed("pack", name),
            event=lambda code, cause: self.events.append((code, cause)),
            by_setting=lambda: self.levers.names("pack"),
        )
        chosen = self.change.commanded()
        self.levers = Levers({**self.page.levers(), "pack": self.change.lever()}, ALL, {"pack": chosen} if chosen else {})
        self.desired, self.reports = {}, []

    def _clock(self):
        self.now += 1
        return self.now

    def _send(self, wish):
        if not self.there:
            raise LinkError("the receiver has exited")
        self.wishes.append(wish)
        self.asked.set()

    def apply(self, **desired):
        """Set what is wanted, or the same again; the pack as reported and why it is not the wanted."""
        self.desired = desired or self.desired
        reported, refused = self.levers.apply(self.desired)
        return reported["pack"], refused.get("pack", "")

    def command(self, name):
        """The task of a command."""
        return asyncio.ensure_future(self.change.switch(name, lambda wanted: self.levers.set("pack", wanted)))

    async def wish(self):
        """The newest wish that the supervisor has heard of."""
        await asyncio.wait_for(self.asked.wait(), LIMIT_S)
        self.asked.clear()
        return self.wishes[-1]

    def told(self, name, wish, phase=PackPhase.SERVES, reason=""):
        """The supervisor's word."""
        self.change.take(PackServes(0, self.now, str(self.packs / name), phase, wish.ask, reason))

    def _ended(self):
        self.reports.append(self.apply())
        self.ended.set()

    async def reported(self):
        """The report when a wish has ended."""
        await asyncio.wait_for(self.ended.wait(), LIMIT_S)
        self.ended.clear()
        return self.reports[-1]


def on(folder, scene, **more):
    """Run the scene with an uplink in a loop."""

    async def whole():
        await scene(Uplink(folder, **more))

    asyncio.run(whole())


def test_a_command_is_answered_when_the_pack_serves(tmp_path):
    """Not while it waits or changes; the choice is kept, as a command's."""

    async def scene(box):
        command = box.command("tea-bar")
        wish = await box.wish()
        assert (wish.pack, wish.until_ns - wish.ask) == (str(box.packs / "tea-bar"), WAIT_S * 10**9)
        assert box.change.moving
        box.told("coffee-bar", wish, PackPhase.WAITS)
        box.now += 6 * 10**9
        box.told("coffee-bar", wish, PackPhase.WAITS)
        box.told("coffee-bar", wish, PackPhase.CHANGES)
        assert not command.done()
        assert kept_choice(box.config) is None
        box.told("tea-bar", wish)
        done = await command
        assert (done.outcome, done.reason, done.result) == (t.Outcome.DONE, "", {"pack": "tea-bar"})
        assert kept_choice(box.config) == Choice("tea-bar", "command")
        assert box.events == [("pack_waits", ""), ("pack_changed", "")]
        assert (box.apply(), box.change.moving) == (("tea-bar", ""), False)
        assert (await box.command("tea-bar")).outcome is t.Outcome.DONE  # it serves already
        assert len(box.wishes) == 1

    on(tmp_path, scene)


def test_a_broken_pack_is_refused_before_anything_happens(tmp_path):
    """With the checker's own first line; so is one that is not installed, or that leads elsewhere."""

    async def scene(box):
        (box.packs / "tea-bar" / "pack.toml").write_text('name = "Tea"\ncolour = "red"\n')
        done = await box.command("tea-bar")
        assert done.outcome is t.Outcome.REFUSED
        assert done.reason.startswith("pack.toml: ")
        assert done.reason.endswith(" more)")
        assert (await box.command("soup-bar")).reason == "it is not installed; this box has coffee-bar, juice-bar, tea-bar"
        assert (await box.command("../packs/tea-bar")).outcome is t.Outcome.REFUSED
        assert (box.wishes, box.events) == ([], [("pack_refused", "broken")])
        assert box.apply() == ("coffee-bar", "")

    on(tmp_path, scene)


def test_a_pack_that_does_not_come_up_fails_with_what_is_wrong_with_it(tmp_path):
    """The node as the supervisor says it, and what the checker finds by then; what held before holds."""

    async def scene(box):
        first = box.command("juice-bar")
        box.told("juice-bar", await box.wish())
        await first
        command = box.command("tea-bar")
        wish = await box.wish()
        (box.packs / "tea-bar" / "pack.toml").write_text("[")
        box.told("juice-bar", wish, PackPhase.RETURNS, "")
        for _ in range(2):
            box.told("juice-bar", wish, reason="dialogue does not run with it: exited with status 1")
            box.change.tick()
        done = await command
        assert done.outcome is t.Outcome.FAILED
        assert done.reason.startswith("dialogue does not run with it: exited with status 1; pack.toml: is no valid TOML")
        assert len(done.reason) <= 200
        assert (box.apply(), len(box.wishes)) == (("juice-bar", ""), 2)
        assert kept_choice(box.config) == Choice("juice-bar", "command")

    on(tmp_path, scene)


def test_a_setting_is_not_tried_again_until_the_pack_is_another_one(tmp_path):
    """It is refused with the reason, every time; a changed file or a command has it tried."""

    async def scene(box):
        assert box.apply(pack="tea-bar") == ("coffee-bar", "")
        assert box.change.moving
        box.told("coffee-bar", await box.wish(), reason="voice does not run with it: ended by signal 9")
        why = "voice does not run with it: ended by signal 9"
        assert await box.reported() == ("coffee-bar", why)
        assert (box.apply(), len(box.wishes), box.change.moving) == (("coffee-bar", why), 1, False)
        os.utime(box.packs / "tea-bar" / "pack.toml", ns=(2**61, 2**61))
        assert box.apply() == ("coffee-bar", "")
        box.told("tea-bar", await box.wish())
        assert box.reports[-1] == ("tea-bar", "")
        assert kept_choice(box.config) == Choice("tea-bar", "setting")
        held = await box.command("juice-bar")
        assert (held.outcome, "tea-bar" in held.reason) == (t.Outcome.REFUSED, True)
        box.desired = {}
        assert box.apply() == ("tea-bar", "")  # on its way to kiosk.toml's
        box.told("coffee-bar", await box.wish())
        assert (box.reports[-1], kept_choice(box.config)) == (("coffee-bar", ""), None)

    on(tmp_path, scene)


def test_a_visitor_who_stays(tmp_path):
    """A command has failed, with nothing changed; a setting is late: told once, asked again, and told when it serves."""

    async def scene(box):
        command = box.command("tea-bar")
        box.told("coffee-bar", await box.wish(), reason=WAITED)
        done = await command
        assert (done.outcome, done.reason) == (t.Outcome.FAILED, f"{WAITED}, for 10 minutes: it stays as it is")
        assert (box.reports, len(box.wishes)) == ([("coffee-bar", "")], 1)
        box.apply(pack="tea-bar")
        box.told("coffee-bar", await box.wish(), reason=WAITED)
        late = ("coffee-bar", f"{WAITED}, for 10 minutes: it changes when they have gone")
        assert (box.reports[-1], box.change.moving) == (late, False)
        box.there = False
        box.change.tick()
        box.there = True
        box.change.tick()
        box.told("tea-bar", await box.wish())
        assert box.reports[-1] == ("tea-bar", "")
        assert len(box.wishes) == 3

    on(tmp_path, scene)


def test_another_wish_takes_the_first_one_back(tmp_path):
    """The first command is told so; the supervisor hears of the second."""

    async def scene(box):
        first = box.command("tea-bar")
        await box.wish()
        second = box.command("juice-bar")
        assert (await first).reason == "another one was wanted meanwhile"
        while (wish := await box.wish()).pack != str(box.packs / "juice-bar"):
            pass
        assert [Path(one.pack).name for one in box.wishes] == ["tea-bar", "coffee-bar", "juice-bar"]
        box.told("juice-bar", wish)
        assert (await second).outcome is t.Outcome.DONE
        assert box.apply() == ("juice-bar", "")

    on(tmp_path, scene)


def test_a_command_that_nobody_waits_for_any_more_is_taken_back(tmp_path):
    """The uplink's own limit: what was wanted is not carried out behind everybody's back."""

    async def scene(box):
        command = box.command("tea-bar")
        await box.wish()
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command
        assert box.wishes[-1].pack == str(box.packs / "coffee-bar")
        assert (box.apply(), box.change.moving) == (("coffee-bar", ""), False)

    on(tmp_path, scene)


def test_a_disk_that_does_not_keep_the_choice(tmp_path):
    """The pack serves all the same, and the answer says what a restart would do."""

    async def scene(box):
        fleet_folder(box.config).mkdir()
        (fleet_folder(box.config) / ".pack.json.new").mkdir()
        command = box.command("tea-bar")
        box.told("tea-bar", await box.wish())
        done = await command
        assert (done.outcome, done.reason) == (t.Outcome.DONE, "the disk did not keep the choice (IsADirectoryError)")

    on(tmp_path, scene)


def test_after_a_start(tmp_path):
    """What a command chose holds on; a choice that has gone is told, and kept for the day when it is back."""

    async def holds_on(box):
        box.change.begin()
        assert (box.apply(), box.events, box.wishes) == (("tea-bar", ""), [], [])
        assert kept_choice(box.config) == Choice("tea-bar", "command")

    async def has_gone(box):
        shutil.move(box.packs / "tea-bar", tmp_path / "elsewhere")
        box.change.begin()
        assert (box.apply(), box.events, box.wishes) == (("coffee-bar", ""), [("pack_refused", "lost")], [])
        assert kept_choice(box.config) == Choice("tea-bar", "command")

    keep_choice(Uplink(tmp_path).config, Choice("tea-bar", "command"))
    on(tmp_path, holds_on, serving="tea-bar")
    on(tmp_path, has_gone)


def test_the_languages_are_those_of_the_pack_that_serves(tmp_path):
    """What a visit begins with follows: the new pack's first language, and what it has not is refused."""

    async def scene(box):
        file = box.packs / "tea-bar" / "pack.toml"
        file.write_text(file.read_text().replace('languages = ["en-GB"]', 'languages = ["de-DE", "fr-FR"]'))
        command = box.command("tea-bar")
        box.told("tea-bar", await box.wish())
        await command
        reported, refused = box.levers.apply({"language": "en-GB"})
        assert (reported["language"], refused["language"]) == ("de-DE", "the pack does not have it; it has de-DE, fr-FR")
        assert box.levers.apply({"language": "fr-FR"})[0]["language"] == "fr-FR"

    on(tmp_path, scene)
