"""What a gateway did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from scanbus.publisher.gateways.runner.receiver import QueueState
from scanbus.publisher.gateways.runner.series_counts import SeriesCounts
from scanbus.schemas import Verdict
from scanbus.schemas.errors import SourceFailedError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["SOURCE_FAILED", "GatewayReport", "end_text"]

log = get_logger()

# A scan whose end begins with this has all that its source gave before it failed.
SOURCE_FAILED: Final = "the source failed: "
# A sender of rubbish must not fill the log.
_LOGGED_REFUSALS = 10


def end_text(error: BaseException) -> str:
    """Return with which text a scan ends that was on the way when a gateway failed.

    Examples
    --------
    >>> end_text(SourceFailedError("PV A", "it is refused"))
    'the source failed: PV A has failed: it is refused; nothing more is received'
    """
    begin = (
        SOURCE_FAILED
        if isinstance(error, SourceFailedError)
        else "the gateway failed: "
    )
    return begin + (str(error) or type(error).__name__)


@dataclass(slots=True)
class GatewayReport:
    """What a gateway did.

    Attributes
    ----------
    series : list of tuple
        Uid and counts of each series.
    verdicts : dict
        Final verdicts by uid, as far as they are known.
    refused : int
        Messages that could not be used.
    failed : dict
        Why scans failed, by uid.
    queue : QueueState
        The queue at the end.
    interrupted : ExitCode or None
        Of a stop that came before the verdict which was waited for.
    """

    series: list[tuple[str, SeriesCounts]] = field(
        default_factory=list[tuple[str, SeriesCounts]]
    )
    verdicts: dict[str, Verdict] = field(default_factory=dict[str, Verdict])
    refused: int = 0
    failed: dict[str, str] = field(default_factory=dict[str, str])
    queue: QueueState = field(default_factory=lambda: QueueState(0, 0, 0, 0.0))
    interrupted: ExitCode | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The worst of the verdicts, and of what failed, was refused or never came."""
        codes = [each.verdict.exit_code for each in self.verdicts.values()]
        codes.append(ExitCode.PARTIAL if self.refused else ExitCode.COMPLETE)
        codes.append(self.interrupted or ExitCode.COMPLETE)
        is_failed = self.failed or not self.series
        codes.append(ExitCode.FAILED if is_failed else ExitCode.COMPLETE)
        return max(codes)

    def totals(self, current: SeriesCounts | None) -> SeriesCounts:
        """Return what came of all series, with the one on the way; any thread may."""
        total = SeriesCounts()
        every = [counts for _, counts in tuple(self.series)]
        for each in [*every, *([] if current is None else [current])]:
            total.add(each)
        return total

    def note_refused(self, reason: str) -> None:
        """Count a message that could not be used; the log has the first ones."""
        self.refused += 1
        if self.refused <= _LOGGED_REFUSALS:
            log.warning(LogEvent.MESSAGE_REFUSED, reason=reason)

    def note_failed(self, uid: str, error: Exception) -> None:
        """Note why a scan failed; the first reason counts."""
        if uid not in self.failed:
            self.failed[uid] = str(error)
            log.error(LogEvent.SERIES_FAILED, scan=uid, reason=str(error))
