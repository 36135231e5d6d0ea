"""Replay below the root of living writers, and beside other replays."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import hdf5plugin  # noqa: F401  (registers the filters)
import pytest

from scanbus.cli.private_redis import PrivateRedis
from scanbus.schemas import Verdict, VerdictWord
from scanbus.schemas.claim_names import replay_owner
from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.file_names import WORK_FOLDER, dataset_path
from scanbus.writer import check_files, replay
from scanbus.writer.steps import Steps
from scanbus.writer.storage.work_folder import WorkFolder
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.waiting import found_below
from tests.support.writers import WriterProcess, final_verdict, wait_until, writer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def living_writer(server: PrivateRedis, root: Path) -> Iterator[WriterProcess]:
    with writer(server.url, root) as one:
        yield one


class Replays:
    """Replays in threads, which follow a scan that runs."""

    def __init__(self, url: str, uid: str, root: Path) -> None:
        self._url = url
        self._uid = uid
        self._root = root
        self._threads = ThreadPoolExecutor(4)

    def start(self, number: int) -> "Future[Verdict]":
        """Start one; return its future verdict when it writes."""
        before = set(_work_of(self._root, "replay"))
        verdict = self._threads.submit(
            replay, self._url, self._uid, self._root, as_number=number
        )
        wait_until(lambda: set(_work_of(self._root, "replay")) - before)
        return verdict


def _send(scan: RawScan, *firsts: int) -> None:
    for first in firsts:
        scan.send_frames(first, first + 4)


def _work_of(root: Path, owner: str = "") -> list[str]:
    """Return the work folders with open segments of owners with such names."""
    # Not of the folder in which a replay tries the file system, and which may vanish.
    proposals = [each for each in root.iterdir() if not each.name.startswith(".")]
    pattern = f"**/RAW_DATA/**/{WORK_FOLDER}/{owner}*/eiger_*.h5"
    found = [path for each in proposals for path in each.glob(pattern)]
    return sorted({path.parent.name for path in found})


def test_a_running_scan_is_replayed_below_the_root_of_its_living_writer(
    server: PrivateRedis, root: Path, living_writer: WriterProcess
) -> None:
    """The writer keeps its lease, and each replay its number and its files."""
    scan = RawScan(server.url).prepare()
    _send(scan, 0, 4)
    wait_until(lambda: _work_of(root, scan.uid))
    replays = Replays(server.url, scan.uid, root)
    verdicts = [replays.start(number) for number in (5, 6)]
    before = _work_of(root, scan.uid)
    _send(scan, *range(8, 44, 4))
    wait_until(lambda: len(found_below(root, "scan*/eiger_0001.h5")) == 3)
    assert _work_of(root, scan.uid) == before
    _send(scan, 44)
    scan.end()

    said = [one.result(60) for one in verdicts]
    said.append(final_verdict(server.url, scan.uid))

    assert [one.verdict for one in said] == [VerdictWord.COMPLETE] * 3
    masters = sorted(found_below(root, "scan*/scan????.h5"))
    assert [path.stem for path in masters] == ["scan0001", "scan0005", "scan0006"]
    assert check_files(masters, everything=True).ok
    wait_until(lambda: not found_below(root, f"*/RAW_DATA/**/{WORK_FOLDER}/*"))
    assert "lease" not in living_writer.said


def test_a_later_replay_of_one_number_takes_it_over(
    server: PrivateRedis, root: Path, living_writer: WriterProcess
) -> None:
    """As after a replay that was killed; the earlier one says so."""
    scan = RawScan(server.url).prepare()
    _send(scan, 0, 4)
    replays = Replays(server.url, scan.uid, root)
    earlier = replays.start(5)
    later = replays.start(5)
    _send(scan, *range(8, 24, 4))
    scan.end()

    assert later.result(60).verdict is VerdictWord.COMPLETE
    with pytest.raises(NameTakenError, match="scan0005"):
        earlier.result(60)
    assert final_verdict(server.url, scan.uid).verdict is VerdictWord.COMPLETE
    assert not found_below(root, f"{WORK_FOLDER}/*replay*")
    assert "lease" not in living_writer.said


def test_only_the_writer_writes_a_scan_under_its_number_below_its_root(
    server: PrivateRedis, root: Path, living_writer: WriterProcess
) -> None:
    scan = RawScan(server.url).prepare()
    _send(scan, 0, 4)
    wait_until(lambda: _work_of(root, scan.uid))
    for number in (None, 1):
        with pytest.raises(NameTakenError, match="a writer has not finished"):
            replay(server.url, scan.uid, root, as_number=number)
    _send(scan, *range(8, 24, 4))
    scan.end()

    assert final_verdict(server.url, scan.uid).verdict is VerdictWord.COMPLETE
    assert "lease" not in living_writer.said


def test_a_claim_that_a_replay_left_does_not_keep_its_scan_from_that_number(
    server: PrivateRedis, root: Path
) -> None:
    """The replay was killed before the folder became a root of a writer."""
    scan = RawScan(server.url).prepare()
    _send(scan, *range(0, 24, 4))
    scan.end()
    dataset = made_root(root) / dataset_path(scan.identity)
    left = WorkFolder(dataset, replay_owner(scan.uid, 1), 0, Steps())
    left.open()
    left.claim(1)

    with writer(server.url, root):
        assert final_verdict(server.url, scan.uid).verdict is VerdictWord.COMPLETE

    assert len(found_below(root, "scan0001/scan0001.h5")) == 1
