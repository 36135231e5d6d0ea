"""Whoever waits for a scan hears from its publisher what its writer waits for."""

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from scanbus.bus.store import connect, why_paused, writers_alive
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import DeadlineError
from scanbus.schemas.file_names import shared_segment_name
from tests.support.mounts import read_only_mount, small_disk
from tests.support.waiting import found_below, wait_until
from tests.support.writers import WriterProcess, writer

pytestmark = pytest.mark.redis

# Called with the root and the writer.
Obstacle = Callable[[Path, WriterProcess], AbstractContextManager[None]]
N_NAMES = 500
# Without what lets root write anywhere, whatever the permissions.
ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")


@contextmanager
def no_space(root: Path, _: WriterProcess) -> Iterator[None]:
    free = shutil.disk_usage(root).free
    blocker = root / "somebody_elses_data"
    blocker.write_bytes(bytes(free - 2**20))
    try:
        yield
    finally:
        blocker.unlink()


@contextmanager
def read_only(root: Path, _: WriterProcess) -> Iterator[None]:
    with read_only_mount(root):
        yield


@contextmanager
def no_permission(root: Path, _: WriterProcess) -> Iterator[None]:
    folder = first_segment(root).parent
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(0o700)


@contextmanager
def no_longer_a_root(root: Path, _: WriterProcess) -> Iterator[None]:
    hidden = root / ".scanbus"
    away = hidden.rename(root / "away")
    try:
        yield
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        away.rename(hidden)


@contextmanager
def root_moved(root: Path, _: WriterProcess) -> Iterator[None]:
    away = root.rename(root.with_name("moved"))
    try:
        yield
    finally:
        away.rename(root)


@contextmanager
def name_taken(root: Path, _: WriterProcess) -> Iterator[None]:
    """Files of somebody else have the names of all segments to come."""
    first = first_segment(root)
    foreign = []
    for number in range(1, N_NAMES):
        path = first.with_name(shared_segment_name(number))
        with suppress(FileExistsError), path.open("xb") as file:
            file.write(b"of somebody else")
            foreign.append(path)
    try:
        yield
    finally:
        for path in foreign:
            path.unlink()


@contextmanager
def workers_die(_: Path, process: WriterProcess) -> Iterator[None]:
    """Whatever kills them: out of memory, a bug in a library."""
    is_over = threading.Event()

    def kill() -> None:
        while not is_over.wait(0.2):
            for worker in process.workers:
                with suppress(psutil.NoSuchProcess):
                    worker.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def workers_hang(_: Path, process: WriterProcess) -> Iterator[None]:
    workers = process.workers
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGCONT)


def first_segment(root: Path) -> Path:
    return next(segments(root))


def segments(root: Path) -> Iterator[Path]:
    """Those under their final names: work folders are hidden."""
    for path in found_below(root, shared_segment_name(0)):
        if not any(part.startswith(".") for part in path.relative_to(root).parts):
            yield path


@pytest.fixture
def config(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "scanbus.toml"
    path.write_text(
        "heartbeat_s = 0.3\nlease_s = 1.0\nretry_s = 0.2\n"
        "least_free_bytes = 8000000\nlow_water_bytes = 0\n"
    )
    return "--config", str(path)


def send_without_end(scan: Scan) -> None:
    for number in count():
        scan.send("i0", [float(number)] * 1000)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("obstacle", "sentence"),
    [
        (no_space, "paused: no space on "),
        (read_only, "Read-only file system"),
        pytest.param(no_permission, "Permission denied", marks=pytest.mark.long),
        (no_longer_a_root, "is no root"),
        pytest.param(root_moved, "is no root", marks=pytest.mark.long),
        (name_taken, "taken"),
        (workers_die, "its worker process ended"),
        (workers_hang, "has been silent for"),
    ],
)
def test_whoever_waits_hears_what_the_writer_waits_for(
    redis_url: str,
    tmp_path: Path,
    config: tuple[str, str],
    obstacle: Obstacle,
    sentence: str,
) -> None:
    with ExitStack() as stack:
        root = tmp_path / "root"
        if obstacle is no_space:
            stack.enter_context(small_disk(root, "48m"))
        prefix = () if os.geteuid() else ORDINARY
        process = stack.enter_context(writer(redis_url, root, *config, prefix=prefix))
        client = stack.enter_context(connect(redis_url, name="test"))
        publisher = stack.enter_context(
            Publisher(redis_url, send_deadline_s=8, close_timeout_s=60)
        )
        wait_until(lambda: bool(writers_alive(client)), timeout_s=60)
        with ExitStack() as blocked:
            with publisher.scan(quota_bytes=2**16) as scan, capture_logs() as logs:
                scan.channel("i0")
                scan.send("i0", [0.0] * 5000)
                wait_until(lambda: any(segments(root)), timeout_s=30)
                blocked.enter_context(obstacle(root, process))
                with pytest.raises(DeadlineError) as failed:
                    send_without_end(scan)
            with pytest.raises(DeadlineError, match=sentence):
                scan.verdict(0.1)
        said = [str(each.get("reason", "")) for each in logs]
        assert sentence in str(failed.value)
        assert any(sentence in text for text in said)
        assert scan.verdict(60).verdict is VerdictWord.COMPLETE
        # What is over is not said any more.
        wait_until(lambda: not why_paused(writers_alive(client), scan.uid))


def test_what_one_writer_says_of_a_scan_counts_more_than_its_own_troubles() -> None:
    one = {"paused": {"u": "no space"}, "problems": ["no space", "root gone"]}
    other = {"paused": {}, "problems": ["root gone"]}

    assert why_paused({"one": one, "other": other}, "u") == "no space"
    assert why_paused({"one": one, "other": other}, "v") == "root gone"
    assert why_paused({"one": one, "other": {"problems": []}}, "v") == ""
    assert why_paused({}, "u") == ""


@pytest.mark.parametrize("info", [{}, {"paused": 3}, {"problems": {"a": [1]}}])
def test_a_status_of_other_types_says_nothing(info: dict[str, object]) -> None:
    assert why_paused({"one": info, "two": {"paused": {"u": 7}}}, "u") == ""
