"""Special files below the root are named, never opened, and stall nobody."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scanbus.bus.store import connect, find_scan, writers_alive
from scanbus.cli import main
from scanbus.schemas import VerdictWord
from scanbus.writer import WriterSettings, salvage
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.service.service import WriterService
from scanbus.writer.service.worker_pool import launch_thread
from tests.support.long import long_but
from tests.support.mixed_scan import durable, fill, whole_scan, write_once
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.special_files import SPECIAL_FILES, take_away
from tests.support.trees import files_of
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

DATASET = Path("hg123/id00/20260101/RAW_DATA/sample/sample_d1")
# Places of which the writer's own kind is refused there as well.
PLACES = {
    "work folder": DATASET / ".scanbus",
    "segment": DATASET / "scan0001/eiger_0000.h5",
    "later segment": DATASET / "scan0001/eiger_0001.h5",
    "segment of values": DATASET / "scan0001/values-0000.segment",
    "scan file": DATASET / "scan0001/scan0001_values.h5",
    "master": DATASET / "scan0001/scan0001.h5",
    "dataset master": DATASET / "sample_d1.h5",
    "collection master": DATASET.parent / "hg123_sample.h5",
    "proposal master": DATASET.parents[1] / "hg123_id00.h5",
    "scan folder": DATASET / "scan0001",
}


@contextmanager
def running(url: str, root: Path) -> Iterator[None]:
    """Run a writer in a thread: there are many cases."""
    settings = WriterSettings.load(
        redis=url, root=root, retry_s=0.1, heartbeat_s=0.2, poll_s=0.05
    )
    service = WriterService(settings, launch=launch_thread(ScanWriter))
    thread = threading.Thread(target=service.run, kwargs={"once": False})
    thread.start()
    try:
        yield
    finally:
        service.stop()
        thread.join(20)
        assert not thread.is_alive()


def problems(url: str) -> str:
    with connect(url, name="test") as client:
        found = writers_alive(client).values()
        return "; ".join(text for info in found for text in info["problems"])


def is_allowed(kind: str, place: str) -> bool:
    return kind == "folder" and place in ("work folder", "scan folder")


CASES = [
    (kind, place)
    for kind in [*SPECIAL_FILES, "link to folder", "link to file"]
    for place in PLACES
    if not is_allowed(kind, place)
]


@pytest.mark.parametrize(("kind", "place"), long_but({"fifo"}, CASES))
def test_a_special_file_is_named_and_its_scan_goes_on_when_it_is_gone(
    redis_url: str, tmp_path: Path, kind: str, place: str
) -> None:
    if kind == "device" and os.geteuid():
        pytest.skip("only root can make a device")
    root, outside = made_root(tmp_path / "data"), tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    path = root / PLACES[place]
    path.parent.mkdir(parents=True, exist_ok=True)
    targets = {"link to folder": outside, "link to file": outside / "precious"}
    if kind in targets:
        path.symlink_to(targets[kind])
    else:
        SPECIAL_FILES[kind](path)
    scan = whole_scan(redis_url)

    def is_renumbered() -> bool:
        return find_scan(scan.client, scan.uid).renumbered is not None

    with running(redis_url, root):
        # What stands among the files of a number takes the number.
        wait_until(lambda: path.name in problems(redis_url) or is_renumbered())
        assert "hangs" not in problems(redis_url)
        if is_renumbered():
            assert os.path.lexists(path)
        elif kind == "device":
            assert "a device" in problems(redis_url) or place == "scan folder"
        take_away(path)
        verdict = final_verdict(redis_url, scan.uid)

    assert verdict.verdict is VerdictWord.COMPLETE
    assert sorted(each.name for each in outside.iterdir()) == ["precious"]
    assert (outside / "precious").read_bytes() == b"precious"
    master = root / verdict.master
    assert main(["check", "--all", str(master)]) == 0


@pytest.mark.parametrize("kind", long_but({"fifo", "loop"}, SPECIAL_FILES))
def test_what_has_the_name_of_a_work_folder_is_removed_or_passed(
    redis_url: str, tmp_path: Path, kind: str
) -> None:
    root = made_root(tmp_path / "data")
    scan = whole_scan(redis_url)
    path = root / DATASET / ".scanbus" / f"{scan.uid}.1.abcd"
    path.parent.mkdir(parents=True)
    SPECIAL_FILES[kind](path)

    assert write_once(redis_url, root) == VerdictWord.COMPLETE.exit_code

    assert not path.parent.exists()


@pytest.mark.parametrize("kind", long_but({"fifo"}, SPECIAL_FILES))
@pytest.mark.parametrize("name", ["events.jsonl", "eiger_0002.h5"])
def test_salvage_uses_regular_files_only(
    redis_url: str, tmp_path: Path, kind: str, name: str
) -> None:
    """A journal of another attempt is used, and segments that are there."""
    root = made_root(tmp_path / "data")
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, root, "--lease-s", "1") as one:
        fill(scan, 0, 0.5)
        wait_until(lambda: durable(scan, 60))
        one.kill()
    (folder,) = (root / DATASET / ".scanbus").glob(f"{scan.uid}.*")
    other = folder.with_name(f"stale-{scan.uid}.0.abcd")
    other.mkdir()
    SPECIAL_FILES[kind](other / name)
    (other / "eiger_0003.account.json").symlink_to("nowhere")

    report = salvage(root, force=True)

    assert [one.verdict.verdict for one in report.scans] == [VerdictWord.PARTIAL]
    assert report.skipped == ()


@pytest.mark.parametrize("kind", long_but({"fifo"}, SPECIAL_FILES))
@pytest.mark.parametrize("place", ["segment", "scan file", "master", "dataset master"])
def test_check_and_rebuild_open_regular_files_only(
    redis_url: str, tmp_path: Path, kind: str, place: str
) -> None:
    root = made_root(tmp_path / "data")
    scan = whole_scan(redis_url)
    write_once(redis_url, root)
    master = root / final_verdict(redis_url, scan.uid).master
    path = root / PLACES[place]
    path.unlink()
    SPECIAL_FILES[kind](path)
    there = files_of(root)

    checked = path if "master" in place else master
    assert main(["check", "--all", str(checked)]) == (3 if checked == path else 2)
    assert main(["master", "rebuild", "--root", str(root)]) != 0
    assert files_of(root) == there
