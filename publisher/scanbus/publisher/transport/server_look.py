"""Look at the Redis server before each scan: it may be another one by now."""

from __future__ import annotations

from scanbus.bus.store import Bus, ServerReport, describe_server
from scanbus.publisher.transport.redis_link import Link
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["ServerLook"]

log = get_logger()


class ServerLook:
    """What a publisher knows of its server.

    Parameters
    ----------
    client : Bus
        The connection of the program's threads.
    link : Link
        Gets the memory of the server.
    assumed_bytes : int
        Assumed memory of Redis, in bytes, if it has no maxmemory.
    """

    def __init__(self, client: Bus, link: Link, assumed_bytes: int) -> None:
        self._client = client
        self._link = link
        self._assumed_bytes = assumed_bytes
        self._warned: set[str] = set()
        self._run_id = ""

    def check(self) -> ServerReport:
        """Return the server's version and limits; warn once of each weak setting.

        Raises
        ------
        BusUnavailableError
            If Redis does not answer.
        BusUnsuitableError
            If it is too old, or lacks what the bus needs.
        """
        report = describe_server(self._client, self._link.url, known=self._run_id)
        self._run_id = report.run_id
        self._link.memory_bytes = report.maxmemory_bytes or self._assumed_bytes
        for warning in report.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                log.warning(LogEvent.BUS_WARNING, problem=warning)
        return report
