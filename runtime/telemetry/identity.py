"""The box's certificates as files, and their renewal carried out. What to do when is decided by `renewal`; keys are touched by `pki` only.

In the folder: `next.key` (asked for), `trial.pem` (came, has not connected yet), `own.pem` (has connected; key and certificate in one file,
so that they change together). The pair that kiosk.toml names is never changed. Each step is one rename: killed anywhere, the next start
goes on from what is there.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import ssl
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.telemetry.renewal import Facts, Pair, Renewal, Step, candidates, decide, failed, welcomed
from runtime.telemetry.times import Times
from runtime.telemetry.wire import Shown, context

__all__ = ["Identity", "Where"]

log = logging.getLogger("identity")

_ROOT = Path(__file__).resolve().parents[2]
_LIMIT_S = 30.0
_MOST_ANSWER = 64 * 1024
_EARLIEST_MS = 1_735_689_600_000  # 2025-01-01: an earlier time of a controller is none

Where = tuple[str, int]


class Identity:
    """Which pair to show, and its renewal. `ask(PEM)` sends a request by MQTT, `leave()` ends the connection in order, `event(code, names)`
    keeps an event, `notice(text)` tells the technician ("" takes it back). All methods belong to the uplink's loop.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        configured: tuple[Path | None, Path | None],
        ca: Path | None,
        late: Where,
        times: Times,
        *,
        ask: Callable[[str], None],
        leave: Callable[[], None],
        event: Callable[[str, dict[str, str]], None],
        notice: Callable[[str], None],
    ) -> None:
        # Absolute: a step works in a folder of its own.
        certificate, key = (path.absolute() if path is not None else None for path in configured)
        self._folder, self._configured, self._ca = folder.absolute(), (certificate, key), ca.absolute() if ca is not None else None
        self._name, self._late, self._times = name, late, times
        self._ask, self._leave, self._event, self._notice = ask, leave, event, notice
        self._pairs: list[Pair] = []
        self._renewal = Renewal()
        self._shown: Pair | None = None
        self._turn = 0
        self._down_ms = times.mono_ms()
        self._clock: tuple[int, int] | None = None  # the controller's time and ours when it came
        self._task: asyncio.Task[None] | None = None
        self._came = ""

    # --- which pair

    async def load(self) -> None:
        """Look at the files; before the first connection, and after each change."""
        own, trial = self._folder / "own.pem", self._folder / "trial.pem"
        with suppress(OSError):
            if trial.exists():
                (self._folder / "next.key").unlink(missing_ok=True)  # what `accept` was killed before
        files = {"configured": self._configured[0], "own": own, "trial": trial}
        there = {source: file for source, file in files.items() if file is not None and file.exists()}
        try:
            found = await _step("describe", *(str(file) for file in there.values())) if there else []
        except _Failed as error:
            log.warning("the box's certificates cannot be looked at: %s", error)
            found = []
        self._pairs = [
            Pair(source, one["begins"], one["ends"], one["fingerprint"])
            for source, one in zip(there, found, strict=False)
            if one is not None and one["name"] == self._name
        ]

    def choose(self) -> Shown:
        """The pair for the next connection."""
        known = candidates(self._pairs, self._renewal, self._times.mono_ms(), self.now_ms)
        self._shown = known[0 if known[0].source == "trial" else self._turn % len(known)] if known else None
        certificate, key = self._configured
        if self._shown is not None and self._shown.source != "configured":
            certificate, key = self._folder / f"{self._shown.source}.pem", None
        # A clock that was never set cannot judge the broker's dates; its authority is judged all the same.
        return Shown(certificate, key, dates=self._times.synced() or self._ca is None)

    def failed(self, *, network: bool) -> None:
        """No connection came about with the pair that was shown."""
        self._renewal = failed(self._renewal, self._shown, self._times.mono_ms())
        if not network and self._shown is not None and self._shown.source != "trial":
            self._turn += 1
        self._went()

    def lost(self) -> None:
        """The connection ended."""
        self._went()

    def _went(self) -> None:
        if self._down_ms < 0:
            self._down_ms = self._times.mono_ms()

    def welcomed(self) -> None:
        """The broker let us in: a trial becomes the box's own pair."""
        self._turn, self._down_ms = 0, -1
        shown = self._shown
        self._renewal = welcomed(self._renewal, shown, self._times.mono_ms())
        self._notice("")
        if shown is not None and shown.source == "trial":
            (self._folder / "trial.pem").replace(self._folder / "own.pem")
            self._pairs = [pair for pair in self._pairs if pair.source == "configured"] + [replace(shown, source="own")]
            self._event("certificate_renewed", {})

    # --- time

    @property
    def now_ms(self) -> int | None:
        """Wall time: our clock's if it was set, else as the controller told it; None if nobody knows."""
        if self._times.synced():
            return self._times.wall_ms()
        return None if self._clock is None else self._clock[0] + self._times.mono_ms() - self._clock[1]

    @property
    def left_s(self) -> int | None:
        """How long the pair that was made last is valid, in seconds; None if that is not known."""
        now, pair = self.now_ms, self._newest()
        return None if now is None or pair is None else (pair.ends - now) // 1000

    def told(self, ts: int) -> None:
        """The controller's time, as a message of it says. An old message says an old time: time only goes forward."""
        mono = self._times.mono_ms()
        if ts >= _EARLIEST_MS and (self._clock is None or ts > self._clock[0] + mono - self._clock[1]):
            self._clock = (ts, mono)

    def tick(self) -> None:
        """Let time pass."""
        if self._task is not None:
            return
        if self._came:
            came, self._came = self._came, ""
            self._begin(self._accept(came))
            return
        trial = any(pair.source == "trial" for pair in self._pairs)
        facts = Facts(self._times.mono_ms(), self.now_ms, self._down_ms, self._newest(), trial)
        self._renewal, step = decide(self._renewal, facts)
        if step is Step.TRY:
            self._leave()
        elif step is not Step.NOTHING:
            work = {Step.ASK: self._request, Step.ASK_LATE: self._request_late, Step.DISCARD: self._discard}[step]
            self._begin(work())

    def _newest(self) -> Pair | None:
        return max((pair for pair in self._pairs if pair.source != "trial"), key=lambda pair: pair.begins, default=None)

    async def close(self) -> None:
        """The uplink ends: a step that is on its way is given up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- steps that take a while

    def take(self, certificate: str, reason: str) -> None:
        """What the controller answered to our request."""
        if reason:
            self._refused(reason)
        else:
            self._came = certificate  # dealt with at the next tick, when no other step is on its way

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (_Failed, OSError) as error:
            log.warning("the box's certificate is not renewed now: %s; tried again", error)
        finally:
            self._task = None

    async def _request(self) -> None:
        self._ask((await _step("request", str(self._folder), self._name))["request"])

    async def _request_late(self) -> None:
        certificate, key = self._configured
        pair = self._newest()
        if pair is not None and pair.source == "own":
            certificate = key = self._folder / "own.pem"
        if certificate is None or key is None or self._ca is None:
            return
        proof = await _step("prove", str(self._folder), self._name, str(certificate), str(key))
        where, tls = self._late, context(self._ca, dates=self._times.synced())
        answer = await asyncio.to_thread(_post, where, tls, json.dumps(proof).encode())
        if answer.get("state") == "issued":
            await self._accept(str(answer.get("certificate", "")))
        elif answer.get("state") == "waiting":
            self._notice("the certificate of this box for the fleet has ended: an admin has to approve the new one in the fleet's console")
        else:
            self._refused(str(answer.get("error") or "refused"))

    async def _accept(self, certificate: str) -> None:
        if self._ca is None:
            raise _Failed("[fleet] names no authority (ca)")
        await _step("accept", str(self._folder), self._name, str(self._ca), given=certificate.encode())
        await self.load()

    async def _discard(self) -> None:
        (self._folder / "trial.pem").unlink(missing_ok=True)
        self._event("certificate_refused", {"cause": "not_let_in"})
        await self.load()

    def _refused(self, reason: str) -> None:
        log.warning("the fleet gives this box no new certificate: %s", reason[:200])
        self._event("certificate_refused", {"cause": "refused"})


class _Failed(Exception):
    """A step of `pki` ended with this line."""


async def _step(*words: str, given: bytes = b"") -> Any:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "runtime.telemetry.pki", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    try:
        out, error = await asyncio.wait_for(process.communicate(given), _LIMIT_S)
    except asyncio.TimeoutError as late:
        raise _Failed("it took too long") from late
    finally:
        if process.returncode is None:  # too slow, or the uplink ends: a step that was killed can be done again
            process.kill()
            await process.communicate()
    if process.returncode:
        raise _Failed(error.decode(errors="replace").strip().rpartition("\n")[2][:200] or f"exit status {process.returncode}")
    return json.loads(out)


def _post(where: Where, tls: ssl.SSLContext, body: bytes) -> dict[str, Any]:
    """Ask the controller by HTTPS. Raises OSError."""
    connection = http.client.HTTPSConnection(*where, timeout=20, context=tls)
    try:
        connection.request("POST", "/renew", body, {"Content-Type": "application/json"})
        found = json.loads(connection.getresponse().read(_MOST_ANSWER))
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{where[0]}:{where[1]} does not answer as a controller does") from error
    finally:
        connection.close()
    return found if isinstance(found, dict) else {}
