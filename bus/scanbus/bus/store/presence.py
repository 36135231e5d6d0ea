"""Whether a scan's keys are still there, for a publisher that would put them back.

Whether any key is gone is asked every few seconds, for all scans together; whether each
has the content that it must have, for one scan after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scanbus.bus.protocol.keys import (
    ANNOUNCEMENTS,
    RESERVED,
    events_key,
    lane_key,
    number_key,
)
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.replies import parses_reply
from scanbus.bus.store.wrong_types import is_wrong_type, replies_or_none

__all__ = ["ExpectedKeys", "has_keys", "missing_keys"]

_LARGEST_ID = f"{2**64 - 1}-{2**64 - 1}"


@dataclass(frozen=True, slots=True)
class ExpectedKeys:
    """What must be on the bus of one scan.

    Attributes
    ----------
    uid : str
        The scan's uid.
    announcement : str
        Id of its announcement.
    n_events : int
        Least number of its events.
    has_quota : bool
        Whether a quota is reserved.
    lanes : sequence of str
        Names of its lanes.
    dataset, number : str, int
        Folder of its dataset, and its scan number: the least value of the counter.
    """

    uid: str
    announcement: str
    n_events: int
    has_quota: bool
    lanes: Sequence[str]
    dataset: str
    number: int


@parses_reply
def has_keys(client: Bus, scans: Sequence[ExpectedKeys]) -> bool:
    """Whether no key of any scan is gone or replaced by one of another type.

    Three commands, however many scans there are. That a key lacks some of its content
    is not noticed, nor is another type of a counter.
    """
    if not scans:
        return True
    streams = {ANNOUNCEMENTS, *(key for scan in scans for key in _streams(scan))}
    keys = streams | {number_key(scan.dataset) for scan in scans}
    pipe: Any = client.pipeline(transaction=False)
    pipe.exists(*keys)
    # Nothing can be after the largest id: only another type is an error.
    pipe.xread(dict.fromkeys(streams, _LARGEST_ID), count=1)
    pipe.hmget(RESERVED, [scan.uid for scan in scans])
    replies = pipe.execute(raise_on_error=False)
    if any(is_wrong_type(reply) for reply in replies):
        return False
    n_keys, _, quotas = replies_or_none(replies)
    if n_keys != len(keys):
        return False
    found = zip(scans, quotas, strict=True)
    return not any(scan.has_quota and quota is None for scan, quota in found)


def _streams(scan: ExpectedKeys) -> list[str]:
    events = [events_key(scan.uid)] if scan.n_events else []
    return events + [lane_key(scan.uid, lane) for lane in scan.lanes]


@parses_reply
def missing_keys(
    client: Bus, scans: Sequence[ExpectedKeys], *, is_each_there: bool = False
) -> dict[str, list[str]]:
    """Return the keys that each scan lacks, by its uid; a wrong type is none.

    Takes one round trip.

    Parameters
    ----------
    is_each_there : bool
        Whether `has_keys` was true: only their content is looked at, which takes three
        commands for each scan, however many lanes it has.
    """
    pipe: Any = client.pipeline(transaction=False)
    for scan in scans:
        pipe.xrange(ANNOUNCEMENTS, scan.announcement, scan.announcement, count=1)
        pipe.xlen(events_key(scan.uid))
        pipe.get(number_key(scan.dataset))
        if not is_each_there:
            pipe.hexists(RESERVED, scan.uid)
            for lane in scan.lanes:
                pipe.type(lane_key(scan.uid, lane))
    replies = iter(replies_or_none(pipe.execute(raise_on_error=False)))
    found = {}
    for scan in scans:
        found[scan.uid] = _lacking_content(scan, replies)
        if not is_each_there:
            found[scan.uid] += _lacking_keys(scan, replies)
    return {uid: keys for uid, keys in found.items() if keys}


def _lacking_content(scan: ExpectedKeys, replies: Any) -> list[str]:
    missing = []
    if not next(replies):
        missing.append(ANNOUNCEMENTS)
    if int(next(replies) or 0) < scan.n_events:
        missing.append(events_key(scan.uid))
    number = next(replies)
    if number is None or not number.isdigit() or int(number) < scan.number:
        missing.append(number_key(scan.dataset))
    return missing


def _lacking_keys(scan: ExpectedKeys, replies: Any) -> list[str]:
    is_lacking = not next(replies) and scan.has_quota
    missing = [RESERVED] if is_lacking else []
    return missing + [
        lane_key(scan.uid, lane)
        for lane in scan.lanes
        if next(replies) not in {b"stream", "stream"}
    ]
