"""Connection parameters that a publisher's threads share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from scanbus.bus.store import KEPT_WHEN_FULL, Bus, Evictor, Freed, connect

__all__ = ["FULL", "Link"]

# Fraction of maxmemory that may stay used after room was made.
FULL = 0.85


@dataclass(slots=True)
class Link:
    """Address of Redis and state shared by a publisher's threads.

    Attributes
    ----------
    url : str
        Address of Redis.
    name : str
        Client name of the connections.
    maxmemory_bytes : int
        Memory limit of Redis when last read; 0 if it has none.
    stop : threading.Event
        Set when the publisher closes for good.
    room : Evictor
        Removes durable entries and old scans if Redis is full.
    """

    url: str
    name: str
    maxmemory_bytes: int
    stop: threading.Event
    room: Evictor = field(default_factory=Evictor)

    def make_room(self, client: Bus) -> Freed:
        """Free memory when Redis refuses data; the writer frees it before that."""
        limit = int(self.maxmemory_bytes * FULL)
        if not limit:
            return Freed()
        return self.room.free(client, limit, kept_scans=KEPT_WHEN_FULL)

    def connect(self) -> Bus:
        """Return a client that does not reconnect by itself."""
        return connect(self.url, name=self.name, once=True)
