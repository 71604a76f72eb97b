"""Simulated boxes: thousands of honest ones in one process, on our own MQTT 5 client, for load and proof (`visavis fleet simulate`).

Honest means: a certificate and a TLS session each, the rules of the real uplink (`runtime.telemetry.uplink`: reconnects with jitter,
window, resending, back-fill), a message kept until the controller acknowledges it, a command done once. What differs from a real box
is said here: the outbox is in memory, and the machine below it is invented (`plausible`).
"""

from __future__ import annotations
