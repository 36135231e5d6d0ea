"""Heartbeat intervals, lease durations and their expiry. Pure constants.

The only place of these numbers: publishers, writers and subscribers must agree on them.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "HEARTBEATS_TO_LAPSE",
    "HEARTBEAT_S",
    "HEARTBEAT_TTL_MS",
    "LEASE_S",
    "LONGEST_TTL_MS",
]

HEARTBEAT_S: Final = 2.0
"""Heartbeat interval of publishers, and the default of writers, in seconds."""
HEARTBEATS_TO_LAPSE: Final = 5
"""Consecutive missing heartbeats after which a process counts as gone."""
HEARTBEAT_TTL_MS: Final = int(HEARTBEATS_TO_LAPSE * HEARTBEAT_S * 1000)
"""Time after which a publisher's heartbeat expires, in milliseconds."""
LEASE_S: Final = 10.0
"""Default lease duration in seconds; after it another writer may take over the scan."""
LONGEST_TTL_MS: Final = 60_000
"""Longest time to live of a heartbeat or hold, in milliseconds."""
