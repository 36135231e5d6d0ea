"""The names of everything that scanbus keeps in Redis.

On a Redis Cluster the braces decide where a key lives: what a script touches at once
shares them, and lanes spread over the nodes.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ANNOUNCEMENTS",
    "FORGOTTEN",
    "POSITION",
    "RESERVED",
    "WRITERS",
    "attempts_key",
    "cursors_key",
    "events_key",
    "fence_key",
    "heartbeat_key",
    "hold_key",
    "lane_key",
    "lease_key",
    "number_key",
    "writer_key",
]

ANNOUNCEMENTS: Final = "scanbus:scans"
"""Stream: one entry per scan."""
POSITION: Final = "scanbus:position"
"""String: id of the last announcement before which every scan has its verdict."""
FORGOTTEN: Final = "scanbus:forgotten"
"""String: id of the newest announcement that was removed, its scan being finished."""
RESERVED: Final = "scanbus:reserved"
"""Hash: scan uid to the bytes of its quota."""
WRITERS: Final = "scanbus:writers"
"""Hash: writer id to a JSON line on it; alive while its own key exists."""


def events_key(uid: str) -> str:
    """Stream of a scan's events."""
    return f"scanbus:{{{uid}}}:events"


def heartbeat_key(uid: str) -> str:
    """String that expires when the publisher is gone."""
    return f"scanbus:{{{uid}}}:publisher"


def fence_key(uid: str) -> str:
    """Counter of the leases given for a scan."""
    return f"scanbus:{{{uid}}}:fence"


def attempts_key(uid: str) -> str:
    """Counter of the attempts to write a scan that ended in a kill."""
    return f"scanbus:{{{uid}}}:attempts"


def lease_key(uid: str, fence: int | str) -> str:
    """String with the owner of one lease; expires when the owner is gone."""
    return f"scanbus:{{{uid}}}:lease:{fence}"


def hold_key(uid: str) -> str:
    """String that keeps a scan from being trimmed while it exists."""
    return f"scanbus:{{{uid}}}:hold"


def lane_key(uid: str, lane: str) -> str:
    """Stream of a lane's entries."""
    return f"scanbus:{{{uid}:{lane}}}:lane"


def cursors_key(uid: str, lane: str) -> str:
    """Hash: durable consumer to the first point that it does not have."""
    return f"scanbus:{{{uid}:{lane}}}:cursors"


def writer_key(writer: str) -> str:
    """String that expires when a writer is gone."""
    return f"scanbus:writer:{writer}"


def number_key(dataset: str) -> str:
    """Counter of the scan numbers given in a dataset."""
    return f"scanbus:number:{dataset}"
