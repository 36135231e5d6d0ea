"""Whatever Redis forgets and whoever dies: each scan has a number of its own.

The real functions of publisher, writer's desk and scan writer, on a real Redis and a
real folder; the machine says who asks, who dies, and what is lost.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import ClassVar

import h5py
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scanbus.bus.store import (
    Bus,
    acquire_lease,
    announce,
    announce_claimed,
    answer_request,
    connect,
    load_record,
    raise_scan_number,
    read_number_requests,
    release_lease,
)
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher.transport.scan_number import counted_number, take_given_number
from scanbus.schemas import ScanAnnounced, ScanIdentity
from scanbus.schemas.errors import ScanNumberTakenError
from scanbus.writer.model.scan_contents import OWN_GROUP
from scanbus.writer.scan.scan_number import Renumbered, claim_number, settle_number
from scanbus.writer.scan.write_authority import LeaseAuthority
from scanbus.writer.service.numbering import numbers_on_disk
from scanbus.writer.steps import Steps
from scanbus.writer.storage.work_folder import WorkFolder

pytestmark = pytest.mark.redis

DATASET = "proposal/id00/20260101/RAW_DATA/sample/sample_0001"
LEASE_MS = 60_000
# An attempt dies here: with its work folder, its claim, and without a release.
DEATHS = ("settled", "renumbered", "fenced", "claimed", "first file", None)


@dataclass
class Sent:
    """A scan that a program has opened, as its publisher knows it."""

    announced: ScanAnnounced
    number: int = 0
    is_finished: bool = False


class KilledError(Exception):
    pass


class Numbers(RuleBasedStateMachine):
    server: ClassVar[PrivateRedis]

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="scanbus-numbers-"))
        self.dataset = self.root / DATASET
        self.client: Bus = connect(self.server.url, name="machine")
        self.scans: list[Sent] = []
        self.foreign: dict[Path, bytes] = {}

    def teardown(self) -> None:
        try:
            self.writer_answers()
            for scan in self.scans:
                self.write(scan, None)
                assert scan.is_finished
            self.all_is_in_its_place()
        finally:
            self.client.close()
            shutil.rmtree(self.root)

    @initialize()
    def begin(self) -> None:
        self.client.flushall()

    # ---------------------------------------------------------------- programs

    @rule()
    def open_counted(self) -> None:
        self._announce(counted_number(self.client, DATASET, self._next_uid()))

    @rule(number=st.integers(1, 6))
    def open_given(self, number: int) -> None:
        scan = identity(number, len(self.scans))
        known = {each.announced.scan.scan_number for each in self.scans}
        before = self.client.xlen("scanbus:scans")
        try:
            take_given_number(self.client, scan)
        except ScanNumberTakenError:
            assert number in known  # No writer is alive to answer for the disk.
            assert self.client.xlen("scanbus:scans") == before
            return
        assert number not in known
        self._announce(number)

    @rule()
    def open_two_at_once_with_one_number(self) -> None:
        """As two programs that were given the same, before either is announced."""
        number = counted_number(self.client, DATASET, self._next_uid())
        self._announce(number)
        self._announce(number)

    def _next_uid(self) -> str:
        return identity(1, len(self.scans)).uid

    def _announce(self, number: int) -> None:
        scan = identity(number, len(self.scans))
        announced = ScanAnnounced(time=time(), scan=scan)
        announce_claimed(self.client, announced, is_given=False)
        self.scans.append(Sent(announced))

    # ------------------------------------------------------------------- disk

    @rule(number=st.integers(1, 9), is_folder=st.booleans())
    def copy_files(self, number: int, is_folder: bool) -> None:
        """Somebody else's files, in a place that no scan of ours has."""
        folder = self.dataset / f"scan{number:04d}"
        if (
            folder.exists()
            or (self.dataset / f".scanbus/claim-scan{number:04d}").exists()
        ):
            return
        self.dataset.mkdir(parents=True, exist_ok=True)
        path = folder
        if is_folder:
            folder.mkdir()
            path = folder / f"scan{number:04d}.h5"
        path.write_bytes(b"of somebody else")
        self.foreign[path] = path.read_bytes()

    # ----------------------------------------------------------------- writer

    @rule()
    def writer_answers(self) -> None:
        for request in read_number_requests(self.client, "0-0"):
            found = numbers_on_disk(self.root, request.dataset, request.number)
            answer_request(self.client, request, found)

    @precondition(lambda self: self.scans)
    @rule(data=st.data(), death=st.sampled_from(DEATHS))
    def attempt(self, data: st.DataObject, death: str | None) -> None:
        self.write(data.draw(st.sampled_from(self.scans)), death)

    @rule()
    def redis_forgets_everything(self) -> None:
        """Living publishers announce their scans again, with the old number."""
        self.client.flushall()
        for scan in self.scans:
            announce(self.client, scan.announced)
            number = scan.announced.scan.scan_number
            raise_scan_number(self.client, DATASET, number)

    def write(self, scan: Sent, death: str | None) -> None:
        for _ in range(2 * len(self.scans) + 3):
            try:
                self._attempt(scan, death)
            except Renumbered:
                continue
            except KilledError:
                pass
            return
        pytest.fail(f"no end of numbers: {scan}")

    def _attempt(self, scan: Sent, death: str | None) -> None:
        uid = scan.announced.scan.uid
        lease = acquire_lease(self.client, uid, "writer", LEASE_MS)
        assert lease is not None
        try:
            self._steps(scan, LeaseAuthority(self.client, lease, LEASE_MS), death)
        finally:
            release_lease(self.client, lease)  # As if it had expired.

    def _steps(self, scan: Sent, authority: LeaseAuthority, death: str | None) -> None:
        record = load_record(self.client, scan.announced)
        try:
            settle_number(self.dataset, record, authority)
        except Renumbered:
            die_at("renumbered", death)
            raise
        die_at("settled", death)
        work = WorkFolder(self.dataset, record.uid, authority.fence, Steps())
        work.open()
        die_at("fenced", death)
        claim_number(work, record, authority)
        die_at("claimed", death)
        number = record.identity.scan_number
        assert scan.number in (0, number), "a scan with files keeps its number"
        scan.number = number
        folder = self.dataset / f"scan{number:04d}"
        folder.mkdir(exist_ok=True)
        segment = folder / "cam_0000.h5"
        if not segment.exists():
            with h5py.File(segment, "w") as file:
                file[f"{OWN_GROUP}/uid"] = record.uid
        die_at("first file", death)
        values = folder / f"scan{number:04d}_values.h5"
        if not values.exists():
            shutil.copy(segment, values)
        work.clear()
        scan.is_finished = True

    # ------------------------------------------------------------------ truth

    @invariant()
    def all_is_in_its_place(self) -> None:
        numbers = [scan.number for scan in self.scans if scan.number]
        assert len(set(numbers)) == len(numbers)
        for scan in self.scans:
            folder = self.dataset / f"scan{scan.number:04d}"
            for path in folder.glob("*.h5") if scan.number else ():
                with h5py.File(path) as file:
                    found = file[f"{OWN_GROUP}/uid"].asstr()[()]
                assert found == scan.announced.scan.uid
        assert {path: path.read_bytes() for path in self.foreign} == self.foreign


def identity(number: int, index: int) -> ScanIdentity:
    proposal, beamline, session, _, collection, _ = DATASET.split("/")
    return ScanIdentity(
        uid=f"machinescan{index:05d}",
        proposal=proposal,
        beamline=beamline,
        session=session,
        collection=collection,
        dataset="0001",
        scan_number=number,
    )


def die_at(place: str, death: str | None) -> None:
    if place == death:
        raise KilledError


def test_each_scan_has_a_number_of_its_own() -> None:
    with PrivateRedis() as server:
        Numbers.server = server
        run_state_machine_as_test(
            Numbers,
            settings=settings(
                max_examples=40,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
