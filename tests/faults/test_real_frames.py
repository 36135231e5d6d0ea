"""One scan of real frames, and writers that are killed while it lasts."""

import random
import threading
from pathlib import Path
from typing import Any

import fabio
import numpy as np
import pytest

from scanbus.bus.codecs import find_codec
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.file_names import WORK_FOLDERS_GLOB
from scanbus.writer import replay
from tests.conftest import RedisFactory
from tests.faults.processes import WriterProcess, until
from tests.support.roots import made_root
from tests.support.trees import differences, files_of
from tests.support.waiting import found_below

pytestmark = [pytest.mark.faults, pytest.mark.redis]

# As replay does, to which the files are compared.
UNJOINED = {"SCANBUS_WANTED_SOURCES": "128"}
PER_KILL = 10
# So much that nothing is trimmed: the scan is replayed when it is over.
MEMORY_BYTES = 2**33
CODEC = "bitshuffle-lz4"
# Each is reached at least once while ten more frames, more than a segment, come.
PLACES = (
    "write.before",
    "write.after",
    "flush.before",
    "close.before",
    "verify.before",
    "fsync.before",
    "link.before",
    "link.after",
    "acknowledge.before",
    "renew.after",
)


@pytest.fixture(scope="module")
def packed_frames(shared_data: Path) -> tuple[tuple[int, int], list[bytes]]:
    """The frames of the thaumatin grid as chunks, and the shape of one."""
    packed = []
    for path in sorted((shared_data / "thaumatin_grid").glob("*.cbf.bz2")):
        with fabio.open(str(path)) as image:
            frame: Any = np.ascontiguousarray(image.data)
        packed.append(bytes(find_codec(CODEC).encode(frame)))
    return frame.shape, packed


@pytest.fixture
def server(redis_factory: RedisFactory) -> PrivateRedis:
    return redis_factory()


def send(
    scan: Scan, packed: list[bytes], n_frames: int, may_send: threading.Semaphore
) -> None:
    """Send the scan; of every ten frames, ten are sent when a writer was killed."""
    for number in range(n_frames):
        if number % PER_KILL == 0:
            may_send.acquire()
        scan.send("omega", number * 0.1)
        scan.send("pilatus", packed=packed[number % len(packed)])


def kill_one(url: str, root: Path, logs: Path, turn: int, place: str) -> None:
    """Run a writer up to a failpoint that kills its worker; then kill the service."""
    armed = f"{place}=kill@1"
    name = f"writer-{turn}"
    writer = WriterProcess(
        url,
        root,
        logs,
        name,
        failpoints=armed,
        memory_bytes=MEMORY_BYTES,
        environment=UNJOINED,
    )
    try:
        assert until(lambda: writer.was_hit, 60), f"{armed}: {writer.log_tail()}"
    finally:
        writer.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_writer_killed_at_every_place_leaves_what_an_undisturbed_one_does(
    server: PrivateRedis,
    packed_frames: tuple[tuple[int, int], list[bytes]],
    tmp_path: Path,
    rounds: int,
) -> None:
    shape, packed = packed_frames
    n_kills = rounds * len(PLACES)
    n_frames = n_kills * PER_KILL
    root, logs = made_root(tmp_path / "killed"), tmp_path / "logs"
    logs.mkdir()
    chance = random.Random(20)
    places = [
        place for _ in range(rounds) for place in chance.sample(PLACES, k=len(PLACES))
    ]
    may_send = threading.Semaphore(0)
    # Half of it holds one frame that is not packed, and seven more as they are packed.
    options: dict[str, Any] = {"quota_bytes": 96 * 2**20, "compression": 7.0}

    # Most of these writers write nothing; on a busy machine each of them takes long.
    patience: dict[str, Any] = {"close_timeout_s": 60, "send_deadline_s": 400}
    with Publisher(server.url, name="thaumatin", **patience) as publisher:
        with publisher.scan(scan_number=1, **options) as scan:
            scan.channel("omega", role="axis", units="deg")
            scan.detector("pilatus", shape=shape, dtype="int32", codec=CODEC)
            feeding = threading.Thread(
                target=send, args=(scan, packed, n_frames, may_send), daemon=True
            )
            feeding.start()
            for turn, place in enumerate(places):
                may_send.release()
                kill_one(server.url, root, logs, turn, place)
            last = WriterProcess(
                server.url,
                root,
                logs,
                "last",
                memory_bytes=MEMORY_BYTES,
                environment=UNJOINED,
            )
            feeding.join(60)
        try:
            verdict = scan.verdict(60)
        finally:
            last.leave()

    assert verdict.verdict is VerdictWord.COMPLETE
    assert verdict.channels["pilatus"].written == n_frames
    assert len(found_below(root, "pilatus_*.h5")) > n_kills
    replay(server.url, scan.uid, tmp_path / "undisturbed")
    assert differences(root, tmp_path / "undisturbed") == []
    assert files_of(root)
    assert not list(root.glob(WORK_FOLDERS_GLOB))
