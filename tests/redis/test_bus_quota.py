"""Quotas, cursors, leases and trimming: nothing that is not durable is ever removed."""

from typing import Any

import pytest

from scanbus.bus.protocol import (
    RESERVED,
    cursors_key,
    fence_key,
    lane_key,
    lease_key,
)
from scanbus.bus.store import (
    Bus,
    Evictor,
    Lease,
    acknowledge,
    acquire_lease,
    announce,
    append_entries,
    append_event,
    hold_scan,
    lower_quota,
    make_lane,
    read_cursor,
    read_cursors,
    release_lease,
    release_quota,
    renew_lease,
    renew_leases,
    reserve_quota,
    reserved_quotas,
    shrink_quota,
    used_memory,
)
from scanbus.schemas.errors import QuotaRefusedError
from tests.support.descriptions import UID, announced, bytes_lane, prepared
from tests.support.published import safe_and_shown
from tests.support.raw_entries import frozen, frozen_seal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis
OTHER = "fedcba9876543210"


def free_room(client: Bus, limit_bytes: int) -> int:
    """Return how many entries were trimmed by who sees the bus for the first time."""
    return Evictor().free(client, limit_bytes).entries


def publish(client: Bus, uid: str, counts: list[int], nbytes: int = 1000) -> None:
    """Make a scan with one lane whose entries have so many points."""
    announce(client, announced(uid))
    append_event(client, uid, prepared(bytes_lane(per_segment=100), uid=uid))
    make_lane(client, uid, "group")
    first = 0
    for count in counts:
        append_entries(client, uid, "group", [frozen(first, count, b"x" * nbytes)])
        first += count
    append_entries(client, uid, "group", [frozen_seal(first)])


def left(client: Bus, uid: str = UID) -> list[str]:
    found: Any = client.xrange(lane_key(uid, "group"))
    return [stream_id.decode() for stream_id, _ in found[:-1]]


def test_a_cursor_only_grows(any_bus: Bus) -> None:
    for point, expected in ((10, 10), (5, 10), (10, 10), (2**47, 2**47), (11, 2**47)):
        acknowledge(any_bus, UID, "group", point)
        assert read_cursor(any_bus, UID, "group") == expected


def test_lua_counts_large_points_exactly(any_bus: Bus) -> None:
    for point in (2**48 - 2, 2**48 - 1, 2**48 - 3):
        acknowledge(any_bus, UID, "group", point)
    assert read_cursor(any_bus, UID, "group") == 2**48 - 1


@pytest.mark.parametrize(
    "garbage", [b"", b"x", b"-5", b"1.5", b"\xff", b"9" * 5000, b" 7", b"0x10", b"nan"]
)
def test_a_cursor_that_is_no_number_says_that_nothing_is_durable(
    any_bus: Bus, garbage: bytes
) -> None:
    any_bus.hset(cursors_key(UID, "group"), "writer", garbage)
    assert read_cursor(any_bus, UID, "group") == 0
    assert read_cursors(any_bus, [(UID, "group"), (OTHER, "group")]) == [0, 0]


def test_a_cursor_that_is_no_number_is_replaced(any_bus: Bus) -> None:
    any_bus.hset(cursors_key(UID, "group"), "writer", "garbage")
    acknowledge(any_bus, UID, "group", 7)
    assert read_cursor(any_bus, UID, "group") == 7


def test_quotas_are_refused_beyond_the_budget(any_bus: Bus) -> None:
    reserve_quota(any_bus, UID, 60, 100)
    with pytest.raises(QuotaRefusedError, match="reserved by other scans"):
        reserve_quota(any_bus, OTHER, 41, 100)
    reserve_quota(any_bus, OTHER, 40, 100)
    release_quota(any_bus, UID)
    release_quota(any_bus, UID)
    reserve_quota(any_bus, "third000", 60, 100)


def test_what_is_reserved_is_known_of_each_scan(any_bus: Bus) -> None:
    assert reserved_quotas(any_bus) == {}
    reserve_quota(any_bus, UID, 60, 100)
    reserve_quota(any_bus, OTHER, 40, 100)
    assert reserved_quotas(any_bus) == {UID: 60, OTHER: 40}
    release_quota(any_bus, UID)
    assert reserved_quotas(any_bus) == {OTHER: 40}
    for value in ("garbage", "-1", "1e9", "9" * 5000, ""):
        any_bus.hset(RESERVED, "broken", value)
        assert reserved_quotas(any_bus) == {OTHER: 40, "broken": 0}


def test_a_quota_can_be_changed_and_is_kept_when_the_change_is_refused(
    any_bus: Bus,
) -> None:
    reserve_quota(any_bus, UID, 60, 100)
    reserve_quota(any_bus, UID, 90, 100)
    with pytest.raises(QuotaRefusedError):
        reserve_quota(any_bus, UID, 101, 100)
    assert any_bus.hget(RESERVED, UID) == b"90"


def test_a_forced_quota_is_taken_and_counted(any_bus: Bus) -> None:
    reserve_quota(any_bus, UID, 500, 100, force=True)
    with pytest.raises(QuotaRefusedError):
        reserve_quota(any_bus, OTHER, 1, 100)


def test_a_quota_that_is_no_number_does_not_stop_every_scan(any_bus: Bus) -> None:
    any_bus.hset(RESERVED, "broken", "garbage")
    reserve_quota(any_bus, UID, 100, 100)
    assert any_bus.hget(RESERVED, UID) == b"100"


def test_enormous_quotas_do_not_overflow(any_bus: Bus) -> None:
    any_bus.hset(RESERVED, "broken", str(10**30))
    with pytest.raises(QuotaRefusedError):
        reserve_quota(any_bus, UID, 1, 2**40)
    reserve_quota(any_bus, OTHER, 2**47, 2**48, force=True)
    assert any_bus.hget(RESERVED, OTHER) == str(2**47).encode()


def test_one_writer_at_a_time_has_a_scan(any_bus: Bus) -> None:
    first = acquire_lease(any_bus, UID, "one", 60_000)
    assert first is not None
    assert acquire_lease(any_bus, UID, "two", 60_000) is None
    assert acquire_lease(any_bus, OTHER, "two", 60_000) is not None
    release_lease(any_bus, first)
    assert not renew_lease(any_bus, first, 60_000)
    second = acquire_lease(any_bus, UID, "two", 60_000)
    assert second is not None
    assert second.fence > first.fence


def test_a_lease_that_was_not_renewed_goes_to_the_next(any_bus: Bus) -> None:
    first = acquire_lease(any_bus, UID, "one", 60)
    assert first is not None

    found: list[Lease] = []

    def taken() -> bool:
        lease = acquire_lease(any_bus, UID, "two", 60_000)
        found.extend([lease] if lease else [])
        return bool(found)

    wait_until(taken, what="the lease expires")

    assert found[0].fence == first.fence + 1
    assert not renew_lease(any_bus, first, 60_000)
    release_lease(any_bus, first)  # Takes nothing from the new owner.
    assert renew_lease(any_bus, found[0], 60_000)


def test_leases_are_renewed_together_whatever_became_of_some(any_bus: Bus) -> None:
    acquired = [acquire_lease(any_bus, f"{UID}{n}", "one", 5000) for n in range(20)]
    leases = [each for each in acquired if each is not None]
    whole, lost, unfenced, foreign = leases[4:], *leases[1:4]
    taken = leases[0]
    release_lease(any_bus, taken)
    assert acquire_lease(any_bus, taken.uid, "two", 5000) is not None
    release_lease(any_bus, lost)
    any_bus.delete(fence_key(unfenced.uid), fence_key(foreign.uid))
    any_bus.hset(fence_key(foreign.uid), "of", "another type")

    any_bus.config_resetstat()
    odd = renew_leases(any_bus, leases, 60_000)
    stats: Any = any_bus.info("commandstats")

    assert stats["cmdstat_pexpire"]["calls"] == len(leases)
    assert sum(each["calls"] for each in stats.values()) <= len(leases) + 3
    assert odd == [taken, lost, unfenced, foreign]
    for lease in whole:
        assert any_bus.pttl(lease_key(lease.uid, lease.fence)) > 50_000
    assert [renew_lease(any_bus, lease, 60_000) for lease in odd] == [
        False,
        False,
        True,
        True,
    ]
    for lease in (unfenced, foreign):
        assert any_bus.get(fence_key(lease.uid)) == str(lease.fence).encode()


def test_only_what_is_durable_is_trimmed_whole_entries_at_a_time(any_bus: Bus) -> None:
    publish(any_bus, UID, [50, 50, 50, 50, 100])
    assert free_room(any_bus, 1) == 0

    safe_and_shown(any_bus, UID, "group", 150)
    assert free_room(any_bus, 1) == 3
    assert left(any_bus) == ["150-50", "200-100"]

    safe_and_shown(any_bus, UID, "group", 300)
    assert free_room(any_bus, 1) == 2
    assert free_room(any_bus, 1) == 0
    assert left(any_bus) == []


@pytest.mark.parametrize("point", [51, 75, 99])
def test_an_entry_that_is_durable_in_part_stays(any_bus: Bus, point: int) -> None:
    publish(any_bus, UID, [50, 50, 50])
    safe_and_shown(any_bus, UID, "group", point)
    assert free_room(any_bus, 1) == 1
    assert left(any_bus) == ["50-50", "100-50"]


def test_a_cursor_behind_the_end_trims_no_seal(any_bus: Bus) -> None:
    publish(any_bus, UID, [50])
    safe_and_shown(any_bus, UID, "group", 2**40)
    assert free_room(any_bus, 1) == 1
    assert any_bus.xlen(lane_key(UID, "group")) == 1


def test_trimming_ends_when_there_is_room_and_takes_the_oldest_first(
    any_bus: Bus,
) -> None:
    for uid in (UID, OTHER):
        publish(any_bus, uid, [10] * 40, nbytes=100_000)
        safe_and_shown(any_bus, uid, "group", 400)
    limit = used_memory(any_bus) - 1_500_000

    assert free_room(any_bus, limit) == 20  # Segments of 100 points, 1 MB each.

    assert used_memory(any_bus) <= limit
    assert left(any_bus, UID)[0] == "200-10"
    assert left(any_bus, OTHER)[0] == "0-10"
    assert free_room(any_bus, limit) == 0


def test_a_scan_that_is_held_is_not_trimmed(any_bus: Bus) -> None:
    for uid in (UID, OTHER):
        publish(any_bus, uid, [50, 50])
        safe_and_shown(any_bus, uid, "group", 100)
    hold_scan(any_bus, UID, 3000)

    assert free_room(any_bus, 1) == 2
    assert left(any_bus, UID) == ["0-50", "50-50"]
    assert left(any_bus, OTHER) == []

    wait_until(lambda: free_room(any_bus, 1) == 2, what="the hold expires")
    assert left(any_bus, UID) == []


def test_lanes_that_are_gone_or_were_never_made_are_passed_over(any_bus: Bus) -> None:
    announce(any_bus, announced("neverprepared"))
    announce(any_bus, announced(UID))
    append_event(any_bus, UID, prepared(bytes_lane()))
    acknowledge(any_bus, UID, "group", 10)
    assert free_room(any_bus, 1) == 0


def test_a_reservation_is_lowered_and_never_raised_or_made_again(any_bus: Bus) -> None:
    reserve_quota(any_bus, UID, 60, 100)

    lower_quota(any_bus, UID, 70)
    assert reserved_quotas(any_bus) == {UID: 60}
    lower_quota(any_bus, UID, 20)
    assert reserved_quotas(any_bus) == {UID: 20}
    release_quota(any_bus, UID)
    lower_quota(any_bus, UID, 10)  # The writer has released it meanwhile.
    assert reserved_quotas(any_bus) == {}


def test_without_a_publisher_what_no_file_has_stays_reserved(any_bus: Bus) -> None:
    make_lane(any_bus, UID, "a")
    for point in range(10):
        any_bus.xadd(lane_key(UID, "a"), {"h": b"", "p": bytes(10**5)}, id=f"{point}-1")
    reserve_quota(any_bus, UID, 2**30, 2**31)

    shrink_quota(any_bus, UID, ["a", "of which nothing was sent"])
    (whole,) = reserved_quotas(any_bus).values()
    acknowledge(any_bus, UID, "a", 8)
    shrink_quota(any_bus, UID, ["a"])
    (part,) = reserved_quotas(any_bus).values()
    acknowledge(any_bus, UID, "a", 10)
    shrink_quota(any_bus, UID, ["a"])

    assert 1_000_000 <= whole < 1_400_000
    assert part == whole // 5
    assert reserved_quotas(any_bus) == {UID: 1}
