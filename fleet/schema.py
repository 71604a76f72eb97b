"""The tables of the store, in SQL that SQLite and PostgreSQL both take (after what database.py does to it)."""

from __future__ import annotations

__all__ = ["SCHEMA", "VERSION"]

VERSION = 1
SCHEMA = """
CREATE TABLE device (
  name TEXT PRIMARY KEY, state TEXT NOT NULL, since INTEGER NOT NULL, seen INTEGER NOT NULL, created INTEGER NOT NULL,
  born INTEGER NOT NULL DEFAULT 0, birth TEXT NOT NULL DEFAULT '{}', site TEXT NOT NULL DEFAULT '', model TEXT NOT NULL DEFAULT '',
  release TEXT NOT NULL DEFAULT '', health_s REAL NOT NULL DEFAULT 0, health TEXT NOT NULL DEFAULT '{}',
  health_ts INTEGER NOT NULL DEFAULT 0, state_of_health TEXT NOT NULL DEFAULT 'unknown', reported TEXT NOT NULL DEFAULT '{}',
  reported_version INTEGER NOT NULL DEFAULT 0);
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
  arrived INTEGER NOT NULL, code TEXT NOT NULL, severity TEXT NOT NULL, details TEXT NOT NULL);
CREATE INDEX event_ts ON event (ts);
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
CREATE TABLE account (
  name TEXT PRIMARY KEY, role TEXT NOT NULL, password TEXT NOT NULL, created INTEGER NOT NULL, disabled INTEGER NOT NULL DEFAULT 0);
CREATE TABLE session (digest TEXT PRIMARY KEY, account TEXT NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE TABLE token (
  id INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE, title TEXT NOT NULL, role TEXT NOT NULL, author TEXT NOT NULL,
  created INTEGER NOT NULL, expires INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0);
"""
