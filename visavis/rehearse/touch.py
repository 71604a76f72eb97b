"""Fingers and keys on the page, through Chromium's debugger: only the Input and Runtime domains, attached for the moment of the touch."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec

from visavis.rehearse.errors import KioskFailed, ScenarioError

__all__ = ["touch", "type_text"]

# Looks for what a visitor would look for: a visible button or link by its words, then by its id or selector.
_FIND = """(() => {
  const name = %s;
  const box = e => e.getBoundingClientRect();
  const seen = e => box(e).width > 0 && box(e).height > 0 && getComputedStyle(e).visibility !== 'hidden';
  const words = e => (e.getAttribute('aria-label') || e.innerText || e.value || '').trim().toLowerCase();
  const all = [...document.querySelectorAll('button, a, [role=button], input[type=submit]')].filter(seen);
  let found = all.find(e => words(e) === name.toLowerCase()) || all.find(e => words(e).includes(name.toLowerCase()));
  if (!found) { try { found = document.querySelector(name); } catch { found = null; } }
  if (!found) return null;
  const r = found.getBoundingClientRect();
  return [r.x + r.width / 2, r.y + r.height / 2];
})()"""
_FIELD = """(() => {
  const seen = e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
  const field = [...document.querySelectorAll('input[type=text], input:not([type]), textarea')].find(seen);
  if (!field) return false; field.focus(); return true;
})()"""


def touch(debugger: str, name: str) -> None:
    """Tap the button called `name` (its words, else a CSS selector). Raises ScenarioError if the page has none."""
    asyncio.run(_with_page(debugger, lambda page: _touch(page, name)))


def type_text(debugger: str, text: str) -> None:
    """Open the keyboard if it is closed, type `text` and press Enter. Raises ScenarioError if the page has no field."""
    asyncio.run(_with_page(debugger, lambda page: _type(page, text)))


class _Page:
    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._id = 0

    async def call(self, method: str, **params: Any) -> Any:
        self._id += 1
        await self._socket.send_json({"id": self._id, "method": method, "params": params})
        while True:
            answer = await self._socket.receive_json(timeout=5)
            if answer.get("id") == self._id:
                return answer.get("result", {})

    async def evaluate(self, script: str) -> Any:
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result.get("result", {}).get("value")

    async def tap(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


async def _with_page(debugger: str, act: Any) -> None:
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{debugger}/json/list") as answer:
                pages = [row for row in await answer.json(content_type=None) if row["type"] == "page"]
            if not pages:
                raise KioskFailed("Chromium shows no page")
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                await act(_Page(socket))
    except aiohttp.ClientError as error:
        raise KioskFailed(f"the page could not be touched: {error}") from error


async def _touch(page: _Page, name: str) -> None:
    place = await page.evaluate(_FIND % msgspec.json.encode(name).decode())
    if place is None:
        raise ScenarioError(f"touch = {name!r}: the page shows nothing of that name")
    await page.tap(*place)


async def _type(page: _Page, text: str) -> None:
    if not await page.evaluate(_FIELD):
        await _touch(page, "Type")
        await asyncio.sleep(0.3)  # the keyboard slides in; there is no event to wait for outside the page
        if not await page.evaluate(_FIELD):
            raise ScenarioError(f"type = {text!r}: the page has no field to type into")
    await page.call("Input.insertText", text=text)
    for kind in ("keyDown", "keyUp"):
        await page.call(
            "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r" if kind == "keyDown" else ""
        )
