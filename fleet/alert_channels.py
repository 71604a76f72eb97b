"""Where alerts go, and what they say there: webhooks as Standard Webhooks has them (standardwebhooks.com), e-mail. No I/O.

A notice becomes one body of JSON for each channel; it is kept with the alert's new state, so that it is the same at every try.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from enum import Enum
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from fleet.alert_rules import Id, Scope, Title, covers
from fleet.alerting import Alert, Notice
from fleet.errors import BadRequest
from runtime.telemetry import Severity

__all__ = ["Channel", "Item", "Mail", "Message", "Security", "Webhook", "check_channel", "mail", "message", "new_secret", "sign"]

_MOST_ITEMS = 100
_RANKS = list(Severity)
_PREFIX = "whsec_"


class _Closed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What nobody knows is refused."""


class Webhook(_Closed, frozen=True, kw_only=True, tag="webhook", tag_field="kind"):
    """A POST to this address."""

    url: Annotated[str, Meta(max_length=500)]


class Security(str, Enum):
    """How the way to the mail server is protected."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class Mail(_Closed, frozen=True, kw_only=True, tag="mail", tag_field="kind"):
    """A mail by this server. `password_file` is a name in the folder `secrets` of the controller's folder, "" without signing in."""

    to: Annotated[tuple[Annotated[str, Meta(max_length=254)], ...], Meta(min_length=1, max_length=50)]
    sender: Annotated[str, Meta(max_length=254)]
    host: Annotated[str, Meta(min_length=1, max_length=253)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 587
    security: Security = Security.STARTTLS
    user: Annotated[str, Meta(max_length=254)] = ""
    password_file: Annotated[str, Meta(pattern="^([A-Za-z0-9_-][A-Za-z0-9._-]{0,63})?$")] = ""


class Channel(_Closed, frozen=True, kw_only=True):
    """Who is told: alerts of boxes in `scope`, from `severity` on."""

    id: Id
    title: Title
    to: Webhook | Mail
    severity: Severity = Severity.WARNING
    scope: Scope = Scope()
    enabled: bool = True


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One alert of a message. Times are ISO 8601, "" for not yet."""

    id: str
    state: str  # firing, flapping, resolved
    severity: str
    device: str
    site: str
    model: str
    release: str
    subject: str
    text: str
    began: str
    fired: str
    resolved: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel is told. `state`: firing, resolved, or mixed; `more` is how many alerts are not in the list."""

    id: str
    fleet: str
    rule: str
    title: str
    severity: str
    state: str
    reminder: bool
    summary: str
    firing: int
    resolved: int
    sites: dict[str, int]
    alerts: list[Item]
    more: int
    console: str


def check_channel(channel: Channel) -> None:
    """Raises BadRequest, in one line."""
    to = channel.to
    if isinstance(to, Webhook):
        parts = urlsplit(to.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise BadRequest("a webhook's address is https://HOST/… without a user")
        return
    for address in (to.sender, *to.to):
        try:
            if "@" not in Address(addr_spec=address).addr_spec:
                raise ValueError(address)
        except (ValueError, IndexError, UnicodeError) as error:
            raise BadRequest(f"{address!r} is no mail address") from error
    if bool(to.user) != bool(to.password_file):
        raise BadRequest("user and password file belong together: give both or none")
    if to.user and to.security is Security.NONE:
        raise BadRequest("a password is not sent without protection: choose starttls or tls")


def message(notice: Notice, channel: Channel, fleet: str, console: str) -> Message | None:
    """What a channel is told of a notice; None if nothing of it is for this channel."""
    alerts = [
        alert
        for alert in notice.alerts
        if _RANKS.index(alert.severity) >= _RANKS.index(channel.severity)
        and covers(channel.scope, alert.device, alert.site, alert.model, alert.release)
    ]
    if not alerts or not channel.enabled:
        return None
    over = sum(1 for alert in alerts if alert.resolved)
    alerts.sort(key=lambda alert: (alert.resolved > 0, alert.site, alert.device, alert.subject))
    return Message(
        id=notice.id,
        fleet=fleet,
        rule=notice.rule,
        title=notice.title,
        severity=notice.severity.value,
        state="resolved" if over == len(alerts) else "mixed" if over else "firing",
        reminder=notice.reminder,
        summary=_summary(notice, alerts, over),
        firing=len(alerts) - over,
        resolved=over,
        sites=dict(sorted(Counter(alert.site for alert in alerts).items())),
        alerts=[_item(alert) for alert in alerts[:_MOST_ITEMS]],
        more=max(0, len(alerts) - _MOST_ITEMS),
        console=console,
    )


def _item(alert: Alert) -> Item:
    return Item(
        id=alert.id,
        state="resolved" if alert.resolved else "flapping" if alert.flapping else "firing",
        severity=alert.severity.value,
        device=alert.device,
        site=alert.site,
        model=alert.model,
        release=alert.release,
        subject=alert.subject,
        text=alert.text,
        began=_iso(alert.began),
        fired=_iso(alert.fired),
        resolved=_iso(alert.resolved),
    )


def _iso(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1000, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z") if ts else ""


def _summary(notice: Notice, alerts: Sequence[Alert], over: int) -> str:
    names, sites = {alert.device for alert in alerts}, {alert.site for alert in alerts}
    site = next(iter(sites))
    if len(names) == 1:
        where = f"{alerts[0].device} ({site})" if site else alerts[0].device
        details = {alert.text for alert in alerts}
        what = f": {next(iter(details))}" if len(details) == 1 and not over else f": {len(alerts)} alerts" if len(alerts) > 1 else ""
    else:
        where = f"{len(names)} boxes" + (f" of {site}" if len(sites) == 1 and site else f" of {len(sites)} sites" if len(sites) > 1 else "")
        what = ""
    flaps = sum(1 for alert in alerts if alert.flapping and not alert.resolved)
    if over == len(alerts):
        return f"Over: {notice.title}: {where}{what}"
    more = "; ".join(text for text in (f"{flaps} flapping" if flaps else "", f"{over} over" if over else "") if text)
    return f"{'Still: ' if notice.reminder else ''}{notice.title}: {where}{what}{f' ({more})' if more else ''}"


# --- webhook


def new_secret() -> str:
    """A key for signatures, as receivers' libraries take it."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, id: str, ts: int, body: bytes) -> dict[str, str]:  # noqa: A002
    """The headers of a webhook at `ts` (seconds): HMAC-SHA256 over id, time and body. Raises BadRequest for a secret that is none."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise BadRequest(f"a secret is {_PREFIX} and Base64") from error
    digest = hmac.new(key, f"{id}.{ts}.".encode() + body, hashlib.sha256).digest()
    return {"webhook-id": id, "webhook-timestamp": str(ts), "webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}


# --- e-mail


def mail(told: Message, to: Mail, now_ms: int, id: str) -> EmailMessage:  # noqa: A002
    """The mail: the subject says what and where, the text lists the boxes. The same `id` is the same mail; mails of a rule are a thread."""
    made = EmailMessage()
    word = {"firing": told.severity.upper(), "mixed": told.severity.upper(), "resolved": "OK"}[told.state]
    made["Subject"] = _line(f"[{told.fleet}] {word} {told.summary}")[:200]
    made["From"], made["To"] = to.sender, ", ".join(to.to)
    made["Date"] = format_datetime(datetime.fromtimestamp(now_ms / 1000, timezone.utc))
    domain = to.sender.rpartition("@")[2]
    made["Message-ID"] = f"<{id}@{domain}>"
    made["References"] = f"<rule-{told.rule}@{domain}>"
    made["Auto-Submitted"] = "auto-generated"
    lines = [told.summary, ""]
    for item in told.alerts:
        where = f"{item.device} ({item.site})" if item.site else item.device
        state = {"resolved": f"over since {item.resolved}", "flapping": "FLAPPING"}.get(item.state, "")
        lines.append(f"- {where}: {item.text}{f' - {state}' if state else ''} (since {item.began})")
    if told.more:
        lines.append(f"- and {told.more} more")
    made.set_content("\n".join([*lines, "", told.console, ""]))
    return made


def _line(text: str) -> str:
    """One line that says what it says: the word of a header that decodes to something else is broken up (RFC 2047)."""
    return " ".join(text.split()).replace("=?", "= ?")
