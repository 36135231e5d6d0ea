"""Whoever dies while scans grow, no reader sees a wrong, a shorter or an empty one."""

import itertools
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from scanbus.writer import check_files
from tests.conftest import RedisFactory
from tests.faults.content import CHANNELS, n_points, scan_uid
from tests.faults.onlooker import Onlooker
from tests.faults.processes import PublisherProcess, WriterProcess, until
from tests.faults.witness import Witness
from tests.support.roots import made_root

pytestmark = [pytest.mark.faults, pytest.mark.redis]
LENGTH = 160
LIMIT_S = 180.0
# Of what a hundred scans have left, on a busy machine.
END_S = 900.0


class Programs:
    """Publishers with a scan at a time each; one that is killed has a successor."""

    def __init__(self, url: str, folder: Path, n_programs: int) -> None:
        self._url = url
        self._folder = folder
        self._witnesses = [Witness(url, seed) for seed in range(1, n_programs + 1)]
        self._first = [1] * n_programs
        self._running = [self._start(place) for place in range(n_programs)]
        self.least: dict[str, dict[str, int]] = {}
        """Points that stood on Redis of scans whose publisher was killed."""

    def _start(self, place: int) -> PublisherProcess:
        folder = self._folder / f"p{place}"
        folder.mkdir(exist_ok=True)
        seed, first = place + 1, self._first[place]
        return PublisherProcess(
            self._url, folder, seed=seed, length=LENGTH, first=first
        )

    @property
    def begun(self) -> dict[str, bool]:
        """Uid of each scan that has begun; whether it was sent to its end."""
        found: dict[str, bool] = {}
        for place, one in enumerate(self._running):
            sent = one.said("sent")
            for number in one.said("begun"):
                found[scan_uid(place + 1, number)] = number in sent
        return found

    def kill(self, place: int) -> bool:
        """Kill a publisher that has begun a scan; return whether it has."""
        one, witness = self._running[place], self._witnesses[place]
        if self._first[place] not in one.said("begun"):
            return False
        one.kill()
        numbers = [*one.said("opening")]
        ended = {*one.said("judged")}
        left = [number for number in numbers if number not in ended]
        for number, claim in witness.points_on_redis(left).items():
            full = {name: n_points(LENGTH, name) for name in CHANNELS}
            least = full if claim.ended else dict(claim.least or {})
            self.least[scan_uid(place + 1, number)] = least
        witness.declare_dead(left)
        self._first[place] = max(numbers, default=0) + 1
        self._running[place] = self._start(place)
        return True

    def are_over(self, onlooker: Onlooker) -> bool:
        """Whether the final master of each scan was read."""
        seen = onlooker.seen
        return all(uid in seen and seen[uid].is_over for uid in self.begun)

    def end(self) -> None:
        for one in self._running:
            one.end()
        assert until(lambda: not any(one.is_running for one in self._running), END_S)

    def close(self) -> None:
        for one in self._running:
            one.kill()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("copied_bytes", [2**26, 3000])
@pytest.mark.parametrize(
    ("n_scans", "n_programs"),
    [(6, 3), pytest.param(100, 4, marks=pytest.mark.long)],
)
def test_no_death_shows_a_reader_what_is_not_so(
    redis_factory: RedisFactory,
    tmp_path: Path,
    n_scans: int,
    n_programs: int,
    copied_bytes: int,
) -> None:
    url = redis_factory().url
    root = made_root(tmp_path / "files")
    chance = random.Random(n_scans + copied_bytes)
    settings = {
        "SCANBUS_COPIED_BYTES": str(copied_bytes),
        "SCANBUS_GRACE_S": "600",
        # All that may be trimmed is.
        "SCANBUS_WATERMARK": "1e-6",
    }

    names = (f"writer{number}" for number in itertools.count())

    def started() -> WriterProcess:
        one = WriterProcess(url, root, tmp_path, next(names), environment=settings)
        # On a busy machine some would never write anything.
        assert until(lambda: one.is_ready, LIMIT_S), one.log_tail()
        return one

    onlooker = Onlooker(url, root)
    programs = Programs(url, tmp_path, n_programs)
    kills: Counter[str] = Counter()
    one = started()
    try:
        with onlooker.looking():
            while len(programs.begun) < n_scans and onlooker.fault is None:
                time.sleep(chance.uniform(0.5, 4.0))
                if chance.random() < 0.6:
                    one.kill()
                    one = started()
                    kills["writers"] += 1
                elif programs.kill(chance.randrange(n_programs)):
                    kills["publishers"] += 1
            # The last one has all that the killed ones left: its leases may not lapse
            # while a busy machine looks after so many scans.
            one.kill()
            settings["SCANBUS_LEASE_S"] = "10"
            one = started()
            programs.end()
            until(lambda: onlooker.fault or programs.are_over(onlooker), END_S)
    finally:
        programs.close()
        one.kill()
    begun = programs.begun
    sys.stdout.write(
        f"{len(begun)} scans, killed {dict(kills)}, {onlooker.n_masters} masters, "
        f"{dict(onlooker.counts)}\n"
    )
    assert programs.are_over(onlooker)
    whole = {name: n_points(LENGTH, name) for name in CHANNELS}
    for uid, was_sent in begun.items():
        lengths = onlooker.seen[uid].lengths
        least = programs.least.get(uid, whole if was_sent else {})
        less = {name for name, n in least.items() if lengths.get(name, 0) < n}
        assert not less, uid
    assert onlooker.counts["promised"]
    report = check_files([root])
    assert report.ok, report.findings
