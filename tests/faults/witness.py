"""What the bus said while an arena was under way, for the judge who reads files only.

Here scanbus is asked for what it holds: which points stood on Redis when a publisher
died, which verdicts there are. Nothing of it says what the files must hold of a scan
whose publisher came to its end.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic

from scanbus.bus.protocol import SEAL_ID, ScanRecord, heartbeat_key
from scanbus.bus.store import (
    Bus,
    connect,
    find_scan,
    read_cursor,
    sealed_length,
    stream_ends,
)
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.schemas import EndReason, LaneDescription
from scanbus.schemas.errors import ScanbusError, ScanStateError, UnknownScanError
from tests.faults.content import scan_uid
from tests.faults.judge import Claim

__all__ = ["Outages", "Witness"]

# A connection that is half-open is noticed by its timeout; the machine may be busy.
_NOTICED_S = 10.0


class Outages:
    """When Redis was out of the publisher's reach."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    @contextmanager
    def during(self) -> Iterator[None]:
        """Take note that it is out of reach in this block."""
        started = monotonic()
        try:
            yield
        finally:
            self._spans.append((started, monotonic()))

    def explain(self, at: float) -> bool:
        """Whether a program may have been told at that time that there is no bus."""
        return any(start <= at <= stop + _NOTICED_S for start, stop in self._spans)


class Witness:
    """Looks at the bus for one arena.

    Parameters
    ----------
    url : str
        Of Redis itself, with no proxy between.
    seed : int
        Of the data.
    """

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._seed = seed
        self.verdicts: dict[int, str] = {}

    def points_on_redis(
        self, scans: Iterable[int], *, durable: bool = False
    ) -> dict[int, Claim]:
        """What must be in the files of scans whose publisher was just killed.

        That is what stands on Redis, and what stood there until it was durable; or,
        if asked for, only what is durable.
        """
        claims = {}
        with connect(self._url, name="faults") as client:
            for number in scans:
                try:
                    record = find_scan(client, scan_uid(self._seed, number))
                except UnknownScanError:
                    continue
                claims[number] = _claim(client, record, durable=durable)
        return claims

    def declare_dead(self, scans: Iterable[int]) -> None:
        """As if the time had passed after which a dead publisher's heartbeat lapses."""
        with connect(self._url, name="faults") as client:
            for number in scans:
                client.delete(heartbeat_key(scan_uid(self._seed, number)))

    def close(self, scans: Iterable[int]) -> None:
        """End scans in place of their publisher, as an operator does."""
        for number in scans:
            try:
                close_scan(self._url, scan_uid(self._seed, number))
            except ScanStateError as error:
                if "has ended already" not in str(error):
                    raise

    def are_judged(self, scans: set[int], *, finally_: bool = True) -> bool:
        """Whether there is a verdict on all of them; final ones are remembered."""
        missing = set()
        with connect(self._url, name="faults") as client:
            for number in scans - set(self.verdicts):
                try:
                    record = find_scan(client, scan_uid(self._seed, number))
                except ScanbusError:
                    missing.add(number)
                    continue
                verdict = record.final_verdict
                if verdict is not None:
                    self.verdicts[number] = verdict.verdict.value
                elif finally_ or record.verdict is None:
                    missing.add(number)
        return not missing


def _claim(client: Bus, record: ScanRecord, *, durable: bool) -> Claim:
    ended = record.ended
    if ended is not None and ended.end_reason is EndReason.SUCCESS and not durable:
        return Claim(ended=True)
    least: dict[str, int] = {}
    for lane in record.prepared.lanes if record.prepared else ():
        stop = read_cursor(client, record.uid, lane.name)
        if not durable:
            stop = max(stop, _reached(client, record.uid, lane))
        least |= {channel.name: stop for channel in lane.channels}
    return Claim(ended=False, least=least, closed=not durable)


def _reached(client: Bus, uid: str, lane: LaneDescription) -> int:
    """Return how far a lane ever came, as Redis has it."""
    ends = stream_ends(client, uid, lane.name)
    last = ends[1] if ends else b"0-0"
    if last == SEAL_ID:
        return sealed_length(client, uid, lane) or 0
    return sum(map(int, last.split(b"-")))
