"""Keys of Redis that a fault may delete, by what they are; UID is the scan's."""

from typing import Final

__all__ = ["KEYS"]

KEYS: Final[dict[str, str]] = {
    "announcements": "scanbus:scans",
    "events": "scanbus:{UID}:events",
    "heartbeat": "scanbus:{UID}:publisher",
    "lane of frames": "scanbus:{UID:eiger}:lane",
    "lane of values": "scanbus:{UID:g}:lane",
    "cursors": "scanbus:{UID:eiger}:cursors",
    "reserved": "scanbus:reserved",
    "fence": "scanbus:{UID}:fence",
    "leases": "scanbus:{UID}:lease:*",
    "position": "scanbus:position",
    "attempts": "scanbus:{UID}:attempts",
    "writers": "scanbus:writers",
}
