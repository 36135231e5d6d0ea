"""Send the plan of a simulated scan with faults to a real bus, and report it."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict

from scanbus.bus.protocol import EncodedEntry
from scanbus.bus.store import (
    Bus,
    NoRoomError,
    announce,
    append_entries,
    append_event,
    beat_publisher,
    connect,
    make_lane,
    next_scan_number,
    refuse_unsuitable,
    translated,
)
from scanbus.publisher.faulty.faults import Faults
from scanbus.publisher.faulty.plan import Plan, Step, make_plan
from scanbus.schemas import (
    ChannelLedger,
    EndReason,
    ScanAnnounced,
    ScanEnded,
    ScanIdentity,
    ScanPrepared,
    ScanStarted,
)
from scanbus.schemas.errors import DeadlineError
from scanbus.schemas.valid_names import folder_name

__all__ = ["FaultyScan", "Injected", "simulate"]

_QUOTA_BYTES = 2**26
# Longest wait for room on the bus, and interval between tries.
_ROOM_S = 60.0
_RETRY_S = 0.1


class Injected(BaseModel):
    """The faults injected into a scan, and the ledgers that must result.

    Attributes
    ----------
    uid : str
        Uid of the scan.
    scan_number : int
        Its number in its dataset.
    seed : int
        Seed of points and faults.
    entries : int
        Number of entries sent.
    injected : dict
        Number of times each fault was injected.
    channels : dict
        The ledger of each channel that the writer's verdict must have.
    """

    model_config = ConfigDict(frozen=True)

    uid: str
    scan_number: int
    seed: int
    entries: int
    injected: dict[str, int]
    channels: dict[str, ChannelLedger]


class FaultyScan:
    """One simulated scan, announced when it is made; not safe to share between threads.

    Parameters
    ----------
    url : str
        Address of Redis.
    plan : Plan
        The entries and pauses.
    proposal, collection, dataset : str
        Names of the folders of the scan.
    heartbeat_s : float
        Expiry of the heartbeat that is sent with each entry, in seconds.

    Raises
    ------
    BusUnavailableError
        If Redis does not answer.
    """

    def __init__(
        self,
        url: str,
        plan: Plan,
        *,
        proposal: str = "simulated",
        collection: str = "faulty",
        dataset: str = "0001",
        heartbeat_s: float = 10.0,
    ) -> None:
        self._url = url
        self._plan = plan
        self._heartbeat_ms = int(heartbeat_s * 1000)
        self._client: Bus = connect(url, name="scanbus-simulate")
        self._n_done = 0
        where = ScanIdentity(
            uid=uuid4().hex,
            proposal=proposal,
            beamline="id00",
            session=time.strftime("%Y%m%d", time.gmtime()),
            collection=folder_name(collection),
            dataset=folder_name(dataset),
            scan_number=1,
        )
        refuse_unsuitable(self._client, url)
        with translated(url):
            number = next_scan_number(self._client, where.dataset_folder, where.uid)
            self.identity = where.model_copy(update={"scan_number": number})
            self._open()

    def __enter__(self) -> Self:
        """Return the scan."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection; the scan stays as it is on the bus."""
        self._client.close()

    @property
    def uid(self) -> str:
        """The scan's uid."""
        return self.identity.uid

    def _open(self) -> None:
        title = f"simulated faults, seed {self._plan.seed}"
        self._send_heartbeat()
        now = time.time()
        announce(self._client, ScanAnnounced(time=now, scan=self.identity, title=title))
        for lane in self._plan.lanes:
            make_lane(self._client, self.uid, lane.name)
        prepared = ScanPrepared(
            time=now,
            scan=self.identity,
            title=title,
            lanes=self._plan.lanes,
            quota_bytes=_QUOTA_BYTES,
            publisher="scanbus simulate",
        )
        append_event(self._client, self.uid, prepared)
        append_event(self._client, self.uid, ScanStarted(time=now))

    def send(
        self,
        n_steps: int | None = None,
        progress: Callable[[str, int, int | None], None] = lambda *_: None,
    ) -> None:
        """Send the next steps of the plan, by default all.

        Raises
        ------
        DeadlineError
            If Redis has no room in time.
        BusUnavailableError
            If Redis does not answer.
        """
        steps = self._plan.steps
        stop = (
            len(steps) if n_steps is None else min(self._n_done + n_steps, len(steps))
        )
        with translated(self._url):
            while self._n_done < stop:
                self._send_step(steps[self._n_done])
                self._n_done += 1
                progress("entries", self._n_done, len(steps))

    def end(self) -> Injected:
        """Send the end of the scan, unless the plan dies; return what was injected."""
        if not self._plan.dies:
            ended = ScanEnded(
                time=time.time(),
                end_reason=EndReason.SUCCESS,
                late=self._plan.late(),
            )
            with translated(self._url):
                append_event(self._client, self.uid, ended)
        return Injected(
            uid=self.uid,
            scan_number=self.identity.scan_number,
            seed=self._plan.seed,
            entries=sum(step.entry is not None for step in self._plan.steps),
            injected=self._plan.injected(),
            channels=self._plan.ledgers(),
        )

    def _send_step(self, step: Step) -> None:
        time.sleep(step.pause_s)
        self._send_heartbeat()
        if step.entry is None:
            return
        if step.stream is not step.lane:
            make_lane(self._client, self.uid, step.stream.name)
        self._append(step.stream.name, step.entry)

    def _append(self, lane: str, entry: EncodedEntry) -> None:
        deadline = time.monotonic() + _ROOM_S
        while True:
            try:
                return append_entries(self._client, self.uid, lane, [entry])
            except NoRoomError as error:
                if time.monotonic() > deadline:
                    raise DeadlineError(lane, _ROOM_S, error.reason) from error
            self._send_heartbeat()
            time.sleep(_RETRY_S)

    def _send_heartbeat(self) -> None:
        beat_publisher(self._client, self.uid, "scanbus simulate", self._heartbeat_ms)


def simulate(
    url: str,
    seed: int,
    faults: Faults,
    *,
    n_points: int = 200,
    n_frames: int = 60,
    dataset: str = "0001",
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> Injected:
    """Publish one scan with faults; return the faults and the ledgers that must result.

    Parameters
    ----------
    url : str
        Address of Redis.
    seed : int
        Seed of points and faults; not negative.
    faults : Faults
        Probability of each fault.
    n_points, n_frames : int
        Length of the lanes of small values, and of the detectors.
    dataset : str
        Dataset of the scan.
    progress : callable
        Called with ``("entries", steps done, steps in all)``.

    Raises
    ------
    DeadlineError, BusUnavailableError
        If Redis has no room in time, or does not answer.
    """
    plan = make_plan(seed, faults, n_points=n_points, n_frames=n_frames)
    with FaultyScan(url, plan, dataset=dataset) as scan:
        scan.send(progress=progress)
        return scan.end()
