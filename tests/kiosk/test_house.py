"""What the fleet wants each visit to begin with: through the stage into the page, over a wipe and the stage's next life."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kiosk._house import House as Defaults
from kiosk._pack import PackFollower
from runtime import messages as m
from runtime.context import Context
from tests.support.harness import Bench
from tests.support.kiosk import House, eventually

COFFEE = Path(__file__).resolve().parents[2] / "kiosk" / "packs" / "coffee-bar"
NOW = """() => ({
  volume: document.getElementById("volume-level").value,
  shade: getComputedStyle(document.body, "::after").opacity,
  language: document.documentElement.lang,
})"""
WORN = """() => ({
  title: document.title,
  backdrop: document.documentElement.style.getPropertyValue("--backdrop"),
  sign: !document.getElementById("logo").hidden && document.getElementById("logo").naturalWidth > 0,
  language: document.documentElement.lang,
  leaves: [...document.querySelectorAll("#choices button")].filter((one) => one.textContent === "Leaves").length,
})"""
USUAL = {"volume": "80", "shade": "1", "language": "en"}  # without a shade there is no such element, whose opacity is 1
WANTED = {"volume": "40", "shade": "0.6", "language": "de-DE"}


def setting(name: str, value: float | str) -> m.HouseSetting:
    return m.HouseSetting(0, time.monotonic_ns(), name, value)


def test_the_next_life_of_the_stage_begins_with_what_was_wanted() -> None:
    """Each message changes one of the three and tells the page all; what the page cannot show changes nothing."""
    told: list[dict[str, Any]] = []
    with Bench() as bench:
        house = Defaults(bench.context("stage"), lambda kind, **what: told.append({"kind": kind, **what}))
        assert house.values == {"volume": 1.0, "brightness": 1.0, "language": "en-GB"}
        house.take(setting("volume", 0.5))
        house.take(setting("language", "tlh"))
        house.take(setting("colour", "red"))
        assert told == [{"kind": "house", "volume": 0.5, "brightness": 1.0, "language": "en-GB"}]
        assert Defaults(bench.context("stage"), lambda *_, **__: None).values == house.values


def test_a_language_may_be_wanted_before_the_pack_that_has_it() -> None:
    """It holds from the moment that this pack serves; of one that has it not, its first language does."""
    with Bench() as bench:
        house = Defaults(bench.context("stage"), lambda *_, **__: None)
        house.take(setting("language", "de-DE"))
        assert house.values["language"] == "en-GB"
        house.speak(("fr-FR", "de-DE"))
        assert house.values["language"] == "de-DE"
        house.speak(("fr-FR",))
        assert house.values["language"] == "fr-FR"


@pytest.mark.parametrize("kept", [b"{torn", b"[1]", b'{"colour": "red"}'])
def test_what_is_damaged_is_not_taken(kept: bytes) -> None:
    """The stage starts all the same, with the box's own values."""
    with Bench() as bench:
        ctx = bench.context("stage")
        ctx.checkpoint.save(kept)
        assert Defaults(ctx, lambda *_, **__: None).values == {"volume": 1.0, "brightness": 1.0, "language": "en-GB"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house whose pack speaks English and German."""
    pack = tmp_path / "pack"
    pack.mkdir()
    for file in COFFEE.iterdir():
        (pack / file.name).symlink_to(file)
    text = (COFFEE / "pack.toml").read_text()
    (pack / "pack.toml").unlink()
    (pack / "pack.toml").write_text(text.replace('languages = ["en-GB"]', 'languages = ["en-GB", "de-DE"]'))
    with House(tmp_path, pack=pack) as made:
        yield made


def want(uplink: Any) -> None:
    """The fleet's wishes, as the uplink tells them."""
    for name, value in (("volume", 0.5), ("brightness", 0.4), ("language", "de-DE")):
        uplink.send("house", setting(name, value))


@pytest.mark.system
def test_what_a_visit_begins_with_comes_from_the_fleet(house: House, page: Any) -> None:
    """It holds at once; a visitor may change volume and language for the visit, and the wipe brings it back, not kiosk.toml's."""
    assert page.evaluate(NOW) == USUAL
    uplink = house.bench.context("uplink")
    want(uplink)
    eventually(lambda: page.evaluate(NOW) == WANTED, "the page is as wanted")
    house.floor("attentive", "engaged")
    page.click("#volume")
    page.click("#quieter")
    page.click("#language")
    page.click("#languages button[data-language=en-GB]")
    uplink.send("house", setting("volume", 0.75))  # in the middle of a visit: the visitor's own stays
    uplink.send("house", setting("brightness", 1.0))
    eventually(lambda: page.evaluate(NOW) == {**USUAL, "volume": "30"}, "only what the visitor has not set follows")
    house.visit += 1
    house.turn += 1
    house.floor("idle", "attract")
    eventually(lambda: page.evaluate(NOW) == {**WANTED, "volume": "60", "shade": "1"}, "the wipe returns to what is wanted")


@pytest.mark.system
def test_what_is_wanted_survives_the_stage(house: House, context: Any) -> None:
    """The next stage knows it before anybody has told it anew: the visitor's volume stays, and the wipe returns to what is wanted."""
    page = context.new_page()  # one whose console may tell that the stage is away
    page.goto(house.url)
    want(house.bench.context("uplink"))
    eventually(lambda: page.evaluate(NOW) == WANTED, "the page is as wanted")
    house.floor("attentive", "engaged")
    page.click("#volume")
    page.click("#quieter")
    house.stop_stage()
    since = time.monotonic_ns()
    house.start_stage()
    house.expect(house.conductor, "visitor", lambda it: it.text == "open" and it.t_ns > since)
    eventually(house.answered, "the page has taken what the new stage told it")
    assert page.evaluate(NOW) == {**WANTED, "volume": "30"}
    house.visit += 1
    house.turn += 1

    def now() -> Any:
        house.floor("idle", "attract")  # once is not enough: the new stage may not listen to the conductor yet
        return page.evaluate(NOW)

    eventually(lambda: now() == WANTED, "the wipe returns to what is wanted")
    page.reload()
    eventually(lambda: page.evaluate(NOW) == WANTED, "a page that is loaded anew is as wanted")


@pytest.mark.system
def test_another_pack_is_put_on_while_the_page_is_open(house: House, page: Any, tmp_path: Path) -> None:
    """Brand, sign, colours, languages, suggestions and lines are the other pack's; picture and sound are not begun anew. And back again."""
    tea = Path(shutil.copytree(COFFEE, tmp_path / "tea"))
    text = (COFFEE / "pack.toml").read_text().replace('title = "Alder & Finch"', 'title = "Tea and Leaf"\nlogo = "sign.svg"')
    text = text.replace('languages = ["en-GB"]', 'languages = ["de-DE"]').replace("#e9e4da", "#203040")
    (tea / "pack.toml").write_text(text.replace('label = "Allergens"', 'label = "Leaves"').replace("#2f6f5e", "#803010"))
    (tea / "sign.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>')
    house.bench.context("uplink").send("house", setting("language", "de-DE"))
    first = {"title": "Alder & Finch", "backdrop": "#e9e4da", "sign": False, "language": "de-DE", "leaves": 0}
    other = {"title": "Tea and Leaf", "backdrop": "#203040", "sign": True, "language": "de-DE", "leaves": 1}
    house.floor("attentive", "engaged")
    eventually(lambda: page.evaluate(WORN) == first, "the first pack")
    before = house.alive()

    def is_worn(pack: Path, worn: Any) -> bool:
        house.supervisor.publish("pack", m.PackServes(0, time.monotonic_ns(), str(pack)))
        return bool(page.evaluate(WORN) == worn)

    for pack, worn in ((tea, other), (house.ctx.pack.path, first)):
        eventually(partial(is_worn, pack, worn), f"{worn['title']} is worn")
    after = house.alive()
    assert (after["pages"], after["reloads"]) == (before["pages"], before["reloads"])
    eventually(lambda: house.alive()["video"]["sent"] > after["video"]["sent"], "the picture goes on")


@pytest.mark.system
def test_who_asks_for_contrast_has_no_shade(house: House, page: Any) -> None:
    """A dark screen is the shop's; what can be read is the visitor's."""
    house.bench.context("uplink").send("house", setting("brightness", 0.2))
    eventually(lambda: page.evaluate(NOW)["shade"] == "0.8", "the page is dark")
    house.floor("attentive", "engaged")
    page.click("#display")
    page.click("#sw-contrast")
    assert page.evaluate(NOW)["shade"] == "1"


def test_a_pack_that_cannot_be_read_is_said_once_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The page keeps what it has; as soon as the files are whole it has the other one."""
    tea = Path(shutil.copytree(COFFEE, tmp_path / "tea"))
    whole = (tea / "pack.toml").read_text()
    (tea / "pack.toml").write_text("[")

    async def follow(ctx: Context) -> list[Path]:
        worn: list[Path] = []
        follower = PackFollower(ctx, lambda pack: worn.append(pack.path))
        for text in (None, None, whole, None):
            if text is not None:
                (tea / "pack.toml").write_text(text)
            follower.take(m.PackServes(0, 1, str(tea)))
            if follower._task is not None:
                await follower._task
        return worn

    # In a thread of its own: Playwright's loop, for the browser of this module, runs in this one.
    with Bench() as bench, ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, follow(bench.context("stage"))).result() == [tea]
    assert caplog.text.count("cannot be shown: pack.toml") == 1
