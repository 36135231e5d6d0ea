"""Numbers when several ask at once, die, or find Redis empty, at any step."""

import os
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.schemas import Verdict, VerdictWord
from scanbus.schemas.errors import ScanNumberTakenError
from scanbus.writer.steps import FAILPOINT_LOG_VARIABLE
from tests.support.long import long_but
from tests.support.numbered_scans import (
    DATASET,
    SESSION,
    await_writer,
    flush,
    publish,
    values_in,
)
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = pytest.mark.redis


STEPS = (
    "renumber.before",
    "renumber.after",
    "claim.before",
    "claim.after",
    "link.before",
    "scan_file.after",
    "verdict.before",
)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("what", ["killed", "emptied", "both"])
@pytest.mark.parametrize(
    "step", long_but({"renumber.after", "claim.after", "link.before"}, STEPS)
)
def test_a_scan_keeps_one_number_whatever_dies_or_is_emptied_at_a_step(
    server: PrivateRedis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    what: str,
) -> None:
    """Its number is taken on the disk, so it moves on; then writer or Redis goes."""
    root, log = tmp_path / "root", tmp_path / "log"
    with writer(server.url, root), Publisher(server.url) as publisher:
        publish(publisher, [0.0])
    flush(server)
    monkeypatch.setenv(FAILPOINT_LOG_VARIABLE, str(log))
    action = "kill" if what == "killed" else "stop"
    trap = f"{step}={action}@1"
    with Publisher(server.url) as publisher:
        with publisher.scan(session=SESSION, uid="emptiedscan") as scan:
            scan.channel("a")
            scan.send("a", np.arange(3.0))
        with writer(server.url, root, "--lease-s", "1", failpoints=trap) as one:
            wait_until(lambda: log.exists() and f"{step} 1 {action}" in log.read_text())
            if what != "killed":
                flush(server)
            if what == "both":
                for worker in one.workers:
                    worker.kill()
            one.go_on()
            verdict = scan.verdict(60)
    assert verdict.uid == "emptiedscan"
    assert verdict.verdict is VerdictWord.COMPLETE
    assert values_in(root, 1) == [0.0]
    folders = sorted(path.name for path in (root / DATASET).glob("scan*"))
    assert len(folders) == 2, "files of the scan under two numbers"
    assert values_in(root, int(folders[1][4:])) == [0.0, 1.0, 2.0]
    assert not (root / DATASET / ".scanbus").exists()


def test_programs_that_give_the_same_number_at_once_do_not_share_it(
    server: PrivateRedis, tmp_path: Path
) -> None:
    """Whoever is not refused gets a number, and files, of its own."""
    start = threading.Barrier(4)
    told: list[Verdict | None] = []

    def program(value: float) -> None:
        with Publisher(server.url) as publisher:
            start.wait(60)
            try:
                told.append(publish(publisher, [value] * 3, scan_number=7))
            except ScanNumberTakenError:
                told.append(None)

    with writer(server.url, tmp_path):
        threads = [threading.Thread(target=program, args=(n,)) for n in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(120)
    given = [each for each in told if each is not None]
    assert len(told) == 4
    assert {each.verdict for each in given} == {VerdictWord.COMPLETE}
    numbers = [int(Path(each.master).stem[4:]) for each in given]
    assert min(numbers) == 7
    assert len({values_in(tmp_path, number)[0] for number in numbers}) == len(given)


def test_two_writers_give_scans_of_one_number_different_ones(
    server: PrivateRedis, tmp_path: Path
) -> None:
    uids = [f"racing{index:04d}" for index in range(8)]
    for uid in uids:
        scan = RawScan(server.url, number=3, uid=uid).prepare()
        scan.send_group(0, 5)
        scan.end()
        scan.close()
    with writer(server.url, tmp_path), writer(server.url, tmp_path):
        verdicts = [final_verdict(server.url, uid) for uid in uids]
    assert {each.verdict for each in verdicts} == {VerdictWord.COMPLETE}
    masters = [tmp_path / each.master for each in verdicts]
    for uid, master in zip(uids, masters, strict=True):
        number = int(master.stem[4:])
        with h5py.File(master) as file:
            assert file[f"{number}.1/scanbus/uid"].asstr()[()] == uid
    assert len(set(masters)) == len(uids)
    assert min(int(each.stem[4:]) for each in masters) == 3


# Loaded by every Python process that has its folder on the path.
AUDIT = """
import os, sys
FLAGS = os.O_CREAT | os.O_APPEND | os.O_WRONLY
def note(event, args):
    is_path = bool(args) and isinstance(args[0], (str, os.PathLike))
    if is_path and event in ("os.listdir", "os.scandir"):
        log = os.open(os.environ["AUDIT_LOG"], FLAGS)
        os.write(log, (os.path.realpath(args[0]) + chr(10)).encode())
        os.close(log)
sys.addaudithook(note)
"""


def test_no_folder_of_another_dataset_is_read_for_a_number(
    server: PrivateRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process of a writer notes which folders it lists, from its start on."""
    root, hooks, log = tmp_path / "root", tmp_path / "hooks", tmp_path / "log"
    within = DATASET.partition("/")[2]
    for proposal in range(30):
        for number in range(1, 4):
            (root / f"hg{proposal}" / within / f"scan{number:04d}").mkdir(parents=True)
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(AUDIT)
    made_root(root)
    monkeypatch.setenv("AUDIT_LOG", str(log))
    path = os.pathsep.join([str(hooks), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    with writer(server.url, root), Publisher(server.url) as publisher:
        await_writer(server)
        assert publish(publisher, [0.0], proposal="hg7") is not None
    read = [Path(line) for line in log.read_text().splitlines()]
    ours = {path.relative_to(root) for path in read if path.is_relative_to(root)}
    assert (root / "hg7" / within / "scan0004").exists()
    assert Path("hg7", within) in ours
    assert {each.parts[0] for each in ours if each.parts} <= {"hg7", ".scanbus"}


@pytest.mark.parametrize("name", ["scan20261126235959", "scan99999999"])
def test_a_folder_whose_number_no_scan_can_follow_does_not_count(
    server: PrivateRedis, tmp_path: Path, name: str
) -> None:
    (tmp_path / DATASET / name).mkdir(parents=True)
    (tmp_path / DATASET / "scan0004").mkdir()
    with writer(server.url, tmp_path), Publisher(server.url) as publisher:
        await_writer(server)
        publish(publisher, [1.0])
    assert values_in(tmp_path, 5) == [1.0]
