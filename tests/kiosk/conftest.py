"""A stage with a house around it, and a real Chromium to look at it."""

from __future__ import annotations

import os
import shutil
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.kiosk import LIMIT_S, TONE_HZ, House, eventually


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A stage and its house; no page yet."""
    with House(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium; skips where there is none."""
    path = os.environ.get("VISAVIS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        pytest.skip("no Chromium: install the package chromium or set VISAVIS_CHROMIUM")
    return path


@pytest.fixture(scope="session")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 48 kHz recording of 500 Hz: the fake microphone's sound, at another rate than the ring's."""
    path = tmp_path_factory.mktemp("sound") / "tone.wav"
    pcm = (np.sin(2 * np.pi * TONE_HZ * np.arange(48000 * 4) / 48000) * 12000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes(pcm.tobytes())
    return path


@pytest.fixture(scope="module")
def browser(chromium: str, tone: Path) -> Iterator[Any]:
    """Headless Chromium with a fake microphone; of one module, because Playwright's loop keeps asyncio.run from others.

    (--no-sandbox because tests may run as root; the shipped launcher never has it.)
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--autoplay-policy=no-user-gesture-required",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={tone}",
            ],
        )
        yield launched
        launched.close()


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """A fresh profile that may use the microphone."""
    made = browser.new_context(viewport={"width": 720, "height": 1280}, permissions=["microphone"])
    made.set_default_timeout(LIMIT_S * 1000)
    yield made
    made.close()


@pytest.fixture
def page(house: House, context: Any) -> Any:
    """The kiosk's page, open, its sound running; fails the test on any error in its console."""
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(house.url)
    house.floor()
    eventually(house.sounds, "the page's sound runs")
    yield opened
    assert problems == []


@pytest.fixture(scope="module")
def scripts(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An open page for the functions in its scripts: a test that only calls one there leaves nothing behind for the next."""
    with House(tmp_path_factory.mktemp("scripts")) as house:
        made = browser.new_context(permissions=["microphone"])
        made.set_default_timeout(LIMIT_S * 1000)
        page = made.new_page()
        page.goto(house.url)
        yield page
        made.close()
