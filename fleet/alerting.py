"""What becomes of what is seen: alerts that begin, flap and end, and who is told how much of it at once. Pure; wall times are ms.

- `step`: one subject of a rule. Quiet → pending → firing → quiet; between limit and clear limit, and where nothing is known, it stays.
- `gather`: alerts that have news, as notices. Alerts of one rule and site that begin together are one notice; a rule makes at most
  MOST notices in BUDGET_MS, and when many sites have news at once they are one notice too, so that there is no storm whatever happens.

The caller commits what both return in one transaction, and what is told to whom with it; after a crash it begins from what was
committed and comes to the same end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from enum import Enum

import msgspec

from fleet.alert_rules import Missing, Rule
from runtime.telemetry import Severity

__all__ = ["BUDGET_MS", "GAP_MS", "MOST", "WAIT_MS", "Alert", "Did", "Key", "Notice", "Pace", "Phase", "Seen", "Told", "Track", "end",
           "gather", "quiet", "step"]  # fmt: skip

WAIT_MS = 30_000
"""News waits so long for more of the same site: wills of a site that lost its line come within seconds of each other."""
GAP_MS = 5 * 60_000
"""Between two notices of a rule for one site."""
MOST, BUDGET_MS = 5, 10 * 60_000
"""A rule tells so often at most within this time; then everything that is due becomes one notice."""

Key = tuple[str, str, str]
"""Rule, box, subject (a metric, or "")."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a subject. Neither `holds` nor `clear`: between the limits. `since` is when it began to hold, 0 if only now.

    `bounced`: it came and went unseen since the last look. `text` is what a person reads.
    """

    known: bool = True
    holds: bool = False
    clear: bool = False
    since: int = 0
    bounced: int = 0
    text: str = ""


class Phase(str, Enum):
    """Where a subject of a rule is."""

    QUIET = "quiet"
    PENDING = "pending"
    FIRING = "firing"


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a subject. `since`: when it began to hold; `well`: while firing, since when it no longer holds, or 0;
    `turns`: when it came lately; `alert`: the alert's id while firing.
    """

    phase: Phase = Phase.QUIET
    holding: bool = False
    since: int = 0
    well: int = 0
    turns: tuple[int, ...] = ()
    flapping: bool = False
    alert: str = ""


class Did(str, Enum):
    """What a step did."""

    NOTHING = ""
    FIRED = "fired"
    FLAPPING = "flapping"
    RESOLVED = "resolved"


class Told(str, Enum):
    """What people last heard of an alert."""

    NOTHING = ""
    FIRING = "firing"
    FLAPPING = "flapping"
    RESOLVED = "resolved"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert. `began` is when it began to hold, `fired` when it became an alert, `resolved` when it was over, or 0.

    `changed` is when there was last something to tell, `told` what was told last and `told_at` when.
    """

    id: str
    rule: str
    title: str
    severity: Severity
    device: str
    subject: str
    site: str
    model: str
    release: str
    text: str
    began: int
    fired: int
    resolved: int = 0
    flapping: bool = False
    changed: int = 0
    told: Told = Told.NOTHING
    told_at: int = 0


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is told at once: alerts of one rule with news (or a reminder of old ones). The same id is the same notice."""

    id: str
    rule: str
    title: str
    severity: Severity
    ts: int
    reminder: bool
    alerts: tuple[Alert, ...]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often a rule told something lately: by site, and when."""

    sites: dict[str, int] = {}
    recent: tuple[int, ...] = ()


def quiet(track: Track) -> bool:
    """Whether there is nothing to remember."""
    return track.phase is Phase.QUIET and not track.turns and not track.holding


def step(rule: Rule, track: Track, seen: Seen, key: Key, now: int) -> tuple[Track, Did]:
    """One look at a subject at `now`; `key` names it in the id of an alert that begins."""
    window = rule.flap_s * 1000
    turns = tuple(turn for turn in track.turns if turn > now - window)
    if not seen.known:
        # For how long it held cannot be said any more; whether an alert is over, neither.
        if track.phase is Phase.FIRING:
            return msgspec.structs.replace(track, turns=turns, well=0), Did.NOTHING
        return Track(turns=turns), Did.NOTHING
    holding = True if seen.holds else False if seen.clear else track.holding
    rose = holding and not track.holding
    since = (min(seen.since or now, now) if rose or seen.bounced else track.since) if holding else 0
    if isinstance(rule.when, Missing):
        turns = _turned(turns, rule, now, int(rose) + seen.bounced)
    flapping = rule.flaps > 0 and len(turns) >= rule.flaps
    if track.phase is not Phase.FIRING:
        ripe = holding and now - since >= rule.for_s * 1000
        if not ripe and not flapping:
            return Track(phase=Phase.PENDING if holding else Phase.QUIET, holding=holding, since=since, turns=turns), Did.NOTHING
        if not isinstance(rule.when, Missing):
            turns = _turned(turns, rule, now, 1)
            flapping = rule.flaps > 0 and len(turns) >= rule.flaps
        began = since or now
        fired = Track(
            phase=Phase.FIRING,
            holding=holding,
            since=began,
            well=0 if holding else now,
            turns=turns,
            flapping=flapping,
            alert=_id(*key, str(began), str(now)),
        )
        return fired, Did.FIRED
    well = 0 if holding else track.well or now
    if not holding and now - well >= (window // 2 if track.flapping or flapping else rule.clear_s * 1000):
        # What flapped and then was well for so long begins anew; else its turns count on.
        return Track(turns=() if track.flapping else turns), Did.RESOLVED
    did = Did.FLAPPING if flapping and not track.flapping else Did.NOTHING
    return msgspec.structs.replace(track, holding=holding, well=well, turns=turns, flapping=track.flapping or flapping), did


def end(track: Track) -> tuple[Track, Did]:
    """The rule no longer looks at this subject: it was changed or deleted, or the box is no longer meant."""
    return Track(), Did.RESOLVED if track.phase is Phase.FIRING else Did.NOTHING


def _turned(turns: tuple[int, ...], rule: Rule, now: int, count: int) -> tuple[int, ...]:
    return (*turns, *(now for _ in range(count)))[-rule.flaps :] if rule.flaps else ()


def _id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


# --- telling


def news(alert: Alert) -> Told:
    """What is to be told of an alert; NOTHING if all is told."""
    if alert.resolved:
        return Told.RESOLVED if alert.told in (Told.FIRING, Told.FLAPPING) else Told.NOTHING
    wanted = Told.FLAPPING if alert.flapping else Told.FIRING
    return wanted if alert.told is not wanted else Told.NOTHING


def gather(
    alerts: Iterable[Alert],
    rules: Mapping[str, Rule],
    paces: Mapping[str, Pace],
    muted: Callable[[Alert], bool],
    acknowledged: Callable[[Alert], bool],
    now: int,
) -> tuple[list[Notice], dict[str, Pace]]:
    """The notices that are due at `now`, and the paces that they change. Whoever tells a notice sets `told` of its alerts."""
    due: dict[str, dict[str, list[Alert]]] = {}
    reminders: dict[str, list[Alert]] = {}
    for alert in alerts:
        if muted(alert):
            continue
        if news(alert) is not Told.NOTHING:
            due.setdefault(alert.rule, {}).setdefault(alert.site, []).append(alert)
        elif _to_remind(alert, rules.get(alert.rule), now) and not acknowledged(alert):
            reminders.setdefault(alert.rule, []).append(alert)
    notices: list[Notice] = []
    changed: dict[str, Pace] = {}
    for rule in sorted(due.keys() | reminders.keys()):
        pace = paces.get(rule, Pace())
        recent = tuple(ts for ts in pace.recent if now - ts < BUDGET_MS)
        sites = {site: last for site, last in pace.sites.items() if now - last < GAP_MS}
        ready = [site for site, found in sorted(due.get(rule, {}).items()) if site not in sites and _waited(found, now)]
        room = MOST - len(recent)
        if room <= 0:
            continue
        groups = [due[rule][site] for site in ready]
        if len(groups) > max(1, room // 2):
            groups = [[alert for found in groups for alert in found]]
        made = [_notice(group, now, reminder=False) for group in groups]
        if rule in reminders and len(made) < room:
            made.append(_notice(reminders[rule], now, reminder=True))
        if made:
            notices += made
            changed[rule] = Pace(sites=sites | dict.fromkeys(ready, now), recent=(*recent, *(now for _ in made)))
    return notices, changed


def _waited(found: list[Alert], now: int) -> bool:
    return now - min(alert.changed for alert in found) >= WAIT_MS


def _to_remind(alert: Alert, rule: Rule | None, now: int) -> bool:
    return rule is not None and rule.remind_s > 0 and not alert.resolved and now - alert.told_at >= rule.remind_s * 1000


def _notice(alerts: list[Alert], now: int, *, reminder: bool) -> Notice:
    first = alerts[0]
    severity = Severity.ERROR if any(alert.severity is Severity.ERROR for alert in alerts) else first.severity
    ids = [f"{alert.id}{news(alert).value}" for alert in alerts]
    return Notice(
        id=_id(*ids, str(now)),
        rule=first.rule,
        title=first.title,
        severity=severity,
        ts=now,
        reminder=reminder,
        alerts=tuple(alerts),
    )
