"""One turn of the evaluator: look at what changed, step what is watched, tell what is due, commit it all at once.

A box is looked at again when its row changed or one of its subjects is remembered; what is costly to ask (metrics not told, changes) is
asked once a minute. For one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fleet import alert_store as store
from fleet import alert_watch as watch
from fleet.alert_channels import message
from fleet.alert_rules import Change, Events, Missing, Rule, Stale, Threshold, covers, silent
from fleet.alert_store import Changes, Delivery, Plan, State
from fleet.alert_watch import UNKNOWN, Box
from fleet.alerting import Alert, Did, Key, Notice, Pace, Seen, Told, Track, end, gather, news, quiet, step
from fleet.database import Database

__all__ = ["Evaluator"]

_SLOW_MS = 60_000


class Evaluator:
    """Decides who is told what. `fleet` and `console` are named in messages; `device_changed` hears of boxes whose alerts changed."""

    def __init__(self, db: Database, fleet: str, console: str) -> None:
        self._db, self._fleet, self._console = db, fleet, console
        self._state: State | None = None
        self._boxes: dict[str, Box] = {}
        self._rules: dict[str, Rule] = {}
        self._listening, self._slow = False, 0

    def forget(self) -> None:
        """Begin from what is committed: somebody else may have had the turn, or a commit may have failed."""
        self._state = None

    def turn(self, now: int, listening: bool) -> set[str]:
        """One turn at `now`; `listening` is whether boxes have had time to be heard. Returns the boxes whose alerts changed.

        Raises Unavailable; then nothing happened, or it is found at the next turn.
        """
        first = self._state is None
        state = self._state or store.load(self._db)
        self._state = None  # until this turn is committed
        plan = store.plan(self._db, now)
        boxes = store.boxes(self._db)
        every = first or plan.rules != self._rules or listening != self._listening
        changed = set(boxes) if every else {name for name, box in boxes.items() if self._boxes.get(name) != box}
        slow = every or now - self._slow >= _SLOW_MS
        looks = _Looks(self._db, boxes, self._boxes, changed, now, listening)
        done = Changes()
        for rule in plan.rules.values():
            tracks = state.tracks.setdefault(rule.id, {})
            self._end(state, done, rule, tracks, boxes, now)
            if rule.enabled and (slow or not isinstance(rule.when, (Stale, Change))):
                for (device, subject), seen in looks.of(rule, tracks).items():
                    self._step(state, done, rule, boxes[device], subject, seen, now)
        for gone in state.tracks.keys() - plan.rules.keys():
            self._end(state, done, None, state.tracks.pop(gone), boxes, now, gone)
        self._tell(state, done, plan, now)
        if done and not store.commit(self._db, state.turn, done, now):
            return set()
        state.turn += bool(done)
        self._state, self._boxes, self._rules, self._listening = state, boxes, plan.rules, listening
        self._slow = now if slow else self._slow
        return {alert.device for alert in done.alerts.values()}

    def _end(
        self,
        state: State,
        done: Changes,
        rule: Rule | None,
        tracks: dict[tuple[str, str], Track],
        boxes: dict[str, Box],
        now: int,
        gone: str = "",
    ) -> None:
        """Subjects that the rule no longer looks at."""
        for device, subject in list(tracks):
            box = boxes.get(device)
            if rule is not None and rule.enabled and box is not None and watch.meant(rule, box):
                continue
            key = (rule.id if rule else gone, device, subject)
            _, did = end(tracks.pop((device, subject)))
            done.tracks[key] = None
            if did is Did.RESOLVED:
                self._resolve(state, done, key, now)

    def _step(self, state: State, done: Changes, rule: Rule, box: Box, subject: str, seen: Seen, now: int) -> None:
        key = (rule.id, box.name, subject)
        tracks = state.tracks[rule.id]
        before = tracks.get((box.name, subject), Track())
        after, did = step(rule, before, seen, key, now)
        if after != before:
            if quiet(after):
                tracks.pop((box.name, subject), None)
                done.tracks[key] = None
            else:
                tracks[box.name, subject] = done.tracks[key] = after
        if did is Did.FIRED:
            alert = _alert(rule, box, subject, seen, after, now)
            state.alerts[key] = done.alerts[alert.id] = alert
        elif did is Did.FLAPPING:
            alert = msgspec.structs.replace(state.alerts[key], flapping=True, changed=now)
            state.alerts[key] = done.alerts[alert.id] = alert
        elif did is Did.RESOLVED:
            self._resolve(state, done, key, now)

    def _resolve(self, state: State, done: Changes, key: Key, now: int) -> None:
        alert = msgspec.structs.replace(state.alerts.pop(key), resolved=now, changed=now)
        done.alerts[alert.id] = alert
        if news(alert) is not Told.NOTHING:
            state.untold.append(alert)

    # --- telling

    def _tell(self, state: State, done: Changes, plan: Plan, now: int) -> None:
        windows = [window for window in plan.windows if silent(window, now)]

        def muted(alert: Alert) -> bool:
            if plan.silences.get((alert.rule, alert.device, alert.subject), 0) > now:
                return True
            return any(covers(window.scope, alert.device, alert.site, alert.model, alert.release) for window in windows)

        open_ = [*state.alerts.values(), *state.untold]
        notices, paces = gather(open_, plan.rules, state.paces, muted, lambda alert: alert.id in plan.acknowledged, now)
        for notice in notices:
            self._note(state, done, notice, now)
            done.deliveries += self._deliveries(notice, plan)
        state.paces |= paces
        done.paces |= paces
        for rule in state.paces.keys() - plan.rules.keys() - {alert.rule for alert in open_}:
            state.paces[rule] = done.paces[rule] = Pace()

    def _note(self, state: State, done: Changes, notice: Notice, now: int) -> None:
        for old in notice.alerts:
            told = news(old)
            alert = msgspec.structs.replace(old, told=told if told is not Told.NOTHING else old.told, told_at=now)
            done.alerts[alert.id] = alert
            if alert.resolved:
                state.untold.remove(old)
            else:
                state.alerts[alert.rule, alert.device, alert.subject] = alert

    def _deliveries(self, notice: Notice, plan: Plan) -> Iterable[Delivery]:
        for channel in plan.channels:
            told = message(notice, channel, self._fleet, self._console)
            if told is not None:
                yield Delivery(key=f"{notice.id}.{channel.id}", channel=channel.id, body=msgspec.json.encode(told))


def _alert(rule: Rule, box: Box, subject: str, seen: Seen, track: Track, now: int) -> Alert:
    return Alert(
        id=track.alert,
        rule=rule.id,
        title=rule.title,
        severity=rule.severity,
        device=box.name,
        subject=subject,
        site=box.site,
        model=box.model,
        release=box.release,
        text=seen.text,
        began=track.since,
        fired=now,
        flapping=track.flapping,
        changed=now,
    )


class _Looks:
    """The looks of one turn; asks the store only for what a rule needs."""

    def __init__(self, db: Database, boxes: dict[str, Box], before: dict[str, Box], changed: set[str], now: int, listening: bool) -> None:
        self._db, self._boxes, self._before, self._changed, self._now, self._listening = db, boxes, before, changed, now, listening
        self._healths: dict[str, dict[str, object]] = {}

    def of(self, rule: Rule, tracks: dict[tuple[str, str], Track]) -> dict[tuple[str, str], Seen]:
        """By box and subject: what changed, what holds and what is remembered."""
        when = rule.when
        if isinstance(when, Missing):
            found = self._missing(when, tracks)
        elif isinstance(when, Threshold):
            found = self._thresholds(when, tracks, rule)
        elif isinstance(when, Events):
            counts = store.event_counts(self._db, when.codes, self._now - when.within_s * 1000)
            names = counts.keys() | {device for device, _ in tracks}
            found = {(name, ""): watch.count(when, counts.get(name, 0)) for name in names}
        elif isinstance(when, Stale):
            last = store.latest(self._db, when.metric)
            found = {
                (name, when.metric): watch.stale(rule, when, self._boxes[name], ts, self._now)
                for name, ts in last.items()
                if name in self._boxes
            }
        else:
            found = self._changes(when, tracks)
        return {
            key: seen
            for key, seen in found.items()
            if (seen.holds or seen.bounced or key in tracks) and key[0] in self._boxes and watch.meant(rule, self._boxes[key[0]])
        }

    def _missing(self, when: Missing, tracks: dict[tuple[str, str], Track]) -> dict[tuple[str, str], Seen]:
        found = {}
        for name in self._changed | {device for device, _ in tracks}:
            box, before = self._boxes[name], self._before.get(name)
            moved = before is not None and before.since != box.since
            bounced = store.bounces(self._db, box, before.since, when.states) if before is not None and moved else 0
            found[name, ""] = watch.missing(when, box, bounced, self._listening)
        return found

    def _thresholds(self, when: Threshold, tracks: dict[tuple[str, str], Track], rule: Rule) -> dict[tuple[str, str], Seen]:
        known: dict[str, set[str]] = {}
        for device, subject in tracks:
            known.setdefault(device, set()).add(subject)
        names = {name for name in self._changed if watch.meant(rule, self._boxes[name])} | known.keys()
        missing = {name for name in names if name not in self._healths and watch.fresh(self._boxes[name], self._now)}
        self._healths |= store.healths(self._db, missing)
        found = {}
        for name in names:
            health = self._healths.get(name, {})
            for subject, seen in watch.thresholds(when, self._boxes[name], health, known.get(name, set()), self._now).items():
                found[name, subject] = seen
        return found

    def _changes(self, when: Change, tracks: dict[tuple[str, str], Track]) -> dict[tuple[str, str], Seen]:
        found: dict[tuple[str, str], Seen] = dict.fromkeys(tracks, UNKNOWN)
        for name, metric, before, value in store.readings(self._db, when.metric, self._now - when.within_s * 1000):
            box = self._boxes.get(name)
            if box is not None and watch.fresh(box, self._now):
                found[name, metric] = watch.change(when, metric, before, value)
        return found
