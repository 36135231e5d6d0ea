"""Connection parameters that a publisher's threads share."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from scanbus.bus.protocol import budget_bytes
from scanbus.bus.store import Bus, connect

__all__ = ["Link"]

# For acknowledgements and verdicts; each scan has one or more connections.
_READ_BYTES: Final = 1 << 16


@dataclass(slots=True)
class Link:
    """Address of Redis and state shared by a publisher's threads.

    Attributes
    ----------
    url : str
        Address of Redis.
    name : str
        Client name of the connections.
    memory_bytes : int
        Memory of Redis when last read, or what is assumed if it has no limit.
    stop : threading.Event
        Set when the publisher closes for good.
    """

    url: str
    name: str
    memory_bytes: int
    stop: threading.Event

    @property
    def budget_bytes(self) -> int:
        """Bytes that all scans together may reserve."""
        return budget_bytes(self.memory_bytes)

    def connect(self) -> Bus:
        """Return a client that does not reconnect by itself."""
        return connect(self.url, name=self.name, once=True, read_bytes=_READ_BYTES)
