"""How a publisher's threads reach Redis."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from scanbus.bus.store import KEPT_WHEN_FULL, Bus, Evictor, Freed, connect

__all__ = ["FULL", "Link"]

# How full Redis may stay after room was made.
FULL = 0.85


@dataclass(slots=True)
class Link:
    """How to reach Redis, and when to stop trying.

    Attributes
    ----------
    url : str
        Its address.
    name : str
        Name of the connections.
    maxmemory_bytes : int
        0 where no limit is set; as last seen.
    stop : threading.Event
        Set when the publisher closes for good.
    room : Evictor
        Knows what could be removed where Redis is full.
    """

    url: str
    name: str
    maxmemory_bytes: int
    stop: threading.Event
    room: Evictor = field(default_factory=Evictor)

    def make_room(self, client: Bus) -> Freed:
        """Free memory where Redis refuses data, as the writer would below that."""
        limit = int(self.maxmemory_bytes * FULL)
        if not limit:
            return Freed()
        return self.room.free(client, limit, kept_scans=KEPT_WHEN_FULL)

    def connect(self) -> Bus:
        """Return a client that connects once."""
        return connect(self.url, name=self.name, once=True)
