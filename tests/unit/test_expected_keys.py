"""What a monitor expects on the bus, while a sender makes the scan another one."""

import sys
import threading

import pytest

from scanbus.bus.codecs import ThreadPool
from scanbus.publisher.queue.inbox import Inbox
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.queue.send_limits import SendLimits
from scanbus.publisher.transport.resync import expected_keys
from scanbus.schemas import ScanAnnounced, ScanIdentity

N_SCANS = 3000


def _announced(number: int) -> ScanAnnounced:
    scan = ScanIdentity(
        uid=f"scan{number:08d}",
        proposal="hg123",
        beamline="id00",
        session="20260101",
        collection="sample",
        dataset="d1",
        scan_number=number,
    )
    return ScanAnnounced(time=1.0, scan=scan)


@pytest.fixture
def queue() -> ScanQueue:
    return ScanQueue(
        _announced(1),
        b"session",
        inbox=Inbox(),
        limits=SendLimits(),
        threads=ThreadPool(1, "test"),
        why_full=lambda: "",
    )


def test_nothing_is_expected_of_a_scan_before_it_is_announced(queue: ScanQueue) -> None:
    assert expected_keys(queue) is None
    queue.set_announcement("1-1")
    expected = expected_keys(queue)
    assert expected is not None
    assert (expected.uid, expected.announcement) == ("scan00000001", "1-1")
    queue.continue_as(_announced(2), {})
    assert expected_keys(queue) is None


def test_of_a_number_that_does_not_count_no_counter_is_expected(
    queue: ScanQueue,
) -> None:
    """Otherwise all of the scan would be restored at every look."""
    for number, least in ((7, 7), (89_999_999, 89_999_999), (90_000_000, 0)):
        queue.continue_as(_announced(number), {})
        queue.set_announcement("1-1")
        expected = expected_keys(queue)
        assert expected is not None
        assert expected.number == least


def test_what_is_expected_is_all_of_one_scan(queue: ScanQueue) -> None:
    """Redis refuses an empty id, and what another scan lacks is not lost."""
    wrong: list[object] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            expected = expected_keys(queue)
            if expected is not None:
                number = expected.number
                right = (f"scan{number:08d}", f"{number}-1")
                if (expected.uid, expected.announcement) != right:
                    wrong.append(expected)

    thread = threading.Thread(target=look)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for number in range(2, N_SCANS):
            queue.set_announcement(f"{number - 1}-1")
            queue.continue_as(_announced(number), {})
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(before)
    assert not wrong
