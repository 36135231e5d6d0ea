"""Whatever Redis loses: the lane is contiguous, and nothing that is at risk is gone."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scanbus.bus.protocol import (
    SEAL_ID,
    EncodedEntry,
    RetransmitBuffer,
    checksum_of,
    entry_id,
    pack_header,
)

SESSION = b"12345678"


def points(first: int, count: int) -> EncodedEntry:
    header = pack_header(session=SESSION, checksum=checksum_of(b"x" * count))
    return EncodedEntry(entry_id(first, count), first + count, header, b"x" * count)


def seal(length: int) -> EncodedEntry:
    header = pack_header(session=SESSION, checksum=checksum_of(b""), length=length)
    return EncodedEntry(SEAL_ID, length, header)


def numbers(entry: EncodedEntry) -> tuple[int, int]:
    first, _, second = entry.id.partition(b"-")
    return int(first), int(second)


class LossyRedis(RuleBasedStateMachine):
    """One lane, one publisher, one writer, and a Redis that forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.retransmit = RetransmitBuffer(SESSION)
        self.lane: list[EncodedEntry] = []
        self.last: tuple[int, int] = (0, 0)
        self.made = 0
        self.written = 0
        self.cursor = 0
        # Where the lane begins, if it is that of a scan that continues a closed one.
        self.begin = 0

    def resume_after(self, last_id: bytes | None) -> None:
        """Compare with the lane; the bytes that are sent again must be said."""
        kept, n_sent = self.retransmit._kept, self.retransmit._n_sent
        sent = {entry.id for entry in list(kept)[:n_sent] if not entry.is_stand_in}
        again = self.retransmit.resume_after(last_id)
        unsent = self.retransmit.to_send(10**9)
        assert again == sum(one.nbytes for one in unsent if one.id in sent)

    @precondition(lambda self: not self.retransmit.sealed)
    @rule(count=st.integers(1, 5))
    def gather(self, count: int) -> None:
        self.retransmit.put(points(self.made, count))
        self.made += count

    @precondition(lambda self: not self.retransmit.sealed)
    @rule()
    def end(self) -> None:
        self.retransmit.put(seal(self.made))

    @rule(max_bytes=st.integers(1, 600))
    def send(self, max_bytes: int) -> None:
        batch = self.retransmit.to_send(max_bytes)
        assert bool(batch) == self.retransmit.has_unsent
        for entry in batch:
            assert numbers(entry) > self.last, "Redis would refuse it"
            self.lane.append(entry)
            self.last = numbers(entry)
        self.retransmit.mark_sent(len(batch))

    @rule(max_bytes=st.integers(1, 600))
    def send_and_lose_the_reply(self, max_bytes: int) -> None:
        for entry in self.retransmit.to_send(max_bytes):
            self.lane.append(entry)
            self.last = numbers(entry)
        self.resume_after(b"%d-%d" % self.last)

    @precondition(lambda self: self.lane)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        """The writer makes entries durable up to some entry of the lane."""
        entry = data.draw(st.sampled_from(self.lane))
        self.written = max(self.written, entry.stop)
        self.cursor = self.written

    @rule()
    def look_at_cursor(self) -> None:
        self.retransmit.mark_durable(self.cursor)

    @precondition(lambda self: self.lane)
    @rule(kept=st.integers(0, 30))
    def lose_tail(self, kept: int) -> None:
        """SIGKILL with an append-only file that is synced every second."""
        del self.lane[kept:]
        self.last = numbers(self.lane[-1]) if self.lane else (0, 0)
        self.resume_after(b"%d-%d" % self.last)

    @rule(gone=st.booleans())
    def lose_all(self, gone: bool) -> None:
        self.lane.clear()
        self.last = (0, 0)
        self.cursor = 0
        self.resume_after(None if gone else b"0-0")

    @precondition(lambda self: self.lane)
    @rule()
    def go_on_as_another_scan(self) -> None:
        """The scan was closed where it stood: only the rest goes into a new lane."""
        reached = max(self.lane[-1].stop, self.cursor)
        self.retransmit.begin_again(reached)
        assert self.retransmit.resume_after(None) == 0
        left = [one for one in self.retransmit.to_send(10**9) if not one.is_seal]
        self.begin = numbers(left[0])[0] if left else self.made
        self.written = max(self.written, reached)
        self.lane.clear()
        self.last = (0, 0)
        self.cursor = 0

    @invariant()
    def the_lane_is_contiguous(self) -> None:
        # Points that a new lane does not have are a jump at its beginning.
        is_jump = bool(self.lane) and numbers(self.lane[0])[0] > 0
        expected = self.begin if is_jump else 0
        for entry in self.lane:
            if entry.is_seal:
                assert entry.stop == expected == self.made
                continue
            first, count = numbers(entry)
            assert first == expected
            expected = first + count

    @invariant()
    def no_point_at_risk_is_gone(self) -> None:
        """What the writer lacks is in the lane or will be sent, as itself."""
        held = [*self.lane, *self.retransmit.to_send(10**9)]
        there = {
            point
            for entry in held
            if not entry.is_seal and entry.payload
            for point in range(numbers(entry)[0], entry.stop)
        }
        assert set(range(self.written, self.made)) <= there

    @invariant()
    def stand_ins_speak_of_durable_points_only(self) -> None:
        for entry in [*self.lane, *self.retransmit.to_send(10**9)]:
            if entry.is_stand_in:
                assert entry.stop <= self.written

    @invariant()
    def bytes_are_counted(self) -> None:
        assert self.retransmit.nbytes == sum(
            entry.nbytes for entry in self.retransmit._kept
        )
        sent = list(self.retransmit._kept)[: self.retransmit._n_sent]
        assert self.retransmit.sent_bytes == sum(entry.nbytes for entry in sent)
        assert self.retransmit.unsent_bytes == sum(
            entry.nbytes for entry in self.retransmit.to_send(10**9)
        )

    def teardown(self) -> None:
        """Left alone, everything arrives and becomes durable."""
        if not self.retransmit.sealed:
            self.end()
        while self.retransmit.has_unsent:
            self.send(500)
        self.written = self.cursor = self.made
        self.look_at_cursor()
        self.the_lane_is_contiguous()
        assert self.lane[-1].is_seal
        assert self.retransmit.is_durable


TestLossyRedis = LossyRedis.TestCase


def test_a_batch_holds_one_entry_even_if_that_is_larger_than_asked() -> None:
    retransmit = RetransmitBuffer(SESSION)
    retransmit.put(points(0, 1000))
    retransmit.put(points(1000, 1))
    assert [entry.id for entry in retransmit.to_send(10)] == [b"0-1000"]


def test_what_is_durable_is_forgotten_and_its_bytes_with_it() -> None:
    retransmit = RetransmitBuffer(SESSION)
    retransmit.put(points(0, 10))
    retransmit.put(points(10, 10))
    retransmit.mark_sent(2)
    retransmit.mark_durable(15)
    assert retransmit.nbytes == points(10, 10).nbytes
    retransmit.mark_durable(20)
    assert retransmit.nbytes == 0


def test_a_cursor_beyond_the_lane_is_no_promise_for_later_points() -> None:
    retransmit = RetransmitBuffer(SESSION)
    retransmit.mark_durable(1000)
    retransmit.put(points(0, 10))
    retransmit.mark_sent(1)
    assert retransmit.nbytes > 0


@pytest.mark.parametrize(("lane_stop", "expected"), [(0, b"0-10"), (3, b"3-7")])
def test_points_that_redis_lost_but_the_writer_has_get_a_stand_in(
    lane_stop: int, expected: bytes
) -> None:
    retransmit = RetransmitBuffer(SESSION)
    retransmit.put(points(0, 10))
    retransmit.put(points(10, 5))
    retransmit.mark_sent(2)
    retransmit.mark_durable(10)
    retransmit.resume_after(b"0-%d" % lane_stop if lane_stop else None)
    assert [entry.id for entry in retransmit.to_send(10**6)] == [expected, b"10-5"]
    retransmit.resume_after(None)  # and again, before it was sent
    assert retransmit.to_send(10**6)[0].id == b"0-10"


def test_what_was_dropped_is_never_said_to_be_durable() -> None:
    retransmit = RetransmitBuffer(SESSION)
    retransmit.put(points(0, 10))
    retransmit.drop()
    retransmit.resume_after(None)
    assert not retransmit.has_unsent
    assert retransmit.nbytes == 0
