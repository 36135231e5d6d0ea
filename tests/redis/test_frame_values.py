"""Values of frames that change their type, and frames whose first number is odd."""

import math
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import hdf5plugin  # noqa: F401 (registers the filters that frames need)
import numpy as np
import pytest

from scanbus.bus.store import connect, ends_of_streams
from scanbus.publisher import Publisher
from scanbus.publisher.gateways.runner import ScanNames
from scanbus.publisher.gateways.runner.messages import Message, SeriesStarted
from scanbus.publisher.gateways.runner.series_scan import SeriesScan
from scanbus.publisher.gateways.runner.series_state import SeriesState
from scanbus.schemas import EndReason, Verdict, VerdictWord
from tests.redis.test_gateways import frames_in, notes_of, verdict_of, written
from tests.support.gate import NAMES, Gate
from tests.support.given_messages import GivenMessages, given_frame, given_series
from tests.support.waiting import found_below, wait_until

pytestmark = pytest.mark.redis

# Of four frames, the values that a sender gives, and those that its channel has; None
# is a hole, which is in no frame but that of its value.
COLUMNS: dict[str, tuple[list[Any], list[Any]]] = {
    "to_text": ([1, "x", 3, 4], [1, None, 3, 4]),
    "to_list": ([1.5, [1], {"a": 1}, 4.5], [1.5, None, None, 4.5]),
    "to_fraction": ([1, 2.5, 3.0, 4], [1, None, 3, 4]),
    "to_whole": ([1.5, 2, 2**53 + 1, 4], [1.5, 2, None, 4]),
    "to_number": (["a", 1, 1.5, "b"], ["a", None, None, "b"]),
    "huge": ([1, 2**63, -(10**400), 4], [1, None, None, 4]),
    "huge_float": ([1, 1e300, math.inf, math.nan], [1, None, None, None]),
    "nan_as_text": ([1.5, "NaN", "-inf", 4.5], [1.5, None, None, 4.5]),
    "nan": ([1.5, math.nan, math.inf, 4.5], [1.5, math.nan, math.inf, 4.5]),
    "absent": ([1.5, None, 3.5, None], [1.5, math.nan, 3.5, math.nan]),
    "boolean": ([True, False, 1, None], [1, 0, 1, None]),
    "numpy": ([np.float32(1.5), np.int64(3), np.bool_(1), 4], [1.5, 3, 1, 4]),
    "no_value": ([None, 1, 2, 3], []),
    "first_huge": ([2**63, 1, 2, 3], []),
    "first_list": ([[1], 1, 2, 3], []),
}


def written_series(url: str, root: Path, gate: Gate) -> tuple[Verdict, str]:
    report = gate.report()
    assert report.failed == {}
    written(url, root)
    return verdict_of(url, report), notes_of(url, report.series[0][0])


def test_a_value_of_another_type_costs_itself_alone(
    redis_url: str, tmp_path: Path
) -> None:
    frames = [
        given_frame(n, {name: given[n] for name, (given, _) in COLUMNS.items()})
        for n in range(4)
    ]
    gate = Gate(GivenMessages(given_series(frames, 4)), redis_url, once=True)
    verdict, notes = written_series(redis_url, tmp_path, gate)
    counts = gate.runner.totals
    assert (counts.frames, counts.refused, counts.missing) == (4, 0, 0)
    assert verdict.channels["eiger"].missing == ()
    np.testing.assert_array_equal(frames_in(tmp_path)[:, 0, 0], range(4))
    n_holes = 0
    with h5py.File(found_below(tmp_path, "scan0001.h5")[0]) as file:
        for name, (_, expected) in COLUMNS.items():
            if not expected:
                assert f"eiger_{name}" not in verdict.channels
                continue
            ledger = verdict.channels[f"eiger_{name}"]
            missing = {n for span in ledger.missing for n in range(*span)}
            assert missing == {n for n in range(4) if expected[n] is None}, name
            assert ledger.expected == 4
            column = file[f"1.1/measurement/eiger_{name}"]
            found = column.asstr()[()] if column.dtype.kind == "O" else column[()]
            for n in {*range(4)} - missing:
                np.testing.assert_equal(found[n], expected[n], err_msg=name)
            n_holes += len(missing)
    assert "huge of frame 1 is left out: expected a whole number, got" in notes
    assert "values left out: " in notes
    assert "to_text 1" in notes
    # Those that have no channel: three names, of three frames each.
    assert counts.left_out >= n_holes + 9


def test_a_hole_does_not_close_the_place_of_a_frame_out_of_order(
    redis_url: str, tmp_path: Path
) -> None:
    given = {0: 5, 1: None, 2: 6, 4: None, 3: 7, 5: None}
    frames = [given_frame(n, {"q": value}) for n, value in given.items()]
    gate = Gate(GivenMessages(given_series(frames)), redis_url, once=True)
    verdict, notes = written_series(redis_url, tmp_path, gate)
    ledger = verdict.channels["eiger_q"]
    assert (ledger.missing, ledger.late) == (((1, 2), (4, 6)), ())
    assert "values left out: q 3" in notes


def test_after_a_lost_frame_holes_hold_nothing_back(redis_url: str) -> None:
    """What waits in the gateway is lost if it is killed."""
    n_frames = 90

    with Publisher(redis_url, close_timeout_s=0.0, reorder_s=600.0) as publisher:
        series = SeriesScan(
            publisher,
            NAMES,
            SeriesStarted("1"),
            SeriesState(uuid.uuid4().hex, "1"),
            kind="given",
            must_stop=lambda: False,
            note_state=lambda: None,
            on_unfit=lambda _: None,
        )
        for number in range(n_frames):
            if number != 3:
                values = {} if number in {80, 85, 86} else {"q": number}
                series.take(given_frame(number, values), 1.0)

        def n_points() -> int:
            with connect(redis_url, name="test") as client:
                (end,) = ends_of_streams(client, series.scan.uid, ["eiger_q"])
            return sum(map(int, end[1].split(b"-"))) if end else 0

        wait_until(lambda: n_points() == n_frames)
        series.finish(EndReason.SUCCESS)


class First(NamedTuple):
    """A series, and what is said of its first frame in note and verdict."""

    numbers: list[int]
    promised: int | None
    note: str = ""
    reason: str = ""
    missing: tuple[tuple[int, int], ...] = ()


FROM_1 = "frame 1 came first: the sender is taken to count from 1"
LEARNT = [
    First([0, 1, 2], 3),
    First([1, 2, 3], 3, FROM_1),
    First([1], 1, FROM_1),
    First([1, 0, 2], 3, "frame 1 came first: frame 0 was lost, or late"),
    First(
        [1, 2],
        3,
        FROM_1,
        "frame 1 came first, and 2 last: lost is frame 0 if the sender counts from 0",
        ((2, 3),),
    ),
    First(
        [2, 3],
        None,
        "frame 2 came first: frames 0 to 1 were lost, or late; if the sender",
        "frame 2 came first: frames 0 to 1 were lost before it",
        ((0, 2),),
    ),
    First(
        [2, 3],
        3,
        "frame 2 came first",
        "frame 2 came first, and 3 last of 3: the sender counts from 1",
        ((0, 2),),
    ),
]
SAID = [
    First([3, 4], None, "frame 3 came first: frames 1 to 2 were", "", ((0, 2),)),
    First([1, 2], 2),
]


@pytest.mark.parametrize(("first", "cases"), [(None, LEARNT), (1, SAID)])
def test_a_first_frame_with_another_number_is_told(
    redis_url: str, tmp_path: Path, first: int | None, cases: list[First]
) -> None:
    messages: list[Message] = []
    for index, case in enumerate(cases):
        series = str(index)
        frames = [given_frame(number, series=series) for number in case.numbers]
        messages += given_series(frames, case.promised, series)
    names = ScanNames("eiger", NAMES.scan, first)
    gate = Gate(GivenMessages(messages), redis_url, names)
    wait_until(lambda: len(gate.runner.so_far.series) == len(cases))
    report = gate.stop()
    written(redis_url, tmp_path)
    for index, case in enumerate(cases):
        verdict = verdict_of(redis_url, report, index)
        notes = notes_of(redis_url, report.series[index][0])
        for text, expected in ((notes, case.note), (verdict.reason, case.reason)):
            assert expected in text
            assert ("came first" in text) == bool(expected)
        assert verdict.channels["eiger"].missing == case.missing
        is_complete = verdict.verdict is VerdictWord.COMPLETE
        assert is_complete == (not case.missing)
