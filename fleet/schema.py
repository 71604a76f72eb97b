"""The tables of the store, in the SQL that fleet/database.py allows: it runs on SQLite and on PostgreSQL.

A new table or index is added to SCHEMA and that is all: stores that lack it get it when they are opened. A new column of a table that
a release has is added to SCHEMA *and*, with the next VERSION, to CHANGES.
"""

from __future__ import annotations

__all__ = ["CHANGES", "SCHEMA", "VERSION"]

VERSION = 3
CHANGES: dict[int, tuple[str, ...]] = {
    2: ("ALTER TABLE event ADD COLUMN late INTEGER NOT NULL DEFAULT 0",),
    3: ("ALTER TABLE device ADD COLUMN marks TEXT NOT NULL DEFAULT '{}'",),
}
"""By version: the statements (ALTER TABLE … ADD COLUMN …) that turn a store of the version before into one of this."""
SCHEMA = """
CREATE TABLE device (
  name TEXT PRIMARY KEY, state TEXT NOT NULL, since INTEGER NOT NULL, seen INTEGER NOT NULL, created INTEGER NOT NULL,
  born INTEGER NOT NULL DEFAULT 0, birth TEXT NOT NULL DEFAULT '{}', site TEXT NOT NULL DEFAULT '', model TEXT NOT NULL DEFAULT '',
  release TEXT NOT NULL DEFAULT '', health_s REAL NOT NULL DEFAULT 0, health TEXT NOT NULL DEFAULT '{}',
  health_ts INTEGER NOT NULL DEFAULT 0, state_of_health TEXT NOT NULL DEFAULT 'unknown', reported TEXT NOT NULL DEFAULT '{}',
  reported_version INTEGER NOT NULL DEFAULT 0, marks TEXT NOT NULL DEFAULT '{}');
CREATE TABLE certificate (
  serial TEXT PRIMARY KEY, device TEXT NOT NULL, issued INTEGER NOT NULL, expires INTEGER NOT NULL, revoked INTEGER,
  applied INTEGER NOT NULL DEFAULT 0);
CREATE INDEX certificate_device ON certificate (device);
CREATE TABLE seen (
  device TEXT NOT NULL, boot TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (device, boot, first)
) WITHOUT ROWID;
CREATE TABLE series (id INTEGER PRIMARY KEY, device TEXT NOT NULL, metric TEXT NOT NULL, UNIQUE (device, metric));
CREATE TABLE raw (series INTEGER NOT NULL, ts INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY (series, ts)) WITHOUT ROWID;
CREATE TABLE five_minutes (
  series INTEGER NOT NULL, ts INTEGER NOT NULL, low REAL NOT NULL, high REAL NOT NULL, total REAL NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (series, ts)) WITHOUT ROWID;
CREATE TABLE hour (
  series INTEGER NOT NULL, ts INTEGER NOT NULL, low REAL NOT NULL, high REAL NOT NULL, total REAL NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (series, ts)) WITHOUT ROWID;
CREATE TABLE event (
  id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, boot TEXT NOT NULL, seq INTEGER NOT NULL, ts INTEGER NOT NULL,
  arrived INTEGER NOT NULL, code TEXT NOT NULL, severity TEXT NOT NULL, details TEXT NOT NULL, late INTEGER NOT NULL DEFAULT 0);
CREATE INDEX event_ts ON event (ts);
CREATE INDEX event_code ON event (code, ts);
CREATE INDEX event_device ON event (device, ts);
CREATE TABLE command (
  id TEXT PRIMARY KEY, device TEXT NOT NULL, name TEXT NOT NULL, args TEXT NOT NULL, author TEXT NOT NULL, issued INTEGER NOT NULL,
  expires INTEGER NOT NULL, state TEXT NOT NULL, outcome TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
  result TEXT NOT NULL DEFAULT '{}', answered INTEGER NOT NULL DEFAULT 0, took_ms INTEGER NOT NULL DEFAULT 0);
CREATE INDEX command_device ON command (device, issued);
CREATE INDEX command_open ON command (state, expires);
CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT, ts INTEGER NOT NULL, author TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL,
  details TEXT NOT NULL, address TEXT NOT NULL);
CREATE TABLE memo (name TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE renewal (
  fingerprint TEXT PRIMARY KEY, device TEXT NOT NULL, asked INTEGER NOT NULL, state TEXT NOT NULL, certificate TEXT NOT NULL,
  request TEXT NOT NULL, ended INTEGER NOT NULL, address TEXT NOT NULL, author TEXT NOT NULL);
CREATE INDEX renewal_device ON renewal (device, asked);
CREATE TABLE scope (owner TEXT NOT NULL, rule TEXT NOT NULL, PRIMARY KEY (owner, rule));
CREATE TABLE federated (
  issuer TEXT NOT NULL, subject TEXT NOT NULL, account TEXT NOT NULL, PRIMARY KEY (issuer, subject));
CREATE TABLE ticket (digest TEXT PRIMARY KEY, until INTEGER NOT NULL);
CREATE TABLE place (device TEXT PRIMARY KEY, latitude REAL NOT NULL, longitude REAL NOT NULL);
CREATE TABLE account (
  name TEXT PRIMARY KEY, role TEXT NOT NULL, password TEXT NOT NULL, created INTEGER NOT NULL, disabled INTEGER NOT NULL DEFAULT 0);
CREATE TABLE session (digest TEXT PRIMARY KEY, account TEXT NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE TABLE token (
  id INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE, title TEXT NOT NULL, role TEXT NOT NULL, author TEXT NOT NULL,
  created INTEGER NOT NULL, expires INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0);
CREATE INDEX series_metric ON series (metric);
CREATE TABLE alert_turn (id INTEGER PRIMARY KEY, turn INTEGER NOT NULL);
CREATE TABLE alert_track (
  rule TEXT NOT NULL, device TEXT NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (rule, device, subject));
CREATE TABLE alert_pace (rule TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE alert (
  id TEXT PRIMARY KEY, rule TEXT NOT NULL, title TEXT NOT NULL, severity TEXT NOT NULL, device TEXT NOT NULL, subject TEXT NOT NULL,
  site TEXT NOT NULL, model TEXT NOT NULL, release TEXT NOT NULL, text TEXT NOT NULL, began INTEGER NOT NULL, fired INTEGER NOT NULL,
  resolved INTEGER NOT NULL, flapping INTEGER NOT NULL, changed INTEGER NOT NULL, told TEXT NOT NULL, told_at INTEGER NOT NULL,
  acknowledged INTEGER NOT NULL DEFAULT 0, acknowledged_by TEXT NOT NULL DEFAULT '');
CREATE INDEX alert_resolved ON alert (resolved, fired);
CREATE INDEX alert_fired ON alert (fired);
CREATE INDEX alert_device ON alert (device, fired);
CREATE TABLE alert_note (
  id INTEGER PRIMARY KEY AUTOINCREMENT, about TEXT NOT NULL, ts INTEGER NOT NULL, author TEXT NOT NULL, action TEXT NOT NULL,
  text TEXT NOT NULL);
CREATE INDEX alert_note_about ON alert_note (about, ts);
CREATE TABLE alert_silence (
  rule TEXT NOT NULL, device TEXT NOT NULL, subject TEXT NOT NULL, until INTEGER NOT NULL, author TEXT NOT NULL,
  PRIMARY KEY (rule, device, subject));
CREATE TABLE alert_rule (id TEXT PRIMARY KEY, body TEXT NOT NULL, author TEXT NOT NULL, changed INTEGER NOT NULL);
CREATE TABLE alert_window (id TEXT PRIMARY KEY, body TEXT NOT NULL, author TEXT NOT NULL, changed INTEGER NOT NULL);
CREATE TABLE alert_channel (
  id TEXT PRIMARY KEY, body TEXT NOT NULL, secret TEXT NOT NULL, author TEXT NOT NULL, changed INTEGER NOT NULL);
CREATE TABLE alert_delivery (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, channel TEXT NOT NULL, created INTEGER NOT NULL, body TEXT NOT NULL,
  due INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'queued', attempts INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
  ended INTEGER NOT NULL DEFAULT 0);
CREATE INDEX alert_delivery_state ON alert_delivery (state, due);
CREATE INDEX alert_delivery_channel ON alert_delivery (channel, id);
CREATE TABLE desired (
  device TEXT PRIMARY KEY, own TEXT NOT NULL, wanted TEXT NOT NULL, origin TEXT NOT NULL, version INTEGER NOT NULL,
  changed INTEGER NOT NULL);
CREATE TABLE desired_group (
  name TEXT PRIMARY KEY, priority INTEGER NOT NULL, selection TEXT NOT NULL, settings TEXT NOT NULL, author TEXT NOT NULL,
  changed INTEGER NOT NULL);
CREATE TABLE job (
  id TEXT PRIMARY KEY, author TEXT NOT NULL, created INTEGER NOT NULL, changed INTEGER NOT NULL, state TEXT NOT NULL,
  alive INTEGER NOT NULL, spec TEXT NOT NULL, progress TEXT NOT NULL);
CREATE INDEX job_alive ON job (alive);
CREATE INDEX job_created ON job (created);
CREATE TABLE job_box (
  job TEXT NOT NULL, device TEXT NOT NULL, phase INTEGER NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL,
  since INTEGER NOT NULL, reason TEXT NOT NULL, command TEXT NOT NULL, version INTEGER NOT NULL, awaited INTEGER NOT NULL,
  PRIMARY KEY (job, device)) WITHOUT ROWID;
CREATE INDEX job_box_awaited ON job_box (awaited, job);
CREATE INDEX job_box_device ON job_box (device);
"""
