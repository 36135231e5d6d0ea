"""Keep a loop alive: what one attempt of it raises is logged once, and it goes on.

For threads and services that must end only if they are told to. What Redis may answer
and what a process may meet (no memory, no more threads) cannot be listed beforehand, so
nothing is assumed about the error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from scanbus.bus.store.connection import translated
from scanbus.schemas.errors import BusRefusedError, BusUnavailableError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["LoopGuard"]

log = get_logger()


class LoopGuard:
    """Guards the attempts of one loop; not safe to share between threads.

    An attempt is one round, or one part of it that must not keep the others from
    running. It has a name, and its errors are logged when they begin.

    Parameters
    ----------
    loop : str
        Name of the loop, for the log.
    url : str
        Address of Redis, for the translation of errors.
    """

    def __init__(self, loop: str, url: str) -> None:
        self._loop = loop
        self._url = url
        self._failing_since: dict[tuple[str, str], float] = {}

    @property
    def is_failing(self) -> bool:
        """Whether any attempt failed when it was made last."""
        return bool(self._failing_since)

    def failing_s(self, what: str, scan: str = "") -> float:
        """Return for how many seconds an attempt has only failed; 0 if it works."""
        since = self._failing_since.get((what, scan))
        return 0.0 if since is None else monotonic() - since

    @contextmanager
    def attempt(self, what: str, scan: str = "") -> Iterator[None]:
        """Make one attempt; any error but a lost connection ends here.

        Parameters
        ----------
        what : str
            Name of the attempt.
        scan : str
            Uid of the scan that it is about, empty if it is about no single one.

        Raises
        ------
        BusUnavailableError
            If Redis does not answer or takes no data now: every attempt would fail.
        """
        try:
            with translated(self._url):
                yield
        except BusRefusedError as error:
            self._note(what, scan, error)
        except BusUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - what this class is for
            self._note(what, scan, error)
        else:
            self._failing_since.pop((what, scan), None)

    def forget(self, scan: str) -> None:
        """Forget the failures of a scan's attempts: none is made any more."""
        gone = [key for key in self._failing_since if key[1] == scan]
        for key in gone:
            del self._failing_since[key]

    def _note(self, what: str, scan: str, error: Exception) -> None:
        is_new = (what, scan) not in self._failing_since
        self._failing_since.setdefault((what, scan), monotonic())
        if not is_new:
            return
        # Redis' own errors need no traceback. A log that fails must not end the loop.
        trace = None if isinstance(error, BusRefusedError) else error
        reason = str(error) if trace is None else f"{type(error).__name__}: {error}"
        fields = {"scan": scan} if scan else {}
        with suppress(Exception):
            log.error(
                LogEvent.ATTEMPT_REPEATED,
                loop=self._loop,
                what=what,
                reason=reason,
                exc_info=trace,
                **fields,
            )
