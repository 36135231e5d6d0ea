"""The ledger of the files is the list of what was injected, whatever was injected."""

import json
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scanbus.bus.protocol import cursors_key
from scanbus.bus.store import connect, find_scan, read_cursor
from scanbus.cli.app import run
from scanbus.publisher.faulty import (
    Faults,
    FaultyScan,
    Plan,
    make_plan,
    points_of,
    simulate,
)
from scanbus.schemas import ChannelLedger, Verdict, VerdictWord
from scanbus.writer import WriterSettings, replay, run_writer
from scanbus.writer.service.service import WriterService
from tests.support.roots import made_root
from tests.support.trees import differences
from tests.support.waiting import wait_until

# Each of many scans takes seconds on a machine with nothing else to do.
pytestmark = pytest.mark.timeout(900)

KINDS = ("drop", "gap", "duplicate", "second", "reorder", "corrupt", "refused")
# What a writer needs between two polls is most of a test otherwise.
QUICK: dict[str, Any] = {"poll_s": 0.02, "retry_s": 0.1, "flush_s": 0.2}
many = settings(
    max_examples=12,
    deadline=None,
    # A scan for every attempt at a shorter example takes minutes: seeds are short.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def some_faults(draw: st.DrawFn) -> Faults:
    """Rates up to one fault in every entry."""
    weights = draw(
        st.lists(st.integers(0, 4), min_size=len(KINDS), max_size=len(KINDS))
    )
    total = draw(st.sampled_from([0.1, 0.4, 0.9])) / (sum(weights) or 1)
    rates = {kind: weight * total for kind, weight in zip(KINDS, weights, strict=True)}
    return Faults(**rates, window=draw(st.integers(1, 3)))


def evenly(rate: float, **more: Any) -> Faults:
    rates: dict[str, Any] = dict.fromkeys(KINDS, rate)
    return Faults(**rates, **more)


def empty(url: str) -> None:
    """Forget the scan of the example before."""
    with connect(url, name="test") as client:
        client.flushall()


def point_0_is_missing(ledger: ChannelLedger) -> bool:
    return bool(ledger.missing) and ledger.missing[0][0] == 0


def write_once(url: str, root: Path) -> int:
    return run_writer(
        WriterSettings.load(redis=url, root=made_root(root), **QUICK), once=True
    )


def verdict_of(url: str, uid: str) -> Verdict:
    with connect(url, name="test") as client:
        verdict = find_scan(client, uid).verdict
    assert verdict is not None
    return verdict


def assert_ledgers_equal(
    found: dict[str, ChannelLedger], injected: dict[str, ChannelLedger]
) -> None:
    """Channel by channel: what differs is short to read."""
    assert set(found) == set(injected)
    for name, ledger in injected.items():
        assert found[name].model_dump() == ledger.model_dump(), name


def assert_content(root: Path, verdict: Verdict, plan: Plan) -> None:
    """Every point that the ledger calls written is the one that the seed gives."""
    with h5py.File(root / verdict.master) as file:
        entry = next(group for name, group in file.items() if name.endswith(".1"))
        for lane in plan.lanes:
            for channel in lane.channels:
                data = entry["measurement"][channel.name]
                ledger = verdict.channels[channel.name]
                missing = {
                    p for start, stop in ledger.missing for p in range(start, stop)
                }
                sent = points_of(plan.seed, channel, 0, ledger.expected)
                for point in set(range(ledger.expected)) - missing:
                    value = sent[point]
                    if isinstance(value, str):
                        assert data.asstr()[point] == value
                    elif not channel.is_ragged:
                        np.testing.assert_array_equal(data[point], value)


@many
@given(seed=st.integers(0, 2**32), faults=some_faults())
def test_the_ledger_equals_what_was_injected(
    redis_url: str, tmp_path: Path, seed: int, faults: Faults
) -> None:
    plan = make_plan(seed, faults, n_points=110, n_frames=30)
    root = tmp_path / uuid4().hex
    empty(redis_url)
    with FaultyScan(redis_url, plan) as scan:
        scan.send()
        injected = scan.end()

    code = write_once(redis_url, root)

    verdict = verdict_of(redis_url, scan.uid)
    assert_ledgers_equal(verdict.channels, injected.channels)
    flawless = all(one.is_complete for one in injected.channels.values())
    if flawless and not injected.injected.get("refused"):
        assert verdict.verdict is VerdictWord.COMPLETE
    else:
        assert verdict.verdict is VerdictWord.PARTIAL
        assert verdict.reason
    assert code == verdict.verdict.exit_code
    assert_content(root, verdict, plan)


@pytest.mark.long
@many
@given(seed=st.integers(0, 2**32), faults=some_faults(), share=st.floats(0.1, 0.9))
def test_a_writer_that_was_restarted_comes_to_the_same_ledger(
    redis_url: str, tmp_path: Path, seed: int, faults: Faults, share: float
) -> None:
    plan = make_plan(seed, faults, n_points=110, n_frames=30)
    root = tmp_path / uuid4().hex
    empty(redis_url)
    with FaultyScan(redis_url, plan) as scan:
        scan.send(int(share * len(plan.steps)))
        _write_for_a_while(redis_url, root, scan.uid)
        scan.send()
        injected = scan.end()

    write_once(redis_url, root)

    verdict = verdict_of(redis_url, scan.uid)
    assert_ledgers_equal(verdict.channels, injected.channels)
    if any(point_0_is_missing(one) for one in verdict.channels.values()):
        return  # Whether it was trimmed or never came, a replay cannot know.
    again = replay(redis_url, scan.uid, root / "again")
    assert again.reason == verdict.reason
    assert differences(next(root.glob("simulated")), root / "again/simulated") == []


def _write_for_a_while(url: str, root: Path, uid: str) -> None:
    """Run a writer until it has taken what there is, and have it leave."""
    service = WriterService(
        WriterSettings.load(redis=url, root=made_root(root), **QUICK)
    )
    thread = threading.Thread(target=service.run, kwargs={"once": False})
    thread.start()
    with connect(url, name="test") as client:
        try:
            wait_until(lambda: bool(client.exists(cursors_key(uid, "pilatus"))))
            found: dict[str, int] = {}
            before = None
            while found != before:
                before = found
                threading.Event().wait(0.15)
                found = {
                    lane: read_cursor(client, uid, lane)
                    for lane in ("g", "hits", "eiger", "pilatus")
                }
        finally:
            service.stop()
            thread.join()  # Two writers at once would give other duplicates.


@pytest.mark.parametrize("seed", [1, 2])
def test_a_publisher_that_dies_leaves_a_provisional_ledger(
    redis_url: str, tmp_path: Path, seed: int
) -> None:
    faults = evenly(0.08, die=1.0)
    plan = make_plan(seed, faults, n_points=110, n_frames=30)
    with FaultyScan(redis_url, plan, heartbeat_s=0.3) as scan:
        scan.send()
        injected = scan.end()

    assert write_once(redis_url, tmp_path) == VerdictWord.PARTIAL.exit_code

    verdict = verdict_of(redis_url, scan.uid)
    assert verdict.provisional
    found = dict(verdict.channels)
    for name, one in injected.channels.items():
        if not one.sealed:
            # A shared file ends when one of its lanes is full: more may be written.
            n_sent = one.expected - sum(stop - start for start, stop in one.missing)
            assert one.written <= found[name].written <= n_sent
            found[name] = found[name].model_copy(update={"written": one.written})
    assert_ledgers_equal(found, injected.channels)


def test_points_that_come_again_after_their_segment_was_published_are_named(
    redis_url: str, tmp_path: Path
) -> None:
    plan = make_plan(3, Faults(duplicate=1.0), n_points=110, n_frames=30)
    injected = {name: one.duplicate for name, one in plan.ledgers().items()}
    assert any(stop % 40 == 0 for _, stop in injected["th"])
    with FaultyScan(redis_url, plan) as scan:
        scan.send(len(plan.steps) // 2)
        _write_for_a_while(redis_url, tmp_path, scan.uid)
        scan.send()
        scan.end()

    assert write_once(redis_url, tmp_path) == 0

    found = verdict_of(redis_url, scan.uid).channels
    assert {name: one.duplicate for name, one in found.items()} == injected


def test_stalls_and_points_sorted_in_time_leave_no_trace(
    redis_url: str, tmp_path: Path
) -> None:
    # Two entries behind at most, and three are held back.
    plan = make_plan(5, Faults(stall=0.2, stall_s=0.001), n_points=60, n_frames=12)
    with FaultyScan(redis_url, plan) as scan:
        scan.send()
        assert scan.end().injected.keys() == {"stall"}

    assert write_once(redis_url, tmp_path) == 0


def test_the_same_seed_gives_the_same_faults() -> None:
    faults = evenly(0.1)
    first, second = (make_plan(11, faults) for _ in range(2))
    assert first.ledgers() == second.ledgers()
    assert first.injected() == second.injected()
    payloads = [[s.entry.payload for s in p.steps if s.entry] for p in (first, second)]
    assert payloads[0] == payloads[1]
    assert make_plan(12, faults).ledgers() != first.ledgers()


def test_every_fault_happens() -> None:
    faults = evenly(0.1, stall=0.05)
    assert set(make_plan(0, faults, n_points=500).injected()) == {
        *KINDS,
        "stall",
        "late",
    }


@pytest.mark.parametrize(
    ("rates", "what"),
    [
        ({"drop": 1.5}, "drop must be from 0 to 1"),
        ({"drop": 0.6, "gap": 0.6}, "together be at most 1"),
        ({"window": 0}, "window"),
    ],
)
def test_rates_that_cannot_be_are_refused(rates: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Faults(**rates)


def test_the_command_prints_the_ledger_as_json(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--points", "60", "--frames", "12", "--redis", redis_url]
    assert run(["simulate", "--seed", "7", "--json", *options]) == 0
    printed = json.loads(capsys.readouterr().out)

    write_once(redis_url, tmp_path)

    verdict = verdict_of(redis_url, printed["uid"])
    assert printed["channels"] == verdict.model_dump(mode="json")["channels"]


def test_the_command_prints_a_table(
    redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--points", "60", "--frames", "12", "--redis", redis_url]
    assert run(["simulate", "--corrupt", "0.5", *options]) == 0
    printed = capsys.readouterr().out
    assert "corrupt" in printed
    assert "pilatus" in printed


def test_the_command_refuses_rates_that_cannot_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["simulate", "--drop", "0.9", "--gap", "0.9"]) == 1
    assert "together be at most 1" in capsys.readouterr().err


def test_simulating_is_one_call(redis_url: str) -> None:
    injected = simulate(redis_url, 1, Faults(), n_points=5, n_frames=5)
    assert injected.injected == {}
    assert all(one.is_complete for one in injected.channels.values())
