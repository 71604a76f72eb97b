"""The fleet's other end: a broker, a store, a REST API and a console for a chain of boxes.

`controller.Controller` puts the parts together: `authority` signs certificates, `broker` keeps mosquitto running, `link` is the
controller's own connection, `ingest` takes what boxes say into the `store`, `server` shows it. Of the kiosk it knows the contract
(`runtime.telemetry`) and nothing else.
"""

from __future__ import annotations
