"""What the bus said while an arena was under way, for the judge who reads files only.

Here scanbus is asked for what it holds: which points stood on Redis when a publisher
died, which verdicts there are. Nothing of it says what the files must hold of a scan
whose publisher came to its end.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from posixpath import dirname
from time import monotonic

from scanbus.bus.protocol import SEAL_ID, ScanRecord, heartbeat_key
from scanbus.bus.store import (
    Bus,
    announcements,
    connect,
    find_scan,
    read_cursor,
    sealed_length,
    stream_ends,
)
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.schemas import EndReason, LaneDescription
from scanbus.schemas.errors import ScanbusError, ScanStateError, UnknownScanError
from scanbus.schemas.file_names import scan_master_path
from tests.faults.content import UID_PREFIX, scan_uid
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

    A scan that was closed while its publisher was away may go on as others, which name
    it as their parent: by its number, all of them are meant.

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
        # Final verdicts by uid.
        self.verdicts: dict[str, str] = {}
        # Uids of scans that an operator closed.
        self.closed: set[str] = set()
        self._parents: dict[str, str] = {}

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
                found = [
                    _claim(client, record, durable=durable)
                    for record in self._records(client, number)
                ]
                if found:
                    claims[number] = _together(found)
        return claims

    def declare_dead(self, scans: Iterable[int]) -> None:
        """As if the time had passed after which a dead publisher's heartbeat lapses."""
        with connect(self._url, name="faults") as client:
            for number in scans:
                for record in self._records(client, number):
                    client.delete(heartbeat_key(record.uid))

    def close(self, scans: Iterable[int]) -> None:
        """End scans in place of their publisher, as an operator does."""
        with connect(self._url, name="faults") as client:
            uids = [one.uid for each in scans for one in self._records(client, each)]
        for uid in uids:
            try:
                close_scan(self._url, uid)
            except ScanStateError as error:
                if "has ended already" not in str(error):
                    raise
            else:
                self.closed.add(uid)

    def are_judged(self, scans: set[int], *, finally_: bool = True) -> bool:
        """Whether there is a verdict on all of them; final ones are remembered."""
        with connect(self._url, name="faults") as client:
            found = [
                self._is_judged(client, number, finally_=finally_) for number in scans
            ]
        return all(found)

    def _is_judged(self, client: Bus, number: int, *, finally_: bool) -> bool:
        try:
            records = self._records(client, number)
        except ScanbusError:
            records = []
        # One that was heard before may be another now: Redis forgot it, and a publisher
        # that came back had more points.
        for record in records:
            verdict = record.final_verdict
            if verdict is not None:
                self.verdicts[record.uid] = verdict.verdict.value
        if scan_uid(self._seed, number) in self.verdicts and not self._children(number):
            return True
        waited = [
            record
            for record in records
            if record.uid not in self.verdicts and (finally_ or record.verdict is None)
        ]
        return bool(records) and not waited

    def newest(self, number: int) -> tuple[str, str]:
        """Return uid and folder of a scan, or of the last one that continues it.

        The folder is relative to the root; both are empty if Redis has none.
        """
        with connect(self._url, name="faults") as client:
            records = self._records(client, number)
        if not records:
            return "", ""
        return records[-1].uid, dirname(scan_master_path(records[-1].identity))

    def heard(self, number: int) -> dict[str, str]:
        """Return the final verdicts on a scan and on those that continue it, by uid."""
        uids = [scan_uid(self._seed, number), *self._children(number)]
        return {uid: self.verdicts[uid] for uid in uids if uid in self.verdicts}

    def _records(self, client: Bus, number: int) -> list[ScanRecord]:
        """Return what Redis has of a scan, and of those that continue it, in order."""
        self._learn_parents(client)
        found = []
        for uid in (scan_uid(self._seed, number), *self._children(number)):
            try:
                found.append(find_scan(client, uid))
            except UnknownScanError:
                continue
        return found

    def _children(self, number: int) -> list[str]:
        uids = [scan_uid(self._seed, number)]
        for uid in uids:  # It grows.
            uids += [one for one, parent in self._parents.items() if parent == uid]
        return uids[1:]

    def _learn_parents(self, client: Bus) -> None:
        for line in announcements(client):
            document = line.document
            if document is None or document.scan.uid in self._parents:
                continue
            uid = document.scan.uid
            if uid.startswith(UID_PREFIX):
                continue
            with suppress(UnknownScanError):  # It is on its way.
                prepared = find_scan(client, uid).prepared
                if prepared is not None:
                    self._parents[uid] = prepared.parent


def _together(claims: Sequence[Claim]) -> Claim:
    """What must be in the files of scans of which one continues the other."""
    if any(claim.ended for claim in claims):
        return Claim(ended=True)
    least: dict[str, int] = {}
    for claim in claims:
        for channel, stop in (claim.least or {}).items():
            least[channel] = max(stop, least.get(channel, 0))
    return replace(claims[0], least=least)


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
