"""Close a scan whose publisher is gone for good.

Only publishers seal lanes, so a scan whose publisher died stays open: the publisher may
come back. If an operator knows that it will not, this seals and ends the scan.
"""

from __future__ import annotations

import time

from scanbus.bus.store import (
    Bus,
    append_event,
    end_for_publisher,
    find_later,
    find_scan,
    open_bus,
    publisher_is_alive,
    release_quota,
    writers_alive,
)
from scanbus.schemas import ScanEnded, ScanJudged, Verdict, VerdictWord
from scanbus.schemas.errors import ScanStateError

__all__ = ["close_scan"]


def close_scan(
    url: str, scan: str, *, text: str = "closed by an operator", dismiss: bool = False
) -> str:
    """Seal every open lane of a scan where it stands, and end the scan with FAILURE.

    The end names the lanes of late points that the publisher left, so that the writer
    reads them. If the publisher ended it, but Redis lost a seal, the publisher's end is
    kept.

    Parameters
    ----------
    url : str
        Address of Redis.
    scan : str
        Its uid, the beginning of it, or its number.
    text : str
        Reason, for the scan's notes.
    dismiss : bool
        Give the scan up: its verdict is ``failed``, finally, and no writer writes it
        any more. What stands in files stays; what only the bus has is lost.

    Returns
    -------
    str
        The uid of the scan.

    Raises
    ------
    UnknownScanError, AmbiguousScanError, BusUnavailableError
        If no or several scans match, or Redis does not answer.
    ScanStateError
        If its publisher is alive, or it has ended; dismissed, if it has its verdict.
    """
    with open_bus(url, name="scanbus-close") as client:
        later = find_later(client, scan)
        if later is not None:
            _judge(client, later.later_uid, f"{text}; {later.problem}")
            return later.later_uid
        record = find_scan(client, scan, only_one=True)
        if record.final_verdict is not None:
            raise ScanStateError(_over(record.uid, record.final_verdict))
        if dismiss:
            _judge(client, record.uid, f"dismissed: {text}", record.ended)
            return record.uid
        if record.ended is not None and publisher_is_alive(client, record.uid):
            raise ScanStateError(_awaited(client, record.uid))
        _check_silent(client, record.uid)
        is_unclear = record.prepared is None and bool(record.problems)
        if not end_for_publisher(client, record, text):
            raise ScanStateError(_awaited(client, record.uid))
        if is_unclear:
            # No writer of this version will ever know its lanes.
            _judge(client, record.uid, "; ".join([text, *record.problems]))
        return record.uid


def _over(uid: str, verdict: Verdict) -> str:
    where = f", its files are {verdict.master}" if verdict.master else ""
    word = verdict.verdict.value
    return f"scan {uid} has ended already, with verdict {word}{where}: nothing to do"


def _awaited(client: Bus, uid: str) -> str:
    """Return why an ended scan has no verdict yet, and what can be done."""
    alive = writers_alive(client).values()
    problems = [str(each) for info in alive for each in info.get("problems") or ()]
    why = "a writer is at work" if alive else "no writer is alive; start one"
    return (
        f"scan {uid} has ended already and waits for its verdict: "
        f"{'; '.join(problems) or why}. If it cannot be written: `scanbus replay {uid} "
        "--root DIR --as-number N` writes it under another root or number, and "
        f"`scanbus close {uid} --dismiss` gives it up"
    )


def _judge(client: Bus, uid: str, reason: str, ended: ScanEnded | None = None) -> None:
    """Give the final verdict on a scan that is not written."""
    if ended is None:
        _check_silent(client, uid)
    verdict = Verdict(
        uid=uid,
        verdict=VerdictWord.FAILED,
        reason=reason,
        end_reason=ended.end_reason.value if ended else "",
    )
    append_event(client, uid, ScanJudged(time=time.time(), verdict=verdict))
    release_quota(client, uid)


def _check_silent(client: Bus, uid: str) -> None:
    if publisher_is_alive(client, uid):
        raise ScanStateError(
            f"scan {uid}: its publisher is alive, or was in the last 10 s; "
            "only the publisher ends a scan while it is alive"
        )
