"""Deliveries: each message is sent until its channel takes it, in order, with pauses that grow; then it is given up and said.

A message has the same name at every try (`webhook-id`, Message-ID): a try that the channel took but whose answer was lost, or that was
cut off by a crash, is made again under that name. A webhook that heeds it does each thing once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import smtplib
import ssl
from collections.abc import Callable, Coroutine
from email.message import EmailMessage
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec

from fleet.alert_channels import Channel, Mail, Message, Security, Webhook, mail, sign
from fleet.database import Database
from fleet.errors import BadRequest, Unavailable
from fleet.live import ALERTS

__all__ = ["GIVE_UP_MS", "LAST_REFUSED", "Due", "Sender", "due", "pause_ms", "send_mail"]

log = logging.getLogger("fleet")

GIVE_UP_MS = 24 * 3_600_000
"""What a channel did not take for so long is given up: an alert of yesterday helps nobody."""
LAST_REFUSED = 5
"""Tries of a message that the channel says it will never take (4xx but 408, 425 and 429; 5xx of mail servers)."""
_CLAIM_MS, _TIMEOUT_S = 120_000, 20.0
_FIRST_MS, _LONGEST_MS = 5_000, 300_000
_LATER = {408, 425, 429}


class Due(NamedTuple):
    """A delivery whose turn it is: the oldest of its channel."""

    id: int
    name: str
    channel: str
    created: int
    body: bytes
    attempts: int


class _Refused(Exception):
    """The channel says that it will never take this."""


def due(db: Database, now_ms: int) -> list[Due]:
    """The oldest queued delivery of each channel, where its time has come."""
    heads = "SELECT min(id) FROM alert_delivery WHERE state = 'queued' GROUP BY channel"
    sql = f"SELECT id, name, channel, created, body, attempts FROM alert_delivery WHERE id IN ({heads}) AND due <= ?"  # noqa: S608 - ours
    return [Due(row[0], row[1], row[2], row[3], str(row[4]).encode(), row[5]) for row in db.read(sql, now_ms)]


def pause_ms(attempts: int, chance: float) -> int:
    """How long to wait after so many tries: doubling from 5 s to 5 min, between half of it and all (`chance` of 0 to 1)."""
    longest = min(_LONGEST_MS, _FIRST_MS << min(attempts - 1, 10))
    return round(longest * (0.5 + chance / 2))


def _claim(db: Database, one: Due, now_ms: int) -> bool:
    """Whether this try is ours; until its result is noted nobody else makes one."""
    sql = "UPDATE alert_delivery SET attempts = attempts + 1, due = ? WHERE id = ? AND state = 'queued' AND attempts = ?"
    with db.write() as tx:
        return tx.count(sql, now_ms + _CLAIM_MS, one.id, one.attempts) == 1


def _note(db: Database, one: Due, state: str, due_ms: int, error: str, now_ms: int) -> None:
    text = error.encode(errors="replace").decode().replace("\0", "?")  # others' words: no store keeps lone surrogates, PostgreSQL no NUL
    sql = "UPDATE alert_delivery SET state = ?, due = ?, error = ?, ended = ? WHERE id = ? AND attempts = ?"
    with db.write() as tx:
        tx.run(sql, state, due_ms, text[:300], 0 if state == "queued" else now_ms, one.id, one.attempts + 1)


def _channel(db: Database, name: str) -> tuple[Channel, str] | None:
    rows = db.read("SELECT body, secret FROM alert_channel WHERE id = ?", name)
    return (msgspec.json.decode(rows[0][0], type=Channel), rows[0][1]) if rows else None


class Sender:
    """Sends what is due. `secrets` is the folder of password files, `now` the wall time in ms; `tell` hears ALERTS when something became
    of a message. For the asyncio loop.
    """

    def __init__(self, db: Database, secrets: Path, now: Callable[[], int], tell: Callable[[set[str]], None]) -> None:
        self._db, self._secrets, self._now, self._tell = db, secrets, now, tell
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def look(self) -> None:
        """Begin what is due; channels do not wait for each other. Raises Unavailable."""
        for name, task in list(self._busy.items()):
            if not task.done():
                continue
            del self._busy[name]
            failed = task.exception()
            if isinstance(failed, Unavailable):
                raise failed
            if failed is not None:  # its claim holds it back before it is tried again
                log.error("channel %s: a message is tried again later", name, exc_info=failed)
        for one in await asyncio.to_thread(due, self._db, self._now()):
            if one.channel not in self._busy:
                self._busy[one.channel] = asyncio.create_task(self._try(one))

    async def close(self) -> None:
        """End what is being sent; it will be sent again."""
        for task in self._busy.values():
            task.cancel()
        await asyncio.gather(*self._busy.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _try(self, one: Due) -> None:
        if not await asyncio.to_thread(_claim, self._db, one, self._now()):
            return
        found = await asyncio.to_thread(_channel, self._db, one.channel)
        if found is None or not found[0].enabled:
            await self._became(one, "given up", 0, "the channel is gone or turned off", self._now())
            return
        error, never, remark = "", False, ""
        try:
            remark = await asyncio.wait_for(self._send(one, *found), _TIMEOUT_S * 1.5)
        except _Refused as refused:
            error, never = str(refused), True
        except Unavailable:  # our store, not the channel
            raise
        except (OSError, aiohttp.ClientError, smtplib.SMTPException, asyncio.TimeoutError, BadRequest, ValueError) as failed:
            error = _line(failed)
        except Exception as failed:  # noqa: BLE001 - whatever this message is: it shall not stop the others
            error, never = _line(failed), True
        now = self._now()
        if not error:
            await self._became(one, "sent", 0, remark, now)
        elif now - one.created >= GIVE_UP_MS or (never and one.attempts + 1 >= LAST_REFUSED):
            await self._became(one, "given up", 0, error, now)
        else:
            await self._became(one, "queued", now + pause_ms(one.attempts + 1, random.random()), error, now)

    async def _became(self, one: Due, state: str, due_ms: int, error: str, now_ms: int) -> None:
        await asyncio.to_thread(_note, self._db, one, state, due_ms, error, now_ms)
        self._tell({ALERTS})

    def _send(self, one: Due, channel: Channel, secret: str) -> Coroutine[Any, Any, str]:
        if isinstance(channel.to, Webhook):
            return self._post(one, channel.to, secret)
        made = mail(msgspec.json.decode(one.body, type=Message), channel.to, one.created, one.name)
        return asyncio.to_thread(send_mail, channel.to, made, self._secrets)

    async def _post(self, one: Due, to: Webhook, secret: str) -> str:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "visavis-fleet",
            **sign(secret, one.name, self._now() // 1000, one.body),
        }
        async with self._session.post(to.url, data=one.body, headers=headers, allow_redirects=False) as answer:
            if 200 <= answer.status < 300:
                return ""
            text = f"it answers {answer.status} {answer.reason or ''}".strip()
            if 400 <= answer.status < 500 and answer.status not in _LATER:
                raise _Refused(text)
            raise OSError(text + (": give the address it leads to" if 300 <= answer.status < 400 else ""))


def send_mail(to: Mail, made: EmailMessage, secrets: Path) -> str:
    """Hand a mail to the server; blocks. Returns whom it did not take it for, "" if for all. Raises OSError, SMTPException, _Refused."""
    context = ssl.create_default_context()
    try:
        with _server(to, context) as server:
            if to.security is Security.STARTTLS:
                server.starttls(context=context)
            if to.user:
                server.login(to.user, _password(secrets / to.password_file))
            refused = server.send_message(made)
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        codes = [code for code, _ in error.recipients.values()] if isinstance(error, smtplib.SMTPRecipientsRefused) else [error.smtp_code]
        if all(code >= 500 for code in codes):
            raise _Refused(_line(error)) from error
        raise
    return f"not taken for {', '.join(refused)}" if refused else ""


def _server(to: Mail, context: ssl.SSLContext) -> smtplib.SMTP:
    if to.security is Security.TLS:
        return smtplib.SMTP_SSL(to.host, to.port, timeout=_TIMEOUT_S, context=context)
    return smtplib.SMTP(to.host, to.port, timeout=_TIMEOUT_S)


def _password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise OSError(f"the password file {path.name} in {path.parent} cannot be read: {error.strerror}") from error


def _line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())
