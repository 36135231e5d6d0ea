"""Finished scans leave a Redis that needs room: whole, and no others."""

from collections.abc import Callable
from typing import Any

import pytest

from scanbus.bus.protocol import (
    ANNOUNCEMENTS,
    FORGOTTEN,
    RESERVED,
    attempts_key,
    cursors_key,
    events_key,
    heartbeat_key,
    hold_key,
    lane_key,
    lease_key,
    number_key,
)
from scanbus.bus.store import (
    KEPT_SCANS,
    Bus,
    Evictor,
    Freed,
    acknowledge,
    acquire_lease,
    announce,
    append_entries,
    append_event,
    beat_publisher,
    begin_attempt,
    find_scan,
    hold_scan,
    load_announced,
    make_lane,
    raise_scan_number,
    release_lease,
    reserve_quota,
    was_forgotten,
)
from scanbus.schemas import EndReason, ScanEnded, ScanJudged, Verdict, VerdictWord
from scanbus.schemas.errors import UnknownScanError
from tests.support.descriptions import NOW, UID, announced, bytes_lane, prepared
from tests.support.published import safe_and_shown
from tests.support.raw_entries import frozen, frozen_seal

pytestmark = pytest.mark.redis
FENCE = 1


def publish(client: Bus, uid: str = UID) -> str:
    """Make a scan with two points that stand in files; return its announcement."""
    reserve_quota(client, uid, 1000, 10**9)
    announcement = announce(client, announced(uid))
    make_lane(client, uid, "group")
    masks = {"mask": "x" * 1000}
    append_event(client, uid, prepared(bytes_lane(), uid=uid, metadata=masks))
    append_entries(client, uid, "group", [frozen(0, 2), frozen_seal(2)])
    append_event(client, uid, ScanEnded(time=NOW, end_reason=EndReason.SUCCESS))
    lease = acquire_lease(client, uid, "writer", 60_000)
    assert lease is not None
    begin_attempt(client, uid)
    safe_and_shown(client, uid, "group", 2)
    release_lease(client, lease)
    return announcement


def judge(client: Bus, uid: str = UID, *, provisional: bool = False) -> None:
    verdict = Verdict(uid=uid, verdict=VerdictWord.COMPLETE, provisional=provisional)
    append_event(client, uid, ScanJudged(time=NOW, verdict=verdict))


def finished(client: Bus, uid: str = UID) -> str:
    announcement = publish(client, uid)
    judge(client, uid)
    return announcement


def forget(client: Bus, kept_scans: int = 0) -> Freed:
    return Evictor().free(client, 1, kept_scans=kept_scans)


def keys_of(client: Bus, uid: str = UID) -> set[str]:
    return {key.decode() for key in client.scan_iter(f"*{uid}*")}


def commands(client: Bus) -> int:
    """How many commands were given so far, those inside of scripts included."""
    stats: Any = client.info("commandstats")
    return sum(each["calls"] for each in stats.values())


def test_nothing_is_left_of_a_forgotten_scan_but_its_number(any_bus: Bus) -> None:
    raise_scan_number(any_bus, "dataset", 1)
    announcement = finished(any_bus)
    assert len(keys_of(any_bus)) == 5

    assert forget(any_bus) == Freed(entries=1, scans=1)

    left = {key.decode() for key in any_bus.scan_iter("*")}
    assert left == {ANNOUNCEMENTS, FORGOTTEN, number_key("dataset")}
    assert any_bus.xlen(ANNOUNCEMENTS) == 0
    assert any_bus.hlen(RESERVED) == 0
    assert was_forgotten(any_bus, announcement, UID)
    with pytest.raises(UnknownScanError, match="their files stay"):
        find_scan(any_bus, UID)


def test_nothing_is_left_of_lanes_of_late_points(any_bus: Bus) -> None:
    publish(any_bus)
    make_lane(any_bus, UID, "late.a")
    append_entries(any_bus, UID, "late.a", [frozen(0, 1), frozen_seal(1)])
    acknowledge(any_bus, UID, "late.a", 1)
    judge(any_bus)
    ended = ScanEnded(time=NOW, end_reason=EndReason.SUCCESS, late={"a": 1})
    # The first end counts: this scan's did not name the late lane.
    append_event(any_bus, UID, ended)
    assert forget(any_bus) == Freed(entries=1)

    any_bus.delete(events_key(UID))
    append_event(any_bus, UID, prepared(bytes_lane()))
    append_event(any_bus, UID, ended)
    judge(any_bus)
    assert forget(any_bus) == Freed(entries=1, scans=1)
    assert keys_of(any_bus) == set()


def test_a_scan_that_went_after_its_announcement_was_read_is_passed_over(
    any_bus: Bus,
) -> None:
    announcement = finished(any_bus)
    assert load_announced(any_bus, announcement, announced()) is not None
    forget(any_bus)
    assert load_announced(any_bus, announcement, announced()) is None
    any_bus.delete(FORGOTTEN)  # As if Redis had lost all: it may be announced again.
    assert load_announced(any_bus, announcement, announced()) is not None


def test_both_announcements_of_a_scan_go(any_bus: Bus) -> None:
    first = finished(any_bus)
    second = announce(any_bus, announced())
    assert forget(any_bus, kept_scans=1).scans == 0
    assert forget(any_bus).scans == 1
    assert any_bus.xlen(ANNOUNCEMENTS) == 0
    assert was_forgotten(any_bus, first, UID)
    assert was_forgotten(any_bus, second, UID)


def append_late(client: Bus) -> None:
    make_lane(client, UID, "late.a")
    append_entries(client, UID, "late.a", [frozen(0, 1)])


Step = Callable[[Bus], object]
NEEDED: dict[str, tuple[Step, Step]] = {
    "a replay holds it": (
        lambda bus: hold_scan(bus, UID, 60_000),
        lambda bus: bus.delete(hold_key(UID)),
    ),
    "its publisher waits for the verdict": (
        lambda bus: beat_publisher(bus, UID, "me", 60_000),
        lambda bus: bus.delete(heartbeat_key(UID)),
    ),
    "a writer has its lease": (
        lambda bus: acquire_lease(bus, UID, "writer", 60_000),
        lambda bus: bus.delete(lease_key(UID, FENCE + 1)),
    ),
    "points are in no file": (
        lambda bus: bus.hset(cursors_key(UID, "group"), "writer", 1),
        lambda bus: acknowledge(bus, UID, "group", 2),
    ),
    "late points are in no file": (
        append_late,
        lambda bus: bus.delete(lane_key(UID, "late.a")),
    ),
}


@pytest.mark.parametrize("why", NEEDED)
def test_a_scan_stays_whole_while(any_bus: Bus, why: str) -> None:
    need, need_no_more = NEEDED[why]
    finished(any_bus)
    need(any_bus)
    maker = Evictor()
    before = keys_of(any_bus)

    assert maker.free(any_bus, 1, kept_scans=0).scans == 0

    assert keys_of(any_bus) == before
    assert find_scan(any_bus, UID).state == "complete"
    need_no_more(any_bus)
    assert maker.free(any_bus, 1, kept_scans=0).scans == 1
    assert keys_of(any_bus) == set()


@pytest.mark.parametrize("why", list(NEEDED)[:3])
def test_a_scan_that_was_trimmed_already_stays_while(any_bus: Bus, why: str) -> None:
    need, need_no_more = NEEDED[why]
    finished(any_bus)
    maker = Evictor()
    assert maker.free(any_bus, 1, kept_scans=1) == Freed(entries=1)
    need(any_bus)
    assert not maker.free(any_bus, 1, kept_scans=0)
    assert find_scan(any_bus, UID).state == "complete"
    need_no_more(any_bus)
    maker.free(any_bus, 1, kept_scans=0)  # It was looked at anew, and may go now.
    assert keys_of(any_bus) == set()


@pytest.mark.parametrize("is_provisional", [False, True])
def test_a_scan_without_final_verdict_stays(any_bus: Bus, is_provisional: bool) -> None:
    publish(any_bus)
    if is_provisional:
        judge(any_bus, provisional=True)
    maker = Evictor()
    assert maker.free(any_bus, 1, kept_scans=0) == Freed(entries=1)
    judge(any_bus)
    assert maker.free(any_bus, 1, kept_scans=0) == Freed(scans=1)


def test_a_scan_whose_lanes_nobody_knows_stays(any_bus: Bus) -> None:
    """Of a later protocol, perhaps: it may have lanes that would be left over."""
    announce(any_bus, announced())
    any_bus.xadd(events_key(UID), {"doc": '{"protocol": 9, "type": "prepared"}'})
    judge(any_bus)
    assert not forget(any_bus)
    assert find_scan(any_bus, UID).state == "complete"


def test_a_scan_that_was_closed_before_it_was_prepared_goes(any_bus: Bus) -> None:
    announce(any_bus, announced())
    judge(any_bus)
    assert forget(any_bus) == Freed(scans=1)
    assert keys_of(any_bus) == set()


def test_an_announcement_that_cannot_be_understood_stays(any_bus: Bus) -> None:
    any_bus.xadd(ANNOUNCEMENTS, {"doc": '{"protocol": 9, "type": "announced"}'})
    finished(any_bus)
    assert forget(any_bus).scans == 1
    assert any_bus.xlen(ANNOUNCEMENTS) == 1


def test_the_newest_scans_stay(any_bus: Bus) -> None:
    uids = [f"scan{number:06d}" for number in range(KEPT_SCANS + 3)]
    for uid in uids:
        finished(any_bus, uid)
    maker = Evictor()
    assert maker.free(any_bus, 1) == Freed(entries=len(uids), scans=3)
    assert not maker.free(any_bus, 1)
    assert any_bus.xlen(ANNOUNCEMENTS) == KEPT_SCANS
    assert all(keys_of(any_bus, uid) for uid in uids[3:])
    assert maker.free(any_bus, 1, kept_scans=10).scans == KEPT_SCANS - 10


def test_the_oldest_go_first_and_only_until_there_is_room(any_bus: Bus) -> None:
    uids = [f"scan{number:06d}" for number in range(5)]
    for uid in uids:
        finished(any_bus, uid)
        # Large beside the buffers of connections, which shrink when Redis likes, and
        # made by a command that needs no buffer of that size.
        any_bus.setrange(attempts_key(uid), 2_000_000, "0")
    size = any_bus.memory_usage(attempts_key(uids[0])) or 0
    used = int(any_bus.info("memory")["used_memory"])

    maker = Evictor()
    assert maker.free(any_bus, 1, kept_scans=5) == Freed(entries=5)

    assert maker.free(any_bus, used - size * 3 // 2, kept_scans=0) == Freed(scans=2)

    assert [uid for uid in uids if keys_of(any_bus, uid)] == uids[2:]


def test_an_open_scan_does_not_keep_those_behind_it(any_bus: Bus) -> None:
    """One that is interrupted may stand there for weeks until somebody closes it."""
    old = publish(any_bus)
    later = finished(any_bus, "later000")
    assert forget(any_bus).scans == 1
    assert not was_forgotten(any_bus, old, UID)

    judge(any_bus)
    assert forget(any_bus).scans == 1
    assert was_forgotten(any_bus, old, UID)
    assert was_forgotten(any_bus, later, "later000")


def test_a_scan_that_redis_lost_was_not_forgotten(any_bus: Bus) -> None:
    finished(any_bus)
    forget(any_bus)
    announcement = announce(any_bus, announced("later000"))
    any_bus.xdel(ANNOUNCEMENTS, announcement)
    assert not was_forgotten(any_bus, announcement, "later000")
    any_bus.flushall()
    assert not was_forgotten(any_bus, announcement, UID)


def test_points_that_came_back_are_trimmed_again(any_bus: Bus) -> None:
    """Redis may have lost the tail of its append-only file, with the trimming."""
    finished(any_bus)
    maker = Evictor()
    assert maker.free(any_bus, 1, kept_scans=1) == Freed(entries=1)
    any_bus.delete(lane_key(UID, "group"))
    make_lane(any_bus, UID, "group")
    append_entries(any_bus, UID, "group", [frozen(0, 2), frozen_seal(2)])
    assert not maker.free(any_bus, 1, kept_scans=0)
    assert maker.free(any_bus, 1, kept_scans=0) == Freed(entries=1, scans=1)


def test_a_scan_that_is_announced_again_is_looked_at_again(any_bus: Bus) -> None:
    finished(any_bus)
    maker = Evictor()
    assert maker.free(any_bus, 1, kept_scans=1) == Freed(entries=1)
    any_bus.flushall()
    publish(any_bus)
    assert maker.free(any_bus, 1, kept_scans=0) == Freed(entries=1)
    judge(any_bus)
    assert maker.free(any_bus, 1, kept_scans=0) == Freed(scans=1)


def test_looking_for_room_costs_nothing_for_what_was_forgotten(any_bus: Bus) -> None:
    costs = []
    for n_before in (0, 150):
        any_bus.flushall()
        for number in range(n_before):
            finished(any_bus, f"old{number:06d}")
        assert forget(any_bus).scans == n_before
        for number in range(5):
            publish(any_bus, f"new{number:06d}")
        before = commands(any_bus)
        Evictor().free(any_bus, 1, kept_scans=0)
        costs.append(commands(any_bus) - before)
    assert costs[0] == costs[1]


def test_looking_again_reads_no_events_of_what_is_finished(any_bus: Bus) -> None:
    def cost(maker: Evictor) -> int:
        before = commands(any_bus)
        assert not maker.free(any_bus, 1)
        return commands(any_bus) - before

    maker = Evictor()
    costs = []
    for n_scans in (10, 50):
        for number in range(n_scans):
            finished(any_bus, f"n{n_scans}{number:06d}")
        maker.free(any_bus, 1)
        costs.append(cost(maker))
    assert costs[1] - costs[0] == 50  # One for each line of the announcements.
