"""Points of a publisher that are in no file, because an operator closed its scan.

An operator closes a scan whose publisher is gone for good. If that publisher comes back
nevertheless, the scan does not change any more; an error names the points that the
publisher has and the scan lacks.
"""

from __future__ import annotations

from scanbus.bus.store import Bus, load_record, sealed_length
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import Verdict, VerdictWord
from scanbus.schemas.errors import LaneConflictError, ScanClosedError

__all__ = ["closed_by_verdict", "explained"]


def explained(
    client: Bus, queue: ScanQueue, error: LaneConflictError
) -> LaneConflictError:
    """Return why a lane has another publisher's entry: the scan may be closed.

    Parameters
    ----------
    error : LaneConflictError
        Returned unchanged if the scan was not closed by an operator.
    """
    ended = load_record(client, queue.announced).ended
    if ended is None or queue.watch.has_event(ended):
        return error
    lengths = {
        lane.name: sealed_length(client, queue.uid, lane.description)
        for lane in queue.lanes.values()
    }
    known = {name: length for name, length in lengths.items() if length is not None}
    # Nobody reads a lane of late points that the end does not name.
    known |= {
        lane.name: 0
        for lane in queue.lanes.values()
        if lane.description.is_late
        and lane.description.channels[0].name not in ended.late
    }
    return _closed(queue, ended.text, known)


def closed_by_verdict(queue: ScanQueue, verdict: Verdict) -> ScanClosedError | None:
    """Return an error with the sent points that a final verdict lacks; None if none.

    Redis may have lost the seals and the end that an operator added; the verdict, which
    the files have, still shows them.
    """
    if not verdict.channels and verdict.verdict is VerdictWord.COMPLETE:
        return None  # From a writer that keeps no ledger.
    lengths = {
        lane.name: max(
            verdict.channels[channel.name].expected
            if channel.name in verdict.channels
            else 0
            for channel in lane.description.channels
        )
        for lane in queue.lanes.values()
        if not lane.description.is_late
    }
    error = _closed(queue, verdict.reason or verdict.end_reason, lengths)
    return error if error.left else None


def _closed(queue: ScanQueue, text: str, lengths: dict[str, int]) -> ScanClosedError:
    left = {
        name: f"{length} to {queue.lanes[name].length - 1}"
        for name, length in lengths.items()
        if queue.lanes[name].length > length
    }
    spool = "" if queue.spool is None else str(queue.spool.folder)
    return ScanClosedError(queue.uid, text, left, spool)
