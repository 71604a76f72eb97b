"""`visavis` whose controller waits a third as long: for tests of several that are killed. What the waits mean is tested as rules."""

from __future__ import annotations

import sys
from functools import partial

from fleet import controller, lease, link
from visavis.cli import main


def hurry() -> None:
    """A lease of five seconds, and looks as often as `tests.fleet.support.Fleet` has them."""
    lease.LEASE_MS, lease._SURE_MS = 5_000, 4_000
    controller._DEAF_MS = 3_000
    link._RETRY_S = 0.1
    vars(controller)["Settings"] = partial(controller.Settings, ack_s=0.05, watch_s=0.2, lease_s=0.5)


if __name__ == "__main__":
    hurry()
    sys.exit(main())
