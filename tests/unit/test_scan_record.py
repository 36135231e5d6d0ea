"""Events folded in any order that a bus can show them: one record."""

from dataclasses import replace
from time import process_time

from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import (
    EndReason,
    Event,
    ScanEnded,
    ScanJudged,
    ScanStarted,
    ScanUpdated,
    Verdict,
    VerdictWord,
)
from tests.support.descriptions import NOW, UID, bytes_lane, identity, prepared


def judged(word: VerdictWord, *, provisional: bool = False) -> ScanJudged:
    verdict = Verdict(uid=UID, verdict=word, provisional=provisional)
    return ScanJudged(time=NOW, verdict=verdict)


FINALS = st.sampled_from([judged(word) for word in VerdictWord])
PROVISIONAL = judged(VerdictWord.PARTIAL, provisional=True)


def said_by_the_publisher(n_updates: int) -> list[Event]:
    updates = [
        ScanUpdated(time=NOW + number, metadata={f"key{number % 3}": number})
        for number in range(n_updates)
    ]
    end = ScanEnded(time=NOW, end_reason=EndReason.SUCCESS, metadata={"key0": -1})
    return [prepared(bytes_lane()), ScanStarted(time=NOW), *updates, end]


@st.composite
def as_a_bus_shows_them(draw: st.DrawFn, events: list[Event]) -> list[Event]:
    """In order, but after losses again from the first one on, with verdicts between."""
    shown: list[Event] = []
    reached = 0
    while reached < len(events):
        if reached and draw(st.integers(0, 3)) == 0:
            shown += events[:reached]
        if draw(st.booleans()):
            shown.append(PROVISIONAL)
        shown.append(events[reached])
        reached += 1
    return shown


def folded(events: list[Event]) -> ScanRecord:
    record = ScanRecord(identity())
    for event in events:
        record.fold(event)
    return record


@given(data=st.data(), n_updates=st.integers(0, 5), final=FINALS)
def test_what_comes_again_after_losses_changes_nothing(
    data: st.DataObject, n_updates: int, final: ScanJudged
) -> None:
    events = said_by_the_publisher(n_updates)
    shown = data.draw(as_a_bus_shows_them(events))

    record = folded([*shown, final])

    assert record == folded([*events, final])
    assert record.metadata() == folded(events).metadata()


@given(final=FINALS, later=st.lists(FINALS | st.just(PROVISIONAL), max_size=4))
def test_nothing_changes_a_final_verdict(
    final: ScanJudged, later: list[ScanJudged]
) -> None:
    record = folded([PROVISIONAL, final, *later])

    assert record.verdict == final.verdict
    assert replace(record, verdict=PROVISIONAL.verdict).state == "announced"


def test_thousands_of_updates_sent_twice_cost_in_proportion() -> None:
    """Each was compared with all before: this took minutes of processor time."""
    updates = [
        ScanUpdated(time=NOW, metadata={f"key{number}": float("nan")})
        for number in range(5000)
    ]
    record = ScanRecord(identity())

    before = process_time()
    for event in (*updates, *updates):
        record.fold(event)
    tree = record.metadata()

    assert process_time() - before < 10
    assert record.updates == updates
    assert list(tree) == [f"key{number}" for number in range(5000)]
