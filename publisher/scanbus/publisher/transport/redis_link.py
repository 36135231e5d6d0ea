"""Connection parameters that a publisher's threads share."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from scanbus.bus.store import Bus, connect

__all__ = ["Link"]


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
    """

    url: str
    name: str
    maxmemory_bytes: int
    stop: threading.Event

    def connect(self) -> Bus:
        """Return a client that does not reconnect by itself."""
        return connect(self.url, name=self.name, once=True)
