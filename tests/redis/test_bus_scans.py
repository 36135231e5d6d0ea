"""Scans are announced, found and judged, whatever else stands in the streams."""

from typing import Any

import pytest

from scanbus.bus.protocol import (
    ANNOUNCEMENTS,
    POSITION,
    WRITERS,
    ScanRecord,
    events_key,
    number_key,
    writer_key,
)
from scanbus.bus.store import (
    Bus,
    announce,
    announcements,
    append_event,
    append_events,
    beat_writer,
    find_scan,
    is_announced,
    last_announcement,
    load_record,
    move_position,
    next_scan_number,
    raise_scan_number,
    read_events,
    read_position,
    remove_lapsed_writers,
    writer_is_alive,
    writers_alive,
)
from scanbus.schemas import (
    EndReason,
    ScanEnded,
    ScanJudged,
    ScanRenumbered,
    ScanStarted,
    ScanUpdated,
    Verdict,
    VerdictWord,
)
from scanbus.schemas.documents import MAX_ANNOUNCEMENT_BYTES, MAX_DOCUMENT_BYTES
from scanbus.schemas.errors import (
    AmbiguousScanError,
    DocumentError,
    UnknownScanError,
)
from tests.support.descriptions import NOW, UID, announced, bytes_lane, prepared
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis
EVENTS = events_key(UID)
LARGEST = "18446744073709551615-18446744073709551615"


def judged(word: VerdictWord, *, uid: str = UID, provisional: bool = False) -> Any:
    verdict = Verdict(uid=uid, verdict=word, provisional=provisional)
    return ScanJudged(time=NOW, verdict=verdict)


def test_a_scan_is_what_its_events_say(any_bus: Bus) -> None:
    announce(any_bus, announced())
    record = load_record(any_bus, announced())
    states = [record.state]
    events: list[Any] = [
        prepared(bytes_lane(), metadata={"sample": {"name": "a", "mass": 1}}),
        ScanStarted(time=NOW),
        ScanUpdated(time=NOW, metadata={"sample": {"mass": 2}}),
        ScanEnded(time=NOW, end_reason=EndReason.SUCCESS, metadata={"x": 1}),
        judged(VerdictWord.PARTIAL, provisional=True),
        judged(VerdictWord.COMPLETE),
    ]
    for event in events:
        append_event(any_bus, UID, event)
        assert read_events(any_bus, record)
        states.append(record.state)

    assert not read_events(any_bus, record)
    assert states == [
        "announced",
        "prepared",
        "started",
        "started",
        "ended",
        "ended",
        "complete",
    ]
    assert record.metadata() == {"sample": {"name": "a", "mass": 2}, "x": 1}
    assert record.problems == []


def test_events_that_come_twice_change_nothing(any_bus: Bus) -> None:
    events: list[Any] = [
        prepared(bytes_lane()),
        ScanStarted(time=NOW),
        ScanUpdated(time=NOW, metadata={"a": 1}),
        ScanUpdated(time=NOW + 1, metadata={"a": 2}),
        ScanEnded(time=NOW, end_reason=EndReason.SUCCESS),
    ]
    for event in [*events, *events]:
        append_event(any_bus, UID, event)

    record = load_record(any_bus, announced())

    assert record.updates == events[2:4]
    assert record.metadata() == {"a": 2}


def test_events_go_together_as_many_as_suit_one_command(any_bus: Bus) -> None:
    """One command each takes longer than a program takes to make them."""
    notes = [ScanUpdated(time=NOW, note=f"{number} " * 99) for number in range(9000)]
    events: list[Any] = [prepared(bytes_lane()), *notes]
    left, n_commands = events, 0
    while left:
        left = left[append_events(any_bus, UID, left) :]
        n_commands += 1
    assert n_commands == 5  # A mebibyte each.
    record = load_record(any_bus, announced())
    assert record.updates == notes
    assert record.problems == []


def test_an_event_that_is_too_large_keeps_back_none_before_it(any_bus: Bus) -> None:
    small = ScanUpdated(time=NOW, note="small")
    large = ScanUpdated(time=NOW, metadata={"a": list(range(2**20))})
    assert append_events(any_bus, UID, [small, large]) == 1
    with pytest.raises(DocumentError):
        append_events(any_bus, UID, [large, small])
    assert load_record(any_bus, announced()).updates == [small]


def test_a_reader_may_want_events_of_some_types_only(any_bus: Bus) -> None:
    notes = [ScanUpdated(time=NOW, note=f"{number}") for number in range(3)]
    notes.append(ScanUpdated(time=NOW, note="judged"))
    said = judged(VerdictWord.COMPLETE)
    append_events(any_bus, UID, [prepared(bytes_lane()), *notes, said])

    record = ScanRecord(announced().scan)
    assert read_events(any_bus, record, only=(b"judged",))
    assert record.final_verdict == said.verdict
    assert record.prepared is None
    assert record.updates == notes[3:]
    assert not read_events(any_bus, record)  # The others are passed, too.


def test_the_first_end_counts(any_bus: Bus) -> None:
    for reason in (EndReason.USER_ABORT, EndReason.SUCCESS):
        append_event(any_bus, UID, ScanEnded(time=NOW, end_reason=reason))
    record = load_record(any_bus, announced())
    assert record.ended is not None
    assert record.ended.end_reason is EndReason.USER_ABORT


def test_nothing_provisional_follows_a_final_verdict(any_bus: Bus) -> None:
    """A writer that was paused wakes after its successor has finished."""
    append_event(any_bus, UID, judged(VerdictWord.COMPLETE))
    append_event(any_bus, UID, judged(VerdictWord.PARTIAL, provisional=True))
    assert load_record(any_bus, announced()).state == "complete"


def test_events_that_speak_of_another_scan_are_not_believed(any_bus: Bus) -> None:
    append_event(any_bus, UID, prepared(bytes_lane(), uid=UID[::-1]))
    append_event(any_bus, UID, judged(VerdictWord.COMPLETE, uid=UID[::-1]))
    record = load_record(any_bus, announced())
    assert record.state == "announced"
    assert len(record.problems) == 2
    assert "another scan" in record.problems[0]


def test_garbage_between_the_events_is_named_and_passed_over(any_bus: Bus) -> None:
    any_bus.xadd(EVENTS, {"doc": b"garbage"})
    any_bus.xadd(EVENTS, {"another": b"field"})
    any_bus.xadd(EVENTS, {"doc": b'{"protocol": 2}'})
    any_bus.xadd(EVENTS, {"doc": b'{"protocol": 1, "type": "sung", "time": 1}'})
    append_event(any_bus, UID, ScanStarted(time=NOW))

    record = load_record(any_bus, announced())

    assert record.state == "started"
    reasons = ["not JSON", "field 'doc' is missing", "protocol version 2", "sung"]
    for problem, reason in zip(record.problems, reasons, strict=True):
        assert reason in problem


def test_a_document_that_is_far_too_large_is_not_even_fetched(any_bus: Bus) -> None:
    any_bus.xadd(EVENTS, {"doc": b"{" * (MAX_DOCUMENT_BYTES + 100)})
    append_event(any_bus, UID, ScanStarted(time=NOW))
    before = any_bus.info("stats")["total_net_output_bytes"]

    record = load_record(any_bus, announced())

    after = any_bus.info("stats")["total_net_output_bytes"]
    assert record.state == "started"
    assert "too many" in record.problems[0]
    assert after - before < 100_000


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"a": "x" * (MAX_DOCUMENT_BYTES + 1)}, "bytes; the limit is"),
        ({"a": [1] * 2**20}, "send arrays as array values"),
    ],
    ids=["bytes", "values"],
)
def test_a_document_that_nobody_would_take_is_not_sent(
    any_bus: Bus, metadata: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DocumentError, match=reason):
        append_event(any_bus, UID, ScanUpdated(time=NOW, metadata=metadata))
    assert not any_bus.exists(EVENTS)


def test_a_stream_that_can_take_no_more_is_read_to_its_end(any_bus: Bus) -> None:
    """Its largest id, exclusive, is no range that Redis would accept."""
    any_bus.xadd(EVENTS, {"doc": ScanStarted(time=NOW).to_json()}, id=LARGEST)
    record = load_record(any_bus, announced())
    assert record.state == "started"
    assert not read_events(any_bus, record)


def test_many_large_events_come_in_replies_of_bounded_size(any_bus: Bus) -> None:
    events = [ScanUpdated(time=NOW + n, note="x" * 60_000) for n in range(300)]
    for event in events:
        append_event(any_bus, UID, event)
    assert load_record(any_bus, announced()).updates == events


def test_announcements_come_in_order_and_go_on_after_any_of_them(any_bus: Bus) -> None:
    uids = [f"scan{number:08}" for number in range(600)]
    ids = [announce(any_bus, announced(uid)) for uid in uids]

    lines = list(announcements(any_bus))

    assert [line.id for line in lines] == ids
    assert [line.document.scan.uid for line in lines if line.document] == uids
    assert [line.id for line in announcements(any_bus, ids[597])] == ids[598:]
    assert list(announcements(any_bus, LARGEST)) == []


def test_the_last_announcement_is_known_by_its_id(any_bus: Bus) -> None:
    assert last_announcement(any_bus) == "0-0"
    ids = [announce(any_bus, announced(f"scan{number:08}")) for number in range(3)]
    assert last_announcement(any_bus) == ids[-1]


def test_bad_announcements_are_named_with_their_id(any_bus: Bus) -> None:
    any_bus.xadd(ANNOUNCEMENTS, {"doc": b"[" * 1000})
    any_bus.xadd(ANNOUNCEMENTS, {"x": b"y"})
    any_bus.xadd(ANNOUNCEMENTS, {"doc": b"x" * (MAX_ANNOUNCEMENT_BYTES + 1000)})
    announce(any_bus, announced())

    lines = list(announcements(any_bus))

    assert [line.document is None for line in lines] == [True, True, True, False]
    assert all(line.problem for line in lines[:3])
    assert find_scan(any_bus, UID).uid == UID


def test_an_announcement_is_known_by_id_and_scan(any_bus: Bus) -> None:
    stream_id = announce(any_bus, announced())
    assert is_announced(any_bus, stream_id, UID)
    assert not is_announced(any_bus, stream_id, UID[::-1])
    assert not is_announced(any_bus, "1-1", UID)


def test_a_scan_is_found_by_uid_number_or_the_start_of_its_uid(any_bus: Bus) -> None:
    for uid, number in (
        ("77aaaaaa", 1),
        ("bbbbbbbb", 77),
        ("77cccccc", 3),
        ("77aaaaaax", 4),
        ("12345678", 5),
        ("dddddddd", 12345678 - 10**7),
        ("eeeeeeee", 77),
    ):
        announce(any_bus, announced(uid, number))

    assert find_scan(any_bus, "77aaaaaa").uid == "77aaaaaa"
    assert find_scan(any_bus, "77").uid == "eeeeeeee"
    assert find_scan(any_bus, "77c").uid == "77cccccc"
    assert find_scan(any_bus, "77a").uid == "77aaaaaax"
    assert find_scan(any_bus, "12345678").uid == "12345678"
    for name in ("", "nothing", "077", "aaaa"):
        with pytest.raises(UnknownScanError):
            find_scan(any_bus, name)


@pytest.mark.parametrize("only_one", [False, True])
def test_a_number_that_the_writer_gave_comes_before_the_beginning_of_a_uid(
    any_bus: Bus, *, only_one: bool
) -> None:
    """Uids begin with digits: every sixteenth one with that of a number below ten."""
    for uid, number in (("dddddddd", 1), ("5aaaaaaa", 6), ("5bbbbbbb", 7)):
        announce(any_bus, announced(uid, number))
    moved = ScanRenumbered(time=NOW, scan_number=5)
    append_event(any_bus, "dddddddd", moved)

    assert find_scan(any_bus, "5", only_one=only_one).uid == "dddddddd"
    assert find_scan(any_bus, "5a", only_one=only_one).uid == "5aaaaaaa"
    with pytest.raises(UnknownScanError):
        find_scan(any_bus, "1", only_one=only_one)


def test_a_name_of_several_scans_is_refused_where_only_one_may_be_meant(
    any_bus: Bus,
) -> None:
    for uid, number in (("aaaaaaaa", 5), ("aabbbbbb", 5), ("cccccccc", 6)):
        announce(any_bus, announced(uid, number))
    announce(any_bus, announced("cccccccc", 6))  # Said again: the same scan.

    for name, uid in (("6", "cccccccc"), ("aab", "aabbbbbb"), ("last", "cccccccc")):
        assert find_scan(any_bus, name, only_one=True).uid == uid
    for name in ("5", "aa"):
        with pytest.raises(AmbiguousScanError, match="aaaaaaaa, aabbbbbb"):
            find_scan(any_bus, name, only_one=True)


def test_the_position_is_kept_and_garbage_is_none(any_bus: Bus) -> None:
    assert read_position(any_bus) == "0-0"
    move_position(any_bus, "1700000000000-3")
    assert read_position(any_bus) == "1700000000000-3"
    for garbage in (b"", b"5", b"x-y", b"\xff", b"1-1\n", b"9" * 20 + b"-0", b"-1-1"):
        any_bus.set(POSITION, garbage)
        assert read_position(any_bus) == "0-0"


def test_writers_are_alive_while_they_beat(any_bus: Bus) -> None:
    beat_writer(any_bus, "one", {"host": "a"}, 60_000)
    beat_writer(any_bus, "two", {"host": "b"}, 60)
    wait_until(lambda: not writer_is_alive(any_bus, "two"), what="it expires")
    assert writers_alive(any_bus) == {"one": {"host": "a"}}


def test_writers_that_were_killed_leave_no_lines_for_ever(any_bus: Bus) -> None:
    beat_writer(any_bus, "here", {}, 60_000)
    any_bus.hset(WRITERS, mapping={"killed": b"{}", b"\xff": b"{}"})
    remove_lapsed_writers(any_bus)
    assert any_bus.hkeys(WRITERS) == [b"here"]


def test_a_writer_that_redis_forgot_is_known_again_with_its_next_beat(
    any_bus: Bus,
) -> None:
    beat_writer(any_bus, "one", {}, 60_000)
    any_bus.delete(WRITERS)
    beat_writer(any_bus, "one", {"n": 2}, 60_000)
    assert writers_alive(any_bus) == {"one": {"n": 2}}


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"\xff", b"[" * 10**5, b"null"])
def test_what_a_writer_says_may_be_garbage(any_bus: Bus, line: bytes) -> None:
    any_bus.hset(WRITERS, "odd", line)
    any_bus.set(writer_key("odd"), b"x")
    assert writers_alive(any_bus) == {"odd": {}}


def test_scan_numbers_are_given_once_and_only_raised(any_bus: Bus) -> None:
    assert [next_scan_number(any_bus, "d", "numbered") for _ in range(2)] == [1, 2]
    raise_scan_number(any_bus, "d", 40)
    raise_scan_number(any_bus, "d", 7)
    assert next_scan_number(any_bus, "d", "numbered") == 41
    any_bus.set(number_key("d"), b"garbage")
    raise_scan_number(any_bus, "d", 50)
    assert next_scan_number(any_bus, "d", "numbered") == 51
