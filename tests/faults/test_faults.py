"""Kill, pause, cut: nothing is lost, nothing is doubled, every verdict is true.

The seed is printed; ``FAULTS_SEED`` repeats a run. Beyond the run that covers every
failpoint and kind there is one at random, of ``FAULTS_COUNT`` faults in at most
``FAULTS_MINUTES`` minutes: `make test-faults FAULTS=500 MINUTES=30`.
"""

import itertools
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from scanbus.writer.steps import FAILPOINTS
from tests.faults.arena import play
from tests.faults.run import Limit, play_all, report, rows
from tests.faults.schedule import (
    KILLS_PER_FAILPOINT,
    Arena,
    Fault,
    Kind,
    Persistence,
    covering,
    endless,
)
from tests.support.clocks import NO_CLOCKS, FakeClock, clocks_can_jump

pytestmark = [pytest.mark.faults, pytest.mark.redis]

SEED_VARIABLE = "FAULTS_SEED"
LEAST_FAULTS = 60
RANDOM_FAULTS = int(os.environ.get("FAULTS_COUNT") or 100)
RANDOM_MINUTES = float(os.environ.get("FAULTS_MINUTES") or 10)


def chosen_seed() -> int:
    return int(os.environ.get(SEED_VARIABLE) or secrets.randbelow(2**32))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "is_short", [True, pytest.param(False, marks=pytest.mark.long)], ids=["CI", "all"]
)
def test_every_failpoint_and_every_kind_of_fault_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_short: bool
) -> None:
    seed = chosen_seed()
    clocks = clocks_can_jump()
    arenas = covering(seed, clocks=clocks, is_short=is_short)

    with capsys.disabled():
        say(f"\nfaults, seed {seed} (repeat with {SEED_VARIABLE}={seed})")
        if not clocks:
            say(NO_CLOCKS)
        outcomes = play_all(arenas, tmp_path, jobs=6, say=say)
        for line in report(outcomes):
            say(line)

    assert [line for each in outcomes for line in each.problems] == []
    table = rows(outcomes)
    for failpoint in FAILPOINTS:
        row = table[Kind.KILL_AT, failpoint]
        assert row.hits >= (1 if is_short else KILLS_PER_FAILPOINT)
        assert is_short or set(+row.by_persistence) == set(Persistence), failpoint
    hit = [
        (kind, persistence)
        for (kind, _), row in table.items()
        for persistence in +row.by_persistence
    ]
    assert set(hit) == pairs(arenas)
    assert sum(row.hits for row in table.values()) >= LEAST_FAULTS
    assert all(outcome.is_clean for outcome in outcomes)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(60 * RANDOM_MINUTES + 300)
def test_faults_at_random_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = chosen_seed()
    limit = Limit(RANDOM_FAULTS, RANDOM_MINUTES)
    arenas = limit.within(endless(seed, clocks=clocks_can_jump()))

    with capsys.disabled():
        say(f"\nfaults at random, seed {seed} (repeat with {SEED_VARIABLE}={seed})")
        outcomes = play_all(arenas, tmp_path, jobs=6, is_over=limit.is_over, say=say)
        for line in report(outcomes):
            say(line)

    assert [line for each in outcomes for line in each.problems] == []
    assert sum(row.hits for row in rows(outcomes).values()) > 0
    assert all(outcome.is_clean for outcome in outcomes)


def test_the_same_seed_gives_the_same_faults() -> None:
    assert covering(7) == covering(7)
    assert covering(7) != covering(8)
    first, again = (list(itertools.islice(endless(7), 9)) for _ in range(2))
    assert first == again


def pairs(arenas: Iterable[Arena]) -> set[tuple[Kind, Persistence]]:
    """Which kinds of faults happen under which persistence."""
    return {(fault.kind, each.persistence) for each in arenas for fault in each.faults}


def kills_of(arenas: Iterable[Arena]) -> Counter[tuple[str, Persistence]]:
    """At which failpoints the writer is killed, under which persistence."""
    return Counter(
        (fault.failpoint, each.persistence)
        for each in arenas
        for fault in each.faults
        if fault.kind is Kind.KILL_AT
    )


@pytest.mark.parametrize("is_short", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_a_covering_run_has_every_failpoint_and_every_kind(
    seed: int, *, is_short: bool
) -> None:
    arenas = covering(seed, is_short=is_short)
    kills = kills_of(arenas)

    if is_short:
        assert Counter(name for name, _ in kills.elements()) == Counter(FAILPOINTS)
    else:
        assert set(kills) == set(itertools.product(FAILPOINTS, Persistence))
        assert kills.total() == KILLS_PER_FAILPOINT * len(FAILPOINTS)
    assert pairs(arenas) == set(itertools.product(Kind, Persistence))
    without_clocks = pairs(covering(seed, clocks=False, is_short=is_short))
    assert {kind for kind, _ in pairs(arenas) - without_clocks} == {Kind.CLOCK}


def test_the_runs_of_ci_kill_at_every_failpoint_under_every_persistence() -> None:
    kills = {
        each for seed in range(40) for each in kills_of(covering(seed, is_short=True))
    }

    assert kills == set(itertools.product(FAILPOINTS, Persistence))


def test_a_long_run_does_every_kind_under_every_persistence() -> None:
    assert pairs(itertools.islice(endless(7), 60)) == pairs(covering(7))


def test_a_fake_clock_jumps_and_a_monotonic_one_does_not(tmp_path: Path) -> None:
    if not clocks_can_jump():
        pytest.skip(NO_CLOCKS)
    clock = FakeClock(tmp_path, "clock")
    clock.jump(-86400)
    script = "import time; print(time.time(), time.monotonic()); time.sleep(0.1)"
    environment = {**os.environ, **clock.environment}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    wall_s, monotonic_s = map(float, done.stdout.split())
    assert wall_s == pytest.approx(time.time() - 86400, abs=60)
    assert monotonic_s == pytest.approx(time.monotonic(), abs=60)


def arena(*faults: Fault, trims: bool = False) -> Arena:
    return Arena(11, Persistence.NONE, 60, trims, faults)


# What each mutant does wrong must lead to loss where its faults hit.
KILLED_BEFORE_CLOSE = tuple(Fault(Kind.KILL_AT, "close.before", hit) for hit in (3, 5))
TRIES = 4
REDIS_EMPTY = (Fault(Kind.KILL_REDIS, after_s=0.5, for_s=0.1),) * 2


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("writer", "publisher", "faults"),
    [
        ("early-acknowledge", "", KILLED_BEFORE_CLOSE),
        ("", "no-resend", REDIS_EMPTY),
    ],
    ids=["acknowledge before close", "no re-send"],
)
def test_a_broken_writer_or_publisher_is_caught(
    tmp_path: Path, writer: str, publisher: str, faults: tuple[Fault, ...]
) -> None:
    # Whether the damage is done hangs on which of two processes is faster; a broken
    # one that is never caught in some tries is not caught.
    for attempt in range(TRIES):
        outcome = play(
            arena(*faults, trims=True),
            tmp_path / f"mutant-{attempt}",
            writer_mutant=writer,
            publisher_mutant=publisher,
            end_s=20,
        )
        assert len(outcome.played) == len(faults), outcome.problems
        assert all(played.was_hit for played in outcome.played)
        findings = outcome.findings.values()
        if sum(one.lost + one.doubled + one.wrong_verdicts for one in findings):
            return
    pytest.fail(f"not caught in {TRIES} tries")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_points_that_stood_on_redis_when_their_publisher_died_must_be_in_the_files(
    tmp_path: Path,
) -> None:
    killed = Fault(Kind.KILL_PUBLISHER, after_s=0.3)

    outcome = play(arena(killed), tmp_path / "arena", writer_mutant="hasty")

    assert outcome.n_interrupted
    assert sum(one.lost for one in outcome.findings.values())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_publisher_that_gives_up_though_redis_is_there_is_caught(
    tmp_path: Path,
) -> None:
    late = Fault(Kind.TERM_WRITER, after_s=1.5)

    outcome = play(arena(late), tmp_path / "arena", publisher_mutant="impatient")

    assert any("gave scan 2 up" in problem for problem in outcome.problems)
    assert any("scan 3 was refused" in problem for problem in outcome.problems)
    assert outcome.n_refused
    # What it had sent before is safe all the same.
    assert all(one.is_clean for one in outcome.findings.values()), outcome.findings


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "faults",
    [KILLED_BEFORE_CLOSE, REDIS_EMPTY],
    ids=["acknowledge before close", "no re-send"],
)
def test_what_catches_the_broken_ones_does_no_harm_to_the_sound_ones(
    tmp_path: Path, faults: tuple[Fault, ...]
) -> None:
    outcome = play(arena(*faults, trims=True), tmp_path / "sound")

    assert outcome.problems == []
    assert outcome.is_clean, outcome.findings
