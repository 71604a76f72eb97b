"""A controller and what connects to it."""

from __future__ import annotations

import contextlib

import pytest

import runtime.telemetry.uplink as rules
from fleet import link
from fleet.database import open_database
from runtime.telemetry import box as uplink
from runtime.telemetry import outbox
from tests.fleet.postgres import cluster  # noqa: F401 - a fixture
from tests.fleet.support import Box, Fleet, Stranger


@pytest.fixture(scope="package", autouse=True)
def _soon():
    """Connections come at once, and a box's reports are not gathered for seconds: the waits themselves are tested as rules. For the whole
    package, because controllers of a module begin before any test does.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "FIRST_MS", 50)
        patch.setattr(rules, "BASE_MS", 100)
        patch.setattr(outbox, "GROUP_MS", 100)
        patch.setattr(uplink, "_TICK_S", 0.05)
        patch.setattr(link, "_RETRY_S", 0.1)
        yield


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.system)])
def db(request, tmp_path):
    """An empty store, of each kind: what uses it must hold on both."""
    file = contextlib.nullcontext(tmp_path / "fleet.db")
    with file if request.param == "sqlite" else request.getfixturevalue("cluster").corner() as where:
        made = open_database(where)
        yield made
        made.close()


@pytest.fixture
def fleet(tmp_path):
    """A running controller."""
    made = Fleet(tmp_path / "data")
    yield made
    if made.thread.is_alive():
        made.stop()


@pytest.fixture
def box(fleet, tmp_path):
    """Makes boxes with a real uplink, and ends them."""
    made = []

    def make(name="box-1", extra=""):
        made.append(Box(tmp_path / f"home-{name}", fleet.enrol(name), name, extra))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def stranger(fleet):
    """Makes bare clients with a box's certificate."""
    made = []

    def make(name="box-1", folder=None, **more):
        made.append(Stranger(fleet, folder or fleet.enrol(name), name, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()
