"""How often signs of life are given, and how long they count. Pure constants.

The one home of these numbers: publishers, writers and whoever looks for them agree.
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
"""Heartbeat interval of publishers, and of writers unless they are set otherwise."""
HEARTBEATS_TO_LAPSE: Final = 5
"""A process counts as gone when so many heartbeats in a row are missing."""
HEARTBEAT_TTL_MS: Final = int(HEARTBEATS_TO_LAPSE * HEARTBEAT_S * 1000)
"""How long a publisher's heartbeat counts."""
LEASE_S: Final = 10.0
"""Lease duration, unless set otherwise: then another writer may take the scan over."""
LONGEST_TTL_MS: Final = 60_000
"""No heartbeat and no hold counts for longer than this without being renewed."""
