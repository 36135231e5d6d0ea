"""Verdicts on the scans of a gateway: looked for now and then, awaited at its end."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from scanbus.bus.store import open_bus, writers_alive
from scanbus.publisher.gateways.runner.report import GatewayReport
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.publisher.scan import Scan
from scanbus.schemas.errors import DeadlineError, ScanbusError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["Verdicts"]

log = get_logger()

# Between two looks.
_LOOK_S = 0.5
_TIMEOUT_S = 3600.0


class Verdicts:
    """The scans that have no verdict yet; the runner's main thread uses it.

    Parameters
    ----------
    report : GatewayReport
        Where verdicts are noted, and why scans failed.
    on_safe : callable
        Called with the uid of a scan that survives the gateway to its end.
    """

    def __init__(self, report: GatewayReport, on_safe: Callable[[str], None]) -> None:
        self._report = report
        self._on_safe = on_safe
        self._unsafe: set[str] = set()
        self._unjudged: dict[str, Scan] = {}
        self._looked_at = -_LOOK_S

    def add(self, scan: Scan) -> None:
        """Look for the verdict of a scan that has ended."""
        self._unjudged[scan.uid] = scan
        self._unsafe.add(scan.uid)

    def awaits(self, uid: str) -> bool:
        """Whether a scan has ended, and no verdict has come."""
        return uid in self._unjudged

    def look(self) -> None:
        """Note the verdicts that have come, at most twice per second."""
        if monotonic() - self._looked_at < _LOOK_S:
            return
        self._looked_at = monotonic()
        for uid, scan in tuple(self._unjudged.items()):
            if uid in self._unsafe:
                self._look_if_safe(uid, scan)
            self._wait_for(uid, scan, 0.0)

    def _look_if_safe(self, uid: str, scan: Scan) -> None:
        try:
            scan.flush(0.0)
        except DeadlineError:
            return
        except ScanbusError as error:
            self._report.note_failed(uid, error)
        self._note_safe(uid)

    def _note_safe(self, uid: str) -> None:
        self._unsafe.discard(uid)
        self._on_safe(uid)

    def wait_last(
        self,
        url: str,
        is_awaited: bool,
        must_stop: Callable[[], bool],
    ) -> bool:
        """Wait until all is on the bus; return whether verdicts were waited for.

        False if waiting for them was interrupted before they came.

        Parameters
        ----------
        is_awaited : bool
            Wait for verdicts, too, if a writer is alive.
        must_stop : callable
            Returns whether waiting for verdicts shall end. A writer may be slow, or
            die meanwhile.
        """
        wait_sent(url, list(self._unjudged))
        for uid in tuple(self._unsafe):
            self._note_safe(uid)
        with open_bus(url, name="scanbus-gateway") as client:
            is_judged = is_awaited and bool(writers_alive(client))
        deadline = monotonic() + _TIMEOUT_S
        for uid, scan in tuple(self._unjudged.items()) if is_judged else ():
            while self.awaits(uid) and monotonic() < deadline:
                self._wait_for(uid, scan, _LOOK_S)
                if must_stop() and self._unjudged:
                    return False
        return True

    def _wait_for(self, uid: str, scan: Scan, timeout_s: float) -> None:
        try:
            verdict = scan.verdict(timeout_s)
        except DeadlineError:
            return
        except ScanbusError as error:  # It failed, perhaps after its end.
            self._report.note_failed(uid, error)
        else:
            self._note_safe(uid)
            self._report.verdicts[uid] = verdict
            log.info(
                LogEvent.SERIES_JUDGED,
                scan=uid,
                verdict=verdict.verdict.value,
                reason=verdict.reason,
            )
        del self._unjudged[uid]
