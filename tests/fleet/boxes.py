"""Boxes for tests of the store: what they say goes through the intake as if it had come from the broker."""

from __future__ import annotations

import itertools

import msgspec

import runtime.telemetry as t
from fleet.intake import Accepted, Intake

NOW = 1_790_000_000_000


class Boxes:
    """Says things as boxes do, at `now`; `wanted` is what each was sent last as settings."""

    def __init__(self, db):
        self.db, self.now, self._intake, self._seq = db, NOW, Intake(db), itertools.count(1)

    def say(self, device, kind, body, *, ts=None, hist=False):
        seq = 0 if kind is t.UpKind.STATUS else next(self._seq)
        moment = self.now if ts is None else ts
        envelope = t.Envelope(
            dev=device,
            boot="0" * 16,
            seq=seq,
            ts=moment,
            mono=1,
            clk=t.ClockState.SYNCED,
            kind=kind,
            hist=hist,
            body=msgspec.Raw(t.encode(body)),
        )
        return self._intake.commit([Accepted(device, envelope, body, moment, self.now)], self.now)

    def come(self, *names, **attributes):
        """Online, with attributes."""
        for name in names:
            self.say(name, t.UpKind.STATUS, t.Status(state="online"))
            birth = t.Birth(attributes={"site": "Bern", "model": "Orin", **attributes}, versions={"visavis": "1.2"}, health_s=3600)
            self.say(name, t.UpKind.BIRTH, birth)

    def go(self, *names):
        for name in names:
            self.say(name, t.UpKind.STATUS, t.Status(state="lost"))

    def report(self, name, version, reported, refused=None, **more):
        return self.say(name, t.UpKind.SHADOW, t.Reported(version=version, reported=reported, refused=refused or {}), **more)

    def queued(self, job=""):
        """Commands that wait to be sent: {box: id}."""
        return {
            row[0]: row[1]
            for row in self.db.read("SELECT device, id FROM command WHERE state = 'queued'")
            if not job or row[1].startswith(job)
        }

    def send(self):
        """The broker takes all that waits; returns the ids by box."""
        found = self.queued()
        with self.db.write() as tx:
            tx.run("UPDATE command SET state = 'sent' WHERE state = 'queued'")
        return found

    def answer(self, name, id_, outcome=t.Outcome.DONE, reason=""):
        self.say(name, t.UpKind.JOB, t.Answer(id=id_, name="ping", outcome=outcome, reason=reason))
