"""Names of all keys that scanbus uses in Redis.

On a Redis Cluster the part in braces (the hash tag) decides on which node a key is:
keys of a scan that one script uses share it, and lanes are spread over the nodes.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ANNOUNCEMENTS",
    "BUS_ID",
    "FORGOTTEN",
    "GATEWAYS",
    "NUMBER_REQUESTS",
    "POSITION",
    "RESERVED",
    "ROOT",
    "WRITERS",
    "attempts_key",
    "claim_key",
    "cursors_key",
    "events_key",
    "fence_key",
    "gateway_key",
    "heartbeat_key",
    "hold_key",
    "lane_key",
    "lease_key",
    "number_key",
    "raised_key",
    "session_key",
    "writer_key",
]

ANNOUNCEMENTS: Final = "scanbus:scans"
"""Stream: one entry per scan."""
POSITION: Final = "scanbus:position"
"""String: id of an announcement; every scan up to it has its final verdict."""
FORGOTTEN: Final = "scanbus:forgotten"
"""String: id of the newest announcement that was removed with its finished scan."""
NUMBER_REQUESTS: Final = "scanbus:requests"
"""Stream: questions about scan numbers that only the disk answers."""
RESERVED: Final = "scanbus:reserved"
"""Hash: scan uid to the bytes of its quota."""
ROOT: Final = "scanbus:root"
"""String: the root below which the scans are written, as JSON with its id."""
BUS_ID: Final = "scanbus:bus"
"""String: random id of this bus, by which a root knows whose beamlines it has."""
WRITERS: Final = "scanbus:writers"
"""Hash: writer id to its status as JSON; the writer is alive while its key exists."""

GATEWAYS: Final = "scanbus:gateways"
"""Hash: gateway to its status as JSON; it is alive while its own key exists."""


def events_key(uid: str) -> str:
    """Return the key of a scan's events: a stream."""
    return f"scanbus:{{{uid}}}:events"


def heartbeat_key(uid: str) -> str:
    """Return the key of a publisher's heartbeat: a string that expires."""
    return f"scanbus:{{{uid}}}:publisher"


def fence_key(uid: str) -> str:
    """Return the key of a scan's fence: a counter of its leases."""
    return f"scanbus:{{{uid}}}:fence"


def attempts_key(uid: str) -> str:
    """Return the key of the counter of attempts to write a scan that were killed."""
    return f"scanbus:{{{uid}}}:attempts"


def lease_key(uid: str, fence: int | str) -> str:
    """Return the key of one lease: a string with its owner that expires."""
    return f"scanbus:{{{uid}}}:lease:{fence}"


def hold_key(uid: str) -> str:
    """Return the key of a hold: a string; the scan is not trimmed while it exists."""
    return f"scanbus:{{{uid}}}:hold"


def lane_key(uid: str, lane: str) -> str:
    """Return the key of a lane: the stream of its entries."""
    return f"scanbus:{{{uid}:{lane}}}:lane"


def cursors_key(uid: str, lane: str) -> str:
    """Return the key of a lane's cursors.

    A hash: durable consumer to the first point that it does not have.
    """
    return f"scanbus:{{{uid}:{lane}}}:cursors"


def writer_key(writer: str) -> str:
    """Return the key of a writer's heartbeat: a string that expires."""
    return f"scanbus:writer:{writer}"


def gateway_key(gateway: str) -> str:
    """Return the key of a gateway's heartbeat: a string that expires."""
    return f"scanbus:gateway:{gateway}"


def number_key(dataset: str) -> str:
    """Return the key of a dataset's counter of scan numbers."""
    return f"scanbus:number:{dataset}"


def raised_key(dataset: str) -> str:
    """Return the key of a counter's raises: a hash, number to what it was before."""
    return f"scanbus:raised:{dataset}"


def claim_key(dataset: str, number: int | str) -> str:
    """Return the key of a claim: a string, the scan opened with a number; expires."""
    return f"scanbus:claim:{dataset}:{number}"


def session_key(proposal: str, beamline: str, collection: str, dataset: str) -> str:
    """Return the key of a dataset's session: a string, YYYYMMDD, that expires."""
    return f"scanbus:session:{proposal}/{beamline}/{collection}/{dataset}"
