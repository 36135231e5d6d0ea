"""One key that is deleted, or holds another type, costs no point.

Every key of the table in docs/protocol.md, at every moment of a scan. The publisher is
alive and puts it back; Redis and the connections go on as if nothing had happened.
"""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.bus.store import Bus, connect, find_scan, writers_alive
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import VerdictWord
from tests.support.mixed_scan import durable, fill
from tests.support.raw_publisher import RawScan
from tests.support.writers import wait_until, writer

pytestmark = pytest.mark.redis

PAGE = Path(__file__).resolve().parents[2] / "docs/protocol.md"
MOMENTS = ("before the start", "in the middle", "with the writer killed", "sealed")
N = 40


def documented_keys() -> list[str]:
    """Return the patterns of the table of keys."""
    section = PAGE.read_text().split("\n## Keys\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if "scanbus:" in line]
    return [key for row in rows for key in re.findall(r"`(scanbus:[^`]+)`", row)]


def keys_of(client: Bus, pattern: str, uid: str) -> list[str]:
    """Return the keys of a scan, or of the whole bus, that fit a pattern."""
    glob = pattern.replace("UID", uid).replace("FOLDER", "*")
    glob = re.sub(r"\bLANE\b", "*", re.sub(r"\b(N|ID)$", "*", glob))
    found: Any = client.keys(glob)
    return [key.decode() for key in found]


def damage(client: Bus, keys: list[str], *, wrong_type: bool) -> None:
    for key in keys:
        is_string = client.type(key) == b"string"
        client.delete(key)
        if not wrong_type:
            continue
        if is_string:
            client.rpush(key, "what is this")
        else:
            client.set(key, "what is this")


def send(scan: Scan, start: int, stop: int) -> None:
    for point in range(start, stop):
        scan.send("th", float(point))
        scan.send("cam", np.full((64, 64), point, np.uint16))


def is_seen(client: Bus, scan: Scan) -> bool:
    return bool(client.exists(f"scanbus:{{{scan.uid}}}:fence"))


def test_a_cursor_comes_back_though_nothing_more_is_sent(
    redis_url: str, tmp_path: Path
) -> None:
    """The publisher may have seen none, and wait for room."""
    scan = RawScan(redis_url).prepare()
    with writer(redis_url, tmp_path, "--lease-s", "2"):
        fill(scan, 0, 0.5)
        wait_until(lambda: durable(scan, 60))
        keys = keys_of(scan.client, "scanbus:{UID:LANE}:cursors", scan.uid)
        assert keys
        damage(scan.client, keys, wrong_type=False)
        wait_until(lambda: durable(scan, 60), 10)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("wrong_type", [False, True], ids=["deleted", "wrong type"])
def test_a_key_costs_no_point(
    redis_url: str, tmp_path: Path, moment: str, wrong_type: bool
) -> None:
    """One scan for each kind of key, all at the same time."""
    with ExitStack() as stack:
        client = stack.enter_context(connect(redis_url, name="test"))
        one = stack.enter_context(writer(redis_url, tmp_path))
        wait_until(lambda: writers_alive(client))
        publisher = stack.enter_context(Publisher(redis_url, close_timeout_s=1))
        scans = {pattern: open_scan(publisher) for pattern in documented_keys()}

        if moment == "before the start":
            damage_all(client, scans, wrong_type=wrong_type)
        for scan in scans.values():
            send(scan, 0, N // 2)
        wait_until(lambda: all(is_seen(client, each) for each in scans.values()))
        if moment in {"with the writer killed", "sealed"}:
            one.kill()
        if moment in {"in the middle", "with the writer killed"}:
            damage_all(client, scans, wrong_type=wrong_type)
        for scan in scans.values():
            send(scan, N // 2, N)
            scan.__exit__(None, None, None)
        if moment == "sealed":
            wait_until(lambda: all(is_sealed(client, each) for each in scans.values()))
            damage_all(client, scans, wrong_type=wrong_type)
        if one.process.poll() is not None:
            one = stack.enter_context(writer(redis_url, tmp_path))
        for pattern, scan in scans.items():
            check_whole(pattern, scan)


def damage_all(client: Bus, scans: dict[str, Scan], *, wrong_type: bool) -> None:
    for pattern, scan in scans.items():
        damage(client, keys_of(client, pattern, scan.uid), wrong_type=wrong_type)


def check_whole(pattern: str, scan: Scan) -> None:
    verdict = scan.verdict(60)
    assert verdict.verdict is VerdictWord.COMPLETE, (pattern, verdict)
    assert {each.written for each in verdict.channels.values()} == {N}


def open_scan(publisher: Publisher) -> Scan:
    scan = publisher.scan(quota_bytes=2**20).__enter__()
    scan.channel("th", role="axis")
    scan.detector("cam", shape=(64, 64), dtype="uint16")
    return scan


def is_sealed(client: Bus, scan: Scan) -> bool:
    return find_scan(client, scan.uid).ended is not None
