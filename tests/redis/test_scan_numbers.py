"""Numbers belong to the disk: whatever Redis lost, no two scans share one."""

from pathlib import Path
from typing import Any

import h5py
import pytest

from scanbus.bus.protocol import NUMBER_REQUESTS
from scanbus.bus.store import (
    NumberAnswer,
    answer_request,
    ask_writers,
    connect,
    find_scan,
    next_scan_number,
    publisher_is_alive,
    read_number_requests,
)
from scanbus.cli import main
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import (
    NameTakenError,
    ScanNumberTakenError,
    ScanStateError,
)
from scanbus.schemas.exit_codes import ExitCode
from scanbus.writer import check_files, rebuild, replay
from tests.support.numbered_scans import DATASET, SESSION, flush, publish, values_in
from tests.support.published import record_of
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, wait_until, writer


def test_a_counter_that_redis_lost_is_filled_from_the_disk(
    server: PrivateRedis, tmp_path: Path
) -> None:
    with writer(server.url, tmp_path):
        with Publisher(server.url) as publisher:
            for index in range(3):
                assert publish(publisher, [index])
        flush(server)
        with Publisher(server.url) as publisher:  # Another program: it remembers none.
            verdict = publish(publisher, [3.0])
    assert verdict is not None
    assert verdict.verdict is VerdictWord.COMPLETE
    assert [values_in(tmp_path, number)[0] for number in (1, 2, 3, 4)] == [0, 1, 2, 3]
    with connect(server.url, name="test") as client:
        assert record_of(client, verdict.uid).renumbered is None
        assert client.xlen(NUMBER_REQUESTS) == 0


@pytest.mark.sampled(1)
@pytest.mark.parametrize("is_given", [False, True])
def test_without_a_writer_a_taken_number_moves_on_before_the_first_file(
    server: PrivateRedis, tmp_path: Path, *, is_given: bool
) -> None:
    with writer(server.url, tmp_path), Publisher(server.url) as publisher:
        for index in range(3):
            publish(publisher, [index])
    flush(server)
    given = {"scan_number": 2} if is_given else {}
    with Publisher(server.url, close_timeout_s=2) as publisher:
        publish(publisher, [3.0], uid="movedscan1", verdict_s=0, **given)
        publish(publisher, [4.0], uid="movedscan2", verdict_s=0)
    with writer(server.url, tmp_path) as service:
        verdicts = [
            final_verdict(server.url, uid) for uid in ("movedscan1", "movedscan2")
        ]
        with Publisher(server.url) as publisher:
            publish(publisher, [5.0])
        service.leave()  # It writes the masters above before.

    assert {each.verdict for each in verdicts} == {VerdictWord.COMPLETE}
    found = [values_in(tmp_path, number)[0] for number in range(1, 7)]
    assert found[:3] == [0, 1, 2]
    assert sorted(found[3:]) == [3, 4, 5]
    asked = 2 if is_given else 1
    with connect(server.url, name="test") as client:
        record = find_scan(client, "movedscan1")
        number = record.identity.scan_number
        assert find_scan(client, str(number)).uid == "movedscan1"
    assert record.announced.scan_number == asked
    assert record.renumbered is not None
    assert f"scan number {asked} is taken by scan" in record.renumbered.text
    master = tmp_path / verdicts[0].master
    with h5py.File(master) as file:
        said = file[f"{number}.1/scanbus/renumbered"].asstr()[()]
    assert said == record.renumbered.text
    assert check_files([tmp_path / DATASET / "sample_0001.h5"], everything=True).ok
    before = values_in(tmp_path, number)
    master.unlink()
    assert rebuild(tmp_path).exit_code == 0
    assert values_in(tmp_path, number) == before


def test_two_scans_of_one_number_at_the_same_time_are_both_complete(
    server: PrivateRedis, tmp_path: Path
) -> None:
    """Neither has a file when the other begins: the claim of the number decides."""
    scans = []
    with (
        writer(server.url, tmp_path),
        Publisher(server.url) as one,
        Publisher(server.url) as other,
        connect(server.url, name="test") as client,
    ):
        for publisher, value in ((one, 1.0), (other, 2.0)):
            scan = publisher.scan(session=SESSION)
            client.set(f"scanbus:number:{DATASET}", 0)
            scan.__enter__()
            assert scan.identity.scan_number == 1
            scan.channel("a")
            scan.send("a", value)
            scans.append(scan)
            # Its publisher has put the counter back by then.
            wait_until(lambda: found_below(tmp_path, "claim-scan*"))
        for scan, value in zip(scans, (1.0, 2.0), strict=True):
            scan.send("a", value)
            scan.__exit__(None, None, None)
        verdicts = [scan.verdict(60) for scan in scans]
    assert [each.verdict for each in verdicts] == [VerdictWord.COMPLETE] * 2
    found = sorted(
        values_in(tmp_path, int(path.name[4:8]))
        for path in (tmp_path / DATASET).glob("scan*")
    )
    assert found == [[1.0, 1.0], [2.0, 2.0]]


def test_redis_is_emptied_while_a_renumbered_scan_is_written(
    server: PrivateRedis, tmp_path: Path
) -> None:
    """The event is lost, but the claim, and then the scan file, say the number."""
    with writer(server.url, tmp_path):
        with Publisher(server.url) as publisher:
            publish(publisher, [0.0])
        flush(server)
        with connect(server.url, name="test") as client:
            client.set(f"scanbus:number:{DATASET}", 0)
        with Publisher(server.url) as publisher:
            with publisher.scan(session=SESSION, uid="emptiedscan") as scan:
                scan.channel("a")
                scan.send("a", 1.0)
                claim = tmp_path / DATASET / ".scanbus/claim-scan0002"
                wait_until(claim.exists)
                flush(server)
                scan.send("a", 2.0)
            verdict = scan.verdict(60)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert values_in(tmp_path, 1) == [0.0]
    assert values_in(tmp_path, 2) == [1.0, 2.0]
    assert not (tmp_path / DATASET / ".scanbus").exists()


def test_a_given_number_that_is_taken_is_refused_before_anything_is_published(
    server: PrivateRedis, tmp_path: Path
) -> None:
    with writer(server.url, tmp_path), Publisher(server.url) as publisher:
        publish(publisher, [0.0], scan_number=7)
        # On the disk only.
        (tmp_path / DATASET / "scan0012").mkdir()
        (tmp_path / DATASET / "scan0012/cam_0000.h5").write_bytes(b"")
        with connect(server.url, name="test") as client:
            before = client.xlen("scanbus:scans")
            for number in (7, 12):
                with pytest.raises(ScanNumberTakenError) as caught:
                    publish(publisher, [1.0], scan_number=number)
                assert caught.value.number == number
                assert client.xlen("scanbus:scans") == before
        assert publish(publisher, [1.0], scan_number=3)
        publish(publisher, [13.0])
    assert values_in(tmp_path, 3) == [1.0]
    assert values_in(tmp_path, 13) == [13.0]


def test_a_given_number_is_refused_without_a_writer_if_the_bus_has_it(
    server: PrivateRedis,
) -> None:
    with Publisher(server.url, close_timeout_s=2) as publisher:
        publish(publisher, [0.0], scan_number=7, uid="firstof7", verdict_s=0)
        with pytest.raises(ScanNumberTakenError, match="taken by scan firstof7"):
            publish(publisher, [1.0], scan_number=7, verdict_s=0)
        publish(publisher, [1.0], scan_number=6, verdict_s=0)


def test_a_name_that_is_taken_later_can_be_replayed_and_dismissed(
    server: PrivateRedis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After its first file a scan keeps its number, so an operator decides."""
    root = tmp_path / "root"
    scan = RawScan(server.url).prepare()
    uid = scan.uid
    with writer(server.url, root):
        for first in range(0, 24, 4):
            scan.send_frames(first, first + 4)
        pattern = "scan0001/eiger_0000.h5"
        folder = wait_until(lambda: found_below(root, pattern))[0].parent
        (folder / "scan0001_values.h5").write_bytes(b"of somebody else")
        scan.end()

        def said() -> str:
            with pytest.raises(ScanStateError) as caught:
                close_scan(server.url, uid)
            return str(caught.value)

        wait_until(lambda: "name taken" in said())
        assert "has ended already" in said()
        assert f"scanbus replay {uid} --root DIR --as-number N" in said()
        assert f"scanbus close {uid} --dismiss" in said()
        with pytest.raises(NameTakenError):
            replay(server.url, uid, root, as_number=1)
        again = ["replay", uid, "--root", str(root), "--redis", server.url]
        assert main([*again, "--as-number", "5"]) == 0
        assert (folder.parent / "scan0005/scan0005.h5").exists()
        assert main(["close", uid, "--dismiss", "--redis", server.url]) == 0
        assert "dismissed" in capsys.readouterr().out
        verdict = final_verdict(server.url, uid)
        assert verdict.verdict is VerdictWord.FAILED
        with connect(server.url, name="test") as client:
            wait_until(lambda: client.get("scanbus:position") is not None)
            assert client.hget("scanbus:reserved", uid) is None
        assert "with verdict failed" in said()
    assert rebuild(root).masters


def test_replay_as_another_number_from_the_command_line(
    server: PrivateRedis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with writer(server.url, tmp_path / "root"), Publisher(server.url) as publisher:
        first = publish(publisher, [1.0])
        second = publish(publisher, [2.0])
    assert first is not None
    assert second is not None

    def replayed(root: str, *options: str) -> int:
        given = ["replay", first.uid, "--root", str(tmp_path / root), *options]
        return main([*given, "--redis", server.url])

    for wrong in ("0", "-1", "x", "100000000"):
        assert replayed("root", "--as-number", wrong) == ExitCode.USAGE
    assert replayed("root", "--as-number", "2") == ExitCode.FAILED
    assert "name taken" in capsys.readouterr().err
    assert replayed("root") == ExitCode.FAILED
    assert replayed("root", "--as-number", "9") == ExitCode.COMPLETE
    assert replayed("other", "--as-number", "2") == ExitCode.COMPLETE
    assert values_in(tmp_path / "root", 2) == [2.0]
    assert values_in(tmp_path / "root", 9) == [1.0]
    assert values_in(tmp_path / "other", 2) == [1.0]
    with connect(server.url, name="test") as client:
        # It changes nothing on the bus.
        assert find_scan(client, first.uid).identity.scan_number == 1
        assert next_scan_number(client, DATASET, "numbered") == 3


def test_close_says_what_it_did_or_what_can_be_done(
    server: PrivateRedis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def closed(uid: str, *options: str) -> tuple[int, str]:
        code = main(["close", uid, *options, "--redis", server.url])
        said = capsys.readouterr()
        return code, said.out + said.err

    alive = RawScan(server.url, number=1, uid="stillalive").prepare()
    for options in ([], ["--dismiss"]):
        code, said = closed(alive.uid, *options)
        assert (code, "its publisher is alive" in said) == (ExitCode.USAGE, True)
        assert closed("nosuchscan", *options)[0] == ExitCode.USAGE
    ended = RawScan(server.url, number=2, uid="hasended01").prepare()
    ended.end()
    code, said = closed(ended.uid)
    assert code == ExitCode.USAGE
    assert "no writer is alive; start one" in said
    assert "--as-number N" in said
    assert "--dismiss" in said
    gone = RawScan(server.url, number=3, uid="hasgone001", heartbeat_s=0.01).prepare()
    wait_until(lambda: not publisher_is_alive(gone.client, gone.uid))
    assert closed(gone.uid) == (
        ExitCode.COMPLETE,
        f"scan {gone.uid} is closed; a writer gives the final verdict\n",
    )
    # Also one whose publisher waits for the verdict, as long as nobody gave it.
    for scan in (ended, gone):
        assert closed(scan.uid, "--dismiss")[0] == ExitCode.COMPLETE
        for options in ([], ["--dismiss"]):
            code, said = closed(scan.uid, *options)
            assert code == ExitCode.USAGE
            assert "with verdict failed: nothing to do" in said


def test_requests_that_are_no_datasets_are_dropped(
    server: PrivateRedis, tmp_path: Path
) -> None:
    made_root(tmp_path)
    (tmp_path.parent / "outside").mkdir()
    with (
        writer(server.url, tmp_path),
        connect(server.url, name="test") as client,
    ):
        for name in ("", "../../x", "a/b/c/RAW_DATA/../..", "x" * 5000, "\0", "a/*/c"):
            client.xadd(NUMBER_REQUESTS, {"dataset": name, "number": 1, "reply": "k"})
        client.xadd(NUMBER_REQUESTS, {"nonsense": "n"})
        wait_until(lambda: client.xlen(NUMBER_REQUESTS) == 0)
        assert client.keys("scanbus:number:*") == []
        assert client.exists("k") == 0
        answer = ask_writers(client, DATASET, 1, wait_s=20)
    assert answer == NumberAnswer(0)


def test_a_request_is_answered_also_on_a_full_redis(any_bus: Any) -> None:
    assert ask_writers(any_bus, DATASET) is None
    any_bus.config_set("maxmemory", 1)
    try:
        assert ask_writers(any_bus, DATASET) is None
        for request in read_number_requests(any_bus, "0-0"):
            answer_request(any_bus, request, NumberAnswer(41))
    finally:
        any_bus.config_set("maxmemory", 0)
    assert next_scan_number(any_bus, DATASET, "numbered") == 42
    assert read_number_requests(any_bus, "0-0") == []
