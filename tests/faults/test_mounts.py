"""The output folder hangs, or may not be written any more: nothing is lost.

What hangs is said, the service lives on, and it leaves when it is asked to.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.bus.protocol import fence_key, lease_key
from scanbus.bus.store import connect, read_cursor, writers_alive
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import EndReason, VerdictWord
from scanbus.writer import replay
from scanbus.writer.scan.disk_space import FreeSpace
from tests.faults.processes import LEASE_S, WriterProcess, until
from tests.support.mounts import dead_mount, frozen, loop_mount, read_only_mount
from tests.support.roots import made_root
from tests.support.trees import differences
from tests.support.waiting import found_below
from tests.support.writers import final_verdict

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(120)]

PROPOSAL = "hangs"
SHAPE = (64, 64)
N_POINTS = 120
SLOW_S = 0.5
SOON_S = 30.0
SPARE_S = 5.0
STOP_S = 2.0
# Half of it holds some 30 frames: so many are in a segment.
QUOTA_BYTES = 600_000


@contextmanager
def writing(
    url: str, folder: Path, name: str = "writer", **given: Any
) -> Iterator[WriterProcess]:
    environment = {
        "SCANBUS_SLOW_S": str(SLOW_S),
        "SCANBUS_STOP_S": str(STOP_S),
        "SCANBUS_LEAST_FREE_BYTES": "0",
        "PYTHONFAULTHANDLER": "1",
        # As replay does, to which the files are compared.
        "SCANBUS_WANTED_SOURCES": "128",
    }
    if name == "writer":  # A later one finds the root, though its mount is dead.
        made_root(folder / "files")
    one = WriterProcess(
        url, folder / "files", folder, name, environment=environment, **given
    )
    try:
        assert until(lambda: one.is_ready, SOON_S), one.log_tail()
        yield one
    finally:
        one.kill()


@pytest.fixture
def scan(redis_url: str) -> Iterator[Scan]:
    """A scan that has sent nothing yet; its publisher outlives the writers."""
    options: dict[str, Any] = {"proposal": PROPOSAL, "quota_bytes": QUOTA_BYTES}
    with (
        Publisher(redis_url, close_timeout_s=1) as publisher,
        publisher.scan(scan_number=1, **options) as one,
    ):
        # Not packed: segments end by their bytes on the bus.
        one.detector(
            "camera", shape=SHAPE, dtype="uint16", points_per_chunk=1, codec="none"
        )
        one.channel("i0")
        yield one


def send_half(url: str, scan: Scan) -> None:
    """Send the first half, and wait until some of it is acknowledged.

    The next quarter has room then, though nothing more becomes durable.
    """
    send(scan, 0, N_POINTS // 2)
    with connect(url, name="test") as client:
        assert until(lambda: read_cursor(client, scan.uid, "camera") > 0, SOON_S)


def send(scan: Scan, start: int, stop: int) -> None:
    for number in range(start, stop):
        scan.send("camera", np.full(SHAPE, number, np.uint16))
        scan.send("i0", float(number))


def send_quarter(scan: Scan) -> None:
    send(scan, N_POINTS // 2, N_POINTS * 3 // 4)


def said(url: str) -> str:
    with connect(url, name="test") as client:
        found = writers_alive(client).values()
        return "; ".join(text for info in found for text in info["problems"])


def assert_ends_complete(url: str, scan: Scan, folder: Path) -> None:
    send(scan, N_POINTS * 3 // 4, N_POINTS)
    scan.finish(EndReason.SUCCESS)
    verdict = final_verdict(url, scan.uid)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert verdict.channels["camera"].written == N_POINTS
    replay(url, scan.uid, folder / "again")
    assert differences(folder / "files", folder / "again") == []


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """Where the files go: a file system of its own."""
    folder = tmp_path / "files" / PROPOSAL
    with loop_mount(tmp_path / "image", folder):
        yield folder


def test_a_frozen_mount_is_named_and_its_scan_ends_complete_when_it_thaws(
    redis_url: str, scan: Scan, tmp_path: Path, mount: Path
) -> None:
    with writing(redis_url, tmp_path) as writer:
        send_half(redis_url, scan)
        with frozen(mount), connect(redis_url, name="test") as client:
            send_quarter(scan)
            assert until(lambda: "stalled: " in said(redis_url), SOON_S)
            # By now its lease and its sign of life would have lapsed.
            time.sleep(3 * LEASE_S)
            assert "stalled: " in said(redis_url)
            fence = int(client.get(fence_key(scan.uid)) or 0)
            # Taken from it, as if it had stood still for longer than the lease.
            assert client.delete(lease_key(scan.uid, fence)) == 1
        assert_ends_complete(redis_url, scan, tmp_path)
        log = writer.log.read_text()

    assert log.count('"scan_stalled"') == 1
    before, _, after = log.partition('"scan_stalled"')
    assert "the lease with fence" not in before
    assert "the lease with fence" in after


def test_a_writer_leaves_in_time_while_a_mount_is_frozen(
    redis_url: str, scan: Scan, tmp_path: Path, mount: Path
) -> None:
    with writing(redis_url, tmp_path) as writer:
        send_half(redis_url, scan)
        with frozen(mount):
            send_quarter(scan)
            assert until(lambda: "stalled: " in said(redis_url), SOON_S)
            asked_at = time.monotonic()
            writer.process.terminate()
            # The kernel keeps a thread that waits for this mount, whoever kills it.
            assert until(lambda: has_exited(writer), SOON_S)
            assert time.monotonic() - asked_at < STOP_S + SPARE_S
        assert writer.process.wait(SOON_S) == 0
        assert "stalled: " in writer.log_tail()
    with writing(redis_url, tmp_path, "successor"):
        assert_ends_complete(redis_url, scan, tmp_path)


def has_exited(writer: WriterProcess) -> bool:
    stat = Path(f"/proc/{writer.process.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "Z"


def stacks(writer: WriterProcess) -> str:
    """What the threads of a writer and its workers are at; it does not survive this."""
    workers = re.findall(r'"workers": \[(\d+)\]', writer.log.read_text())
    for n_asked, pid in enumerate([*workers, writer.process.pid], start=1):
        os.kill(int(pid), signal.SIGABRT)
        until(lambda: writer.log.read_text().count("Fatal") >= n_asked, SOON_S)  # noqa: B023
    return writer.log.read_text()


def test_a_mount_that_answers_nothing_does_not_stop_the_service(
    redis_url: str, scan: Scan, tmp_path: Path
) -> None:
    root = tmp_path / "files"
    with writing(redis_url, tmp_path) as writer:
        send_half(redis_url, scan)
        with dead_mount(root):
            send_quarter(scan)
            assert until(lambda: "stalled: " in said(redis_url), SOON_S), stacks(writer)
            time.sleep(3 * LEASE_S)
            assert "stalled: " in said(redis_url)
            asked_at = time.monotonic()
            writer.process.terminate()
            assert writer.process.wait(SOON_S) == 0
            assert time.monotonic() - asked_at < STOP_S + SPARE_S
    with writing(redis_url, tmp_path, "successor"):
        assert_ends_complete(redis_url, scan, tmp_path)


@pytest.mark.parametrize("how", ["made", "opened"])
def test_a_mount_that_goes_while_hdf5_opens_a_file_stops_one_thread(
    tmp_path: Path, repository: Path, how: str
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.faults.hdf5_opener", how]
    with dead_mount(folder):
        opener = subprocess.Popen(
            [*command, str(folder / "a.h5")],
            cwd=repository,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            said, _ = opener.communicate(timeout=SOON_S)
        finally:
            opener.kill()
            opener.wait(SOON_S)
    assert said == "hangs, others run\n"


# Not of root: may write where a folder's mode says so, and nowhere else.
ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")


@contextmanager
def forbidden(root: Path) -> Iterator[None]:
    """Folders that may not be written by their owner."""
    folders = [root, *(path for path in found_below(root, "*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        yield
    finally:
        for folder in folders:
            if folder.exists():
                folder.chmod(0o755)


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [(forbidden, "User 0 needs to write there"), (read_only_mount, "read-write")],
    ids=["permission", "read-only"],
)
def test_a_folder_that_may_not_be_written_pauses_its_scan_until_it_may(
    redis_url: str, scan: Scan, tmp_path: Path, trouble: Any, sentence: str
) -> None:
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root can run a writer without the powers of root")
    root = tmp_path / "files"
    with writing(redis_url, tmp_path, under=ORDINARY):
        send_half(redis_url, scan)
        with trouble(root):
            send_quarter(scan)
            assert until(lambda: sentence in said(redis_url), SOON_S), said(redis_url)
            assert f"paused: cannot write below {root}: " in said(redis_url)
        assert_ends_complete(redis_url, scan, tmp_path)


def test_free_space_of_a_mount_that_does_not_answer_is_unknown_at_once(
    tmp_path: Path,
) -> None:
    space = FreeSpace(tmp_path)
    assert space.measure() > 0
    with dead_mount(tmp_path):
        started = time.monotonic()
        assert [space.measure(), space.measure()] == [0, 0]
        assert time.monotonic() - started < SPARE_S
    assert until(lambda: space.measure() > 0, SOON_S)
