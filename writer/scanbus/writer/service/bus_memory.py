"""The memory of Redis: quotas, kept data and Redis itself fit into it together.

The writer alone removes data. What it keeps for readers never takes what publishers may
reserve, so they find their whole budget free when the writer is gone.
"""

from __future__ import annotations

from scanbus.bus.protocol import ALLOCATED_SHARE, LEAST_MEMORY_BYTES, budget_bytes
from scanbus.bus.store import KEPT_WHEN_FULL, Bus, Evictor, memory_state
from scanbus.schemas.errors import BusUnsuitableError
from scanbus.writer.settings import WriterSettings
from scanbus.writer.steps import step

__all__ = ["BusMemory"]


class BusMemory:
    """Keeps the data that stay in Redis within a limit; the service owns it.

    Parameters
    ----------
    settings : WriterSettings
        Settings of the process.
    """

    def __init__(self, settings: WriterSettings) -> None:
        self._settings = settings
        self._evictor = Evictor()

    def refuse_small(self, client: Bus) -> None:
        """Raise BusUnsuitableError if it does not suffice for all three."""
        _, maxmemory = memory_state(client)
        if 0 < maxmemory < LEAST_MEMORY_BYTES:
            raise BusUnsuitableError(
                self._settings.redis,
                f"maxmemory is {maxmemory / 2**20:.1f} MiB; quotas, kept data and "
                f"Redis itself need at least {LEAST_MEMORY_BYTES / 2**20:.0f} MiB",
            )

    def free(self, client: Bus) -> bool:
        """Trim acknowledged data and remove finished scans above the watermark.

        Returns
        -------
        bool
            Whether more could be trimmed if masters showed it.
        """
        # Each time: maxmemory may be changed while Redis runs, and publishers see it.
        used, maxmemory = memory_state(client)
        memory = maxmemory or int(self._settings.memory_bytes)
        budget = budget_bytes(memory)
        limit = int(budget * self._settings.watermark)
        if used <= limit:
            return False
        with step("trim"):
            freed = self._evictor.free(client, limit)
            # Above this, publishers would not find their whole budget free.
            most = memory - int(budget * ALLOCATED_SHARE)
            self._evictor.free(client, most, kept_scans=KEPT_WHEN_FULL)
        return freed.needs_masters
