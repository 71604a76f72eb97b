"""Who gets in: the stage's own page on this machine, and nobody else."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest

from runtime.messages import InputKind
from tests.support.kiosk import House, eventually, grey

pytestmark = pytest.mark.system


def with_session(act: Callable[[aiohttp.ClientSession], Coroutine[Any, Any, Any]]) -> Any:
    """Run `act` with a client whose cookies work for localhost."""

    async def run() -> Any:
        async with aiohttp.ClientSession() as session:
            return await act(session)

    return asyncio.run(run())


async def admitted(session: aiohttp.ClientSession, house: House) -> str:
    """Fetch the page as a browser does; returns the key in it (the session now has the cookie)."""
    async with session.get(house.url) as answer:
        found = re.search(r'visavis-key" content="([0-9a-f]{64})"', await answer.text())
    assert found
    return found.group(1)


def origin(house: House) -> dict[str, str]:
    return {"Origin": house.url.rstrip("/")}


async def refused(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> int:
    """The status with which a socket is refused."""
    try:
        async with session.ws_connect(url, headers=headers):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


def test_it_listens_on_loopback_only(house: House) -> None:
    """The shop's network cannot reach it."""
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1", "127.0.1.1"}
    for address in others:
        with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
            socket.create_connection((str(address), house.port), timeout=2)
    with socket.create_connection(("127.0.0.1", house.port), timeout=2):
        pass


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost", ""])
def test_another_host_name_is_refused(house: House, host: str) -> None:
    """DNS rebinding: a foreign name that resolves to us gets nothing."""

    async def act(session: aiohttp.ClientSession) -> tuple[int, int]:
        async with (
            session.get(house.url, headers={"Host": host}) as page,
            session.get(f"{house.url}alive", headers={"Host": host}) as alive,
        ):
            return page.status, alive.status

    assert with_session(act) == (403, 403)


def test_a_socket_needs_origin_cookie_and_key(house: House) -> None:
    """Each of the three alone is not enough, all together are."""

    async def act(session: aiohttp.ClientSession) -> list[int]:
        key = await admitted(session, house)
        good = f"{house.url}control?k={key}&page=a"
        async with aiohttp.ClientSession() as stranger:
            without_cookie = await refused(stranger, good, origin(house))
        return [
            without_cookie,
            await refused(session, good, {}),
            await refused(session, good, {"Origin": "http://evil.example"}),
            await refused(session, good, {"Origin": f"http://localhost:{house.port + 1}"}),
            await refused(session, f"{house.url}control?page=a", origin(house)),
            await refused(session, f"{house.url}control?k={'0' * 64}&page=a", origin(house)),
            await refused(session, f"{house.url}video?page=a", origin(house)),
            await refused(session, good, origin(house)),
        ]

    assert with_session(act) == [403] * 7 + [101]


def test_the_page_carries_its_rules(house: House) -> None:
    """A strict content policy, no framing, no caching, and a cookie that scripts and other sites cannot have."""

    async def act(session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        async with session.get(house.url) as answer:
            return answer

    answer = with_session(act)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Cache-Control"] == "no-store"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("path", ["../stage.py", "%2e%2e/stage.py", "index.html", "js/", "nothing.js", "logo"])
def test_only_the_pages_own_files_are_served(house: House, path: str) -> None:
    """No path leads out of the page's folder."""

    async def act(session: aiohttp.ClientSession) -> int:
        async with session.get(f"{house.url}{path}") as answer:
            return answer.status

    assert with_session(act) == 404


def test_two_frames_are_under_way_at_most_and_the_newest_wins(house: House) -> None:
    """Without an acknowledgement the third frame waits; the one that goes then is the newest. No compression, pixels unchanged."""
    house.renderer.picture = grey(123)

    async def act(session: aiohttp.ClientSession) -> tuple[list[int], int, bytes]:
        key = await admitted(session, house)
        async with (
            session.ws_connect(f"{house.url}control?k={key}&page=a", headers=origin(house)),
            session.ws_connect(f"{house.url}video?k={key}&page=a", headers=origin(house), compress=15) as video,
        ):
            assert not video.compress
            seqs = []
            for _ in range(2):
                (seq,) = struct.unpack_from("<I", await video.receive_bytes(), 4)
                pixels = await video.receive_bytes()
                seqs.append(seq)
            with pytest.raises(asyncio.TimeoutError):
                await video.receive_bytes(timeout=0.6)
            await video.send_bytes(struct.pack("<I", seqs[-1]))
            (after,) = struct.unpack_from("<I", await video.receive_bytes(), 4)
            return seqs, after, pixels

    seqs, after, pixels = with_session(act)
    assert after > seqs[-1] + 5
    assert pixels == grey(123).tobytes()
    assert house.alive()["video"]["dropped"]["replaced"] > 5


def test_a_media_socket_without_its_page_is_turned_away(house: House) -> None:
    """The audio and video sockets belong to the page that has the screen."""

    async def act(session: aiohttp.ClientSession) -> tuple[int | None, int | None]:
        key = await admitted(session, house)
        async with session.ws_connect(f"{house.url}audio?k={key}&page=nobody", headers=origin(house)) as audio:
            first = (await audio.receive()).data
        async with (
            session.ws_connect(f"{house.url}control?k={key}&page=a", headers=origin(house)),
            session.ws_connect(f"{house.url}video?k={key}&page=b", headers=origin(house)) as video,
        ):
            return first, (await video.receive()).data

    assert with_session(act) == (4003, 4003)


def test_what_a_page_must_not_say_is_ignored(house: House) -> None:
    """Garbage, unknown inputs and those that are the stage's own are dropped; long text is cut; the socket stays."""

    async def act(session: aiohttp.ClientSession) -> None:
        key = await admitted(session, house)
        async with session.ws_connect(f"{house.url}control?k={key}&page=a", headers=origin(house)) as control:
            for text in (
                "{",
                '{"t":"nothing"}',
                '{"t":"input","kind":"page","text":"closed"}',
                '{"t":"input","kind":"root"}',
                "[]",
                '{"t":"pong"}',
            ):
                await control.send_str(text)
            await control.send_json({"t": "input", "kind": "typed", "text": "x" * 5000})
            await asyncio.get_running_loop().run_in_executor(None, lambda: seen.append(house.visitor("typed")))

    seen: list[Any] = []
    with_session(act)
    assert len(seen[0].text) == 400
    others = [message.kind for link, message in house._kept["conductor"] if link == "visitor"]
    assert set(others) <= {InputKind.PAGE}


def test_the_frame_recorder_keeps_what_was_sent(tmp_path: Any) -> None:
    """frames.nv12 holds the bytes, frames.jsonl their places; without the option nothing is written."""
    import msgspec

    folder = tmp_path / "frames"
    with House(tmp_path, record_frames=str(folder)) as house:
        house.renderer.picture = grey(77)

        async def act(session: aiohttp.ClientSession) -> None:
            key = await admitted(session, house)
            async with (
                session.ws_connect(f"{house.url}control?k={key}&page=a", headers=origin(house)),
                session.ws_connect(f"{house.url}video?k={key}&page=a", headers=origin(house)) as video,
            ):
                await video.receive_bytes()
                await video.receive_bytes()

        with_session(act)
        eventually(lambda: house.alive()["video"]["sent"] > 0, "a frame went out")
    rows = [msgspec.json.decode(line) for line in (folder / "frames.jsonl").read_bytes().splitlines()]
    pixels = (folder / "frames.nv12").read_bytes()
    assert rows[0]["offset"] == 0
    assert len(pixels) == sum(row["w"] * row["h"] * 3 // 2 for row in rows)
    first = rows[0]
    assert pixels[: first["w"] * first["h"]] in (bytes([77]) * (64 * 64), bytes([200]) * (64 * 64))
