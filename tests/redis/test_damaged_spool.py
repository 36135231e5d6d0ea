"""A damaged spool costs the damaged records, which are named; the rest is sent."""

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from scanbus.bus.protocol import events_key, lane_key
from scanbus.bus.store import connect, make_lane
from scanbus.cli import main
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.spool import ScanSpool
from scanbus.publisher.spool.records import HEAD_BYTES, Record, scan_records
from scanbus.schemas import EndReason, ScanIdentity, Verdict, VerdictWord
from scanbus.schemas.exit_codes import ExitCode
from tests.conftest import RedisFactory
from tests.support.damage import DAMAGE, Damage, inflict
from tests.support.published import MemoryWriter, ReadLane, frames, record_of
from tests.support.roots import made_root
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, writer

pytestmark = pytest.mark.redis

SHAPE = (32, 32)
N_FRAMES = 40
VALUES = np.arange(3 * N_FRAMES) * 1.5


class Bench(NamedTuple):
    """A Redis, the root of a writer at work, and a whole spool to be copied."""

    url: str
    root: Path
    template: Path


def spooled(url: str, spool: Path) -> str:
    """Leave a whole scan in a spool; return its uid."""
    with Publisher(url, spool=spool, close_timeout_s=0) as publisher:
        with publisher.scan(session="20260101", quota_bytes=2**22) as scan:
            scan.channel("a")
            scan.channel("label", dtype="string", max_point_bytes=32)
            scan.detector("d", shape=SHAPE, dtype="uint32", points_per_chunk=1)
            for point in (0, 2):
                scan.send("label", f"text {point}", point=point)
            scan.skip("label", 1)
            scan.send("label", "text 1", point=1)
            for n in range(N_FRAMES):
                scan.send("a", VALUES[3 * n : 3 * n + 3])
                scan.send("d", frames(n, 1, SHAPE))
                if n % 10 == 9:
                    scan.update(metadata={f"reached_{n}": n})
                    scan.flush(20)
    return scan.uid


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    root = made_root(folder / "root")
    with PrivateRedis(options={"maxmemory": 2**28}) as server:
        uid = spooled(server.url, folder / "spool")
        with connect(server.url, name="test") as client:
            client.flushall()
        with writer(server.url, root):
            yield Bench(server.url, root, folder / "spool" / uid)


_numbers = iter(range(1, 10**6))


def copied(bench: Bench, spool: Path) -> Path:
    """Copy the template into a spool as another scan; return its folder."""
    shutil.copytree(bench.template, spool / "copy")
    taken = ScanSpool.take(spool / "copy")
    assert taken is not None
    scan = taken.recover()
    assert scan is not None
    update = {"uid": uuid.uuid4().hex, "scan_number": next(_numbers)}
    identity: ScanIdentity = scan.announced.scan.model_copy(update=update)
    announced = scan.announced.model_copy(update={"scan": identity})
    taken.write_identity(announced, "", scan.session)
    taken.close()
    return taken.folder.rename(taken.folder.with_name(identity.uid))


def files_in(folder: Path) -> dict[Path, bytes]:
    """Return all files but the lock."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(found_below(folder, "*"))
        if path.is_file() and path.name != "lock"
    }


def _part(data: bytes, offset: int, nbytes: int) -> bytes:
    return data[offset : offset + nbytes]


def places(
    before: dict[Path, bytes], lane: str
) -> Iterator[tuple[Path, bytes, int, int]]:
    """Yield file, bytes, first and stop of each record of a lane."""
    point = 0
    for path, data in before.items():
        if path.parts[:2] != ("lanes", lane):
            continue
        for each in scan_records(partial(_part, data), len(data)):
            assert isinstance(each, Record)
            whole = data[each.offset - HEAD_BYTES : each.offset + each.head.nbytes]
            yield path, whole, point, each.head.stop
            point = each.head.stop


def points_of(verdict: Verdict, channel: str) -> set[int]:
    return {p for r in verdict.channels[channel].missing for p in range(*r)}


@given(damage=DAMAGE)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_is_damaged_all_the_rest_is_in_the_files_and_the_loss_is_named(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    spool = tmp_path_factory.mktemp("spool")
    folder = copied(bench, spool)
    before = files_in(folder)
    hit = inflict(damage, [folder / path for path in before]).relative_to(folder)
    damaged = files_in(folder)

    code = main(["publish", "resume", "--spool", str(spool), "--redis", bench.url])

    if folder.exists():  # It cannot be read: it stays as it is.
        assert hit.parts[0] in ("scan.json", "events")
        assert code == ExitCode.FAILED
        assert files_in(folder) == damaged
        return
    verdict = final_verdict(bench.url, folder.name)
    assert code == verdict.verdict.exit_code
    check_arrived(bench, verdict, before, damaged)
    missing = points_of(verdict, "a") | points_of(verdict, "d")
    kept = spool / f".damaged-{folder.name}"
    if missing:
        assert str(hit) in verdict.reason or str(hit.parent) in verdict.reason
        assert kept.exists()
    if kept.exists():
        data = {path: data for path, data in damaged.items() if len(path.parts) > 1}
        assert {path: files_in(kept)[path] for path in data} == data


def check_arrived(
    bench: Bench,
    verdict: Verdict,
    before: dict[Path, bytes],
    damaged: dict[Path, bytes],
) -> None:
    with h5py.File(bench.root / verdict.master) as file:
        (entry,) = (name for name in file if name.endswith(".1"))
        data = {name: file[entry]["measurement"][name][()] for name in ("a", "d")}
    expected = {"a": VALUES, "d": frames(0, N_FRAMES, SHAPE)}
    for lane in ("a", "d"):
        lost = points_of(verdict, lane)
        for path, record, first, stop in places(before, lane):
            if record in damaged.get(path, b""):
                assert not lost & set(range(first, stop)), (lane, first, stop)
        for point in set(range(len(expected[lane]))) - lost:
            np.testing.assert_array_equal(data[lane][point], expected[lane][point])


def resumed(bench: Bench, spool: Path) -> int:
    return main(["publish", "resume", "--spool", str(spool), "--redis", bench.url])


def flip_in(path: Path, found: bytes, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(found) + at] ^= 4
    path.write_bytes(data)


def the_file(folder: Path, part: str) -> Path:
    return min((folder / part).iterdir())


def test_one_flipped_bit_costs_one_record(bench: Bench, tmp_path: Path) -> None:
    folder = copied(bench, tmp_path)
    path = the_file(folder, "lanes/d")
    record = list(places(files_in(folder), "d"))[10]
    flip_in(path, record[1], 200)

    assert resumed(bench, tmp_path) == ExitCode.PARTIAL

    verdict = final_verdict(bench.url, folder.name)
    assert verdict.channels["d"].missing == ((10, 11),)
    assert verdict.channels["a"].missing == ()
    assert verdict.end_reason == EndReason.SUCCESS
    assert f"d: the spool {path}: damaged at byte" in verdict.reason
    assert "point 10 is lost" in verdict.reason
    kept = tmp_path / f".damaged-{folder.name}"
    assert list(tmp_path.iterdir()) == [kept]
    assert (kept / path.relative_to(folder)).exists()
    assert resumed(bench, tmp_path) == ExitCode.COMPLETE  # Nothing is left to resume.


def check_lane(lane: ReadLane, there: list[int]) -> None:
    """The lane has these points, gaps for the others, and each point once."""
    assert lane.odd == []
    assert lane.length == N_FRAMES
    assert [p for e in lane.entries for p in range(e.first, e.stop)] == list(
        range(N_FRAMES)
    )
    values = lane.values("d")
    assert [point for point, each in enumerate(values) if each is not None] == there
    found = [values[point] for point in there]
    np.testing.assert_array_equal(found, frames(0, N_FRAMES, SHAPE)[there])


@pytest.mark.parametrize("n_on_redis", [0, 5, 11, 12, 14, 30])
def test_what_redis_has_of_a_damaged_stretch_is_not_lost(
    redis_factory: RedisFactory, tmp_path: Path, n_on_redis: int
) -> None:
    server = redis_factory({})
    uid = spooled(server.url, tmp_path)
    path = the_file(tmp_path / uid, "lanes/d")
    for _, record, first, _ in places(files_in(tmp_path / uid), "d"):
        if 10 <= first < 14:
            flip_in(path, record, 3)  # Heads: how many records there were is lost too.
    with connect(server.url, name="test") as client:
        key = lane_key(uid, "d")
        stored = list(client.xrange(key, count=n_on_redis)) if n_on_redis else []
        client.delete(key)
        make_lane(client, uid, "d")
        for entry_id, fields in stored:
            client.xadd(
                key, dict(zip(fields[::2], fields[1::2], strict=True)), id=entry_id
            )
        client.delete(events_key(uid))

    with MemoryWriter(server.url) as memory:
        main(["publish", "resume", "--spool", str(tmp_path), "--redis", server.url])

    lane = memory.lanes[uid, "d"]
    lost = [point for point in range(10, 14) if point >= n_on_redis]
    there = [point for point in range(N_FRAMES) if point not in lost]
    check_lane(lane, there)


@pytest.mark.parametrize("is_on_redis", [True, False])
def test_a_damaged_prepared_is_taken_from_redis_or_the_scan_stays(
    redis_factory: RedisFactory, tmp_path: Path, is_on_redis: bool
) -> None:
    server = redis_factory({})
    uid = spooled(server.url, tmp_path)
    path = the_file(tmp_path / uid, "events")
    flip_in(path, b"lanes")
    before = files_in(tmp_path / uid)
    with connect(server.url, name="test") as client, MemoryWriter(server.url) as memory:
        if not is_on_redis:
            client.flushall()
        command = ["publish", "resume", "--spool", str(tmp_path), "--redis", server.url]
        code = main(command)
        if is_on_redis:
            assert code == ExitCode.COMPLETE
            assert len(memory.lanes[uid, "d"].entries) == N_FRAMES
            assert [each.name for each in tmp_path.iterdir()] == [f".damaged-{uid}"]
        else:
            assert code == ExitCode.FAILED
            assert files_in(tmp_path / uid) == before


def test_a_lost_update_is_named_and_the_data_are_sent(
    bench: Bench, tmp_path: Path
) -> None:
    folder = copied(bench, tmp_path)
    flip_in(the_file(folder, "events"), b"reached_19")
    assert resumed(bench, tmp_path) == ExitCode.PARTIAL
    verdict = final_verdict(bench.url, folder.name)
    assert verdict.channels["d"].is_complete
    assert "1 events of the scan, with metadata, are lost" in verdict.reason


@pytest.mark.parametrize("part", ["lanes/d", "lanes/a", "events"])
def test_a_missing_file_is_named(bench: Bench, tmp_path: Path, part: str) -> None:
    folder = copied(bench, tmp_path)
    shutil.rmtree(folder / part)
    code = resumed(bench, tmp_path)
    if part == "events":
        assert code == ExitCode.FAILED
        assert (folder / "lanes").exists()
        return
    assert code == ExitCode.PARTIAL
    verdict = final_verdict(bench.url, folder.name)
    name = part.removeprefix("lanes/")
    assert points_of(verdict, name) == set(range(verdict.channels[name].expected))
    assert verdict.channels[name].expected == (N_FRAMES if name == "d" else len(VALUES))
    assert f"{folder / part}: a file, or the end of one, is missing" in verdict.reason


def test_two_resumes_at_once_send_each_scan_once(bench: Bench, tmp_path: Path) -> None:
    folders = [copied(bench, tmp_path) for _ in range(4)]
    command = [sys.executable, "-m", "scanbus.cli", "publish", "resume"]
    command += ["--spool", str(tmp_path), "--redis", bench.url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in "12"]
    said = [one.communicate(timeout=100)[0] for one in both]
    assert [one.returncode for one in both] == [VerdictWord.PARTIAL.exit_code] * 2 or (
        ExitCode.COMPLETE in [one.returncode for one in both]
    )
    for folder in folders:
        assert sum(folder.name in each for each in said) == 1
        assert final_verdict(bench.url, folder.name).channels["d"].is_complete
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["nowhere", "a file", "another folder"])
def test_a_wrong_folder_is_an_error_and_nothing_in_it_changes(
    bench: Bench, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    (home / "documents/old").mkdir(parents=True)
    (home / "documents/letter").write_text("dear")
    before = sorted(found_below(tmp_path, "*"))
    wrong = {"nowhere": home / "x", "a file": home / "documents/letter"}.get(kind, home)
    assert resumed(bench, wrong) == ExitCode.FAILED
    assert f"the spool {wrong}: " in capsys.readouterr().err
    assert sorted(found_below(tmp_path, "*")) == before


def test_a_record_that_is_damaged_while_its_publisher_lives_is_lost_alone(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    damaged = 30
    server = redis_factory({})
    with Publisher(
        server.url, spool=tmp_path, memory_bytes_kept=2**17, close_timeout_s=30
    ) as publisher:
        with publisher.scan(quota_bytes=2**16) as scan:
            scan.detector(
                "d", shape=SHAPE, dtype="uint32", codec="none", points_per_chunk=1
            )
            scan.send("d", frames(0, 1, SHAPE))
            scan.flush()
            # What is sent leaves memory, where others take its place. Without a Redis
            # the first 16 frames stay in memory, and only the spool has the others.
            server.kill()
            scan.send("d", frames(1, N_FRAMES - 1, SHAPE))
            scan.flush()
            folder = tmp_path / scan.uid
            record = list(places(files_in(folder), "d"))[damaged]
            flip_in(the_file(folder, "lanes/d"), record[1], 400)
            server.start()
        with MemoryWriter(server.url) as memory:
            scan.verdict(90)
    lane = memory.lanes[scan.uid, "d"]
    check_lane(lane, [point for point in range(N_FRAMES) if point != damaged])
    with connect(server.url, name="test") as client:
        ended = record_of(client, scan.uid).ended
    assert ended is not None
    assert [(each.lane, each.first, each.stop) for each in ended.lost] == [
        ("d", damaged, damaged + 1)
    ]
    assert (tmp_path / f".damaged-{scan.uid}").exists()


@pytest.mark.parametrize("name", ["lock", "scan.json"])
def test_a_folder_that_cannot_be_read_is_named_by_its_scan(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = copied(bench, tmp_path)
    (folder / name).unlink()
    if name == "scan.json":
        (folder / name).write_text("nonsense")

    code = main(["publish", "resume", "--spool", str(tmp_path), "--redis", bench.url])

    assert code == ExitCode.FAILED
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in rows[1:2]] == [[folder.name, "none"]]
    assert folder.exists()
