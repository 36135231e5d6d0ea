"""A number goes to one program, however many want it at one instant."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from scanbus.bus.protocol.keys import ANNOUNCEMENTS
from scanbus.bus.store import (
    Bus,
    announce_claimed,
    announcements,
    claim_scan_number,
    next_scan_number,
)
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.schemas import ScanAnnounced, ScanIdentity
from scanbus.schemas.errors import ScanNumberTakenError, SpoolError
from tests.support.numbered_scans import DATASET, SESSION, publish

pytestmark = pytest.mark.redis

N_PROGRAMS = 6
N_NUMBERS = 25
# Each program gives the next number, or lets it be counted, as all others do.
PROGRAM = """
import json, sys, time
from scanbus.publisher import Publisher
from scanbus.schemas.errors import ScanNumberTakenError
url, session, counts, n_numbers = sys.argv[1:]
told = []
with Publisher(url, close_timeout_s=0) as publisher:
    print("ready", flush=True)
    begin = float(sys.stdin.readline())
    for index in range(int(n_numbers)):
        time.sleep(max(0.0, begin + index * 0.02 - time.time()))
        number = None if counts == "counts" else index + 1
        try:
            with publisher.scan(session=session, scan_number=number) as scan:
                told.append([scan.uid, scan.identity.scan_number])
        except ScanNumberTakenError:
            told.append(None)
print(json.dumps(told))
"""


def _race(url: str, *kinds: str) -> list[list[str | int] | None]:
    """Return what all programs were told: uid and number, or None if refused."""
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url, SESSION, kind, str(N_NUMBERS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in kinds
    ]
    for each in programs:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    begin = f"{time.time() + 0.2}\n"
    for each in programs:
        assert each.stdin is not None
        each.stdin.write(begin)
        each.stdin.flush()
    said = [each.communicate(timeout=120)[0] for each in programs]
    return [one for text in said for one in json.loads(text)]


@pytest.mark.parametrize("n_counting", [0, 3])
def test_of_programs_that_want_one_number_all_but_one_are_refused(
    server: PrivateRedis, client: Bus, n_counting: int
) -> None:
    """Whoever is refused has published nothing; counted numbers are never refused."""
    kinds = ["counts"] * n_counting + ["gives"] * (N_PROGRAMS - n_counting)
    told = _race(server.url, *kinds)
    opened = [tuple(one) for one in told if one is not None]
    assert all(one is not None for one in told[: n_counting * N_NUMBERS])
    numbers = Counter(number for _, number in opened)
    assert max(numbers.values()) == 1
    assert set(numbers) >= set(range(1, N_NUMBERS + 1))
    lines = [line.document for line in announcements(client)]
    scans = [line.scan for line in lines if line is not None]
    assert sorted((each.uid, each.scan_number) for each in scans) == sorted(opened)
    assert not list(client.scan_iter("scanbus:claim:*"))


def _announced(uid: str, number: int) -> ScanAnnounced:
    _, beamline, session, _, collection, _ = DATASET.split("/")
    scan = ScanIdentity(
        uid=uid,
        proposal="proposal",
        beamline=beamline,
        session=session,
        collection=collection,
        dataset="0001",
        scan_number=number,
    )
    return ScanAnnounced(time=1.0, scan=scan)


def test_a_claim_lasts_from_the_number_to_the_announcement(client: Bus) -> None:
    number = next_scan_number(client, DATASET, "counted0")
    other = claim_scan_number(client, DATASET, "another0", number)
    assert (other.number, other.holder) == (number, "counted0")
    assert claim_scan_number(client, DATASET, "counted0", number).holder == ""
    with pytest.raises(ScanNumberTakenError, match="scan counted0"):
        announce_claimed(client, _announced("another0", number), is_given=True)
    assert client.xlen(ANNOUNCEMENTS) == 0
    announce_claimed(client, _announced("counted0", number), is_given=False)
    assert not list(client.scan_iter("scanbus:claim:*"))


def test_a_claim_of_a_dead_program_expires(client: Bus) -> None:
    number = next_scan_number(client, DATASET, "counted0")
    (key,) = client.scan_iter("scanbus:claim:*")
    left_ms = client.pttl(key)
    assert isinstance(left_ms, int)
    assert 0 < left_ms <= 30_000
    client.delete(key)
    assert claim_scan_number(client, DATASET, "another0", number).holder == ""


def test_the_counter_steps_over_claims_that_it_does_not_know(client: Bus) -> None:
    """Redis lost the counter only."""
    for uid in ("counted1", "counted2"):
        next_scan_number(client, DATASET, uid)
    client.delete(f"scanbus:number:{DATASET}")
    assert next_scan_number(client, DATASET, "counted3") == 3


def test_a_scan_that_cannot_be_announced_leaves_its_number(
    server: PrivateRedis, client: Bus, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    with Publisher(server.url, close_timeout_s=0, spool=spool) as publisher:
        spool.rename(tmp_path / "away")
        spool.write_text("no folder")
        with pytest.raises(SpoolError):
            publish(publisher, [1.0], scan_number=7, verdict_s=0)
    assert client.xlen(ANNOUNCEMENTS) == 0
    with Publisher(server.url, close_timeout_s=0) as publisher:
        publish(publisher, [1.0], scan_number=7, verdict_s=0)
    assert client.xlen(ANNOUNCEMENTS) == 1
