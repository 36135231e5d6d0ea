"""How long the publisher of a scan has been silent."""

from __future__ import annotations

import time

from scanbus.bus.store import Bus, publisher_is_alive

__all__ = ["Silence"]

# A heartbeat that was there a moment ago is not asked for at once.
_LAPSES_PER_LOOK = 1.5


class Silence:
    """Time since the heartbeat of a scan's publisher expired.

    Parameters
    ----------
    client : Bus
        A connection used by this attempt only.
    uid : str
        Uid of the scan.
    lapse_s : float
        Duration after which the publisher counts as gone.

    Attributes
    ----------
    was_alive : bool
        Whether the publisher was alive at any look.
    """

    def __init__(self, client: Bus, uid: str, lapse_s: float) -> None:
        self._client = client
        self._uid = uid
        self._lapse_s = lapse_s
        self.was_alive = False
        self._since: float | None = None
        self._next_look = 0.0

    def end(self) -> None:
        """Record that the publisher has sent something."""
        self._since = None

    def is_lapsed(self) -> bool:
        """Return whether the heartbeat expired more than `lapse_s` ago."""
        now = time.monotonic()
        if self._since is None and now < self._next_look:
            return False
        if publisher_is_alive(self._client, self._uid):
            self._since = None
            self.was_alive = True
            self._next_look = now + self._lapse_s * _LAPSES_PER_LOOK
            return False
        if self._since is None:
            self._since = now
        return now - self._since > self._lapse_s
