"""The accidents, each the same on both systems."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.peer.content import COUNTERS
from benchmarks.peer.damage import DamagingProxy
from benchmarks.peer.stage import Stage
from benchmarks.peer.systems import Asked

EARLY, MIDDLE, LATER = 40, 80, 140
REDIS_AWAY_S = 2.0
FULL_S = 3.0


@dataclass(frozen=True)
class Accident:
    """One accident.

    Attributes
    ----------
    title : str
        Short description.
    story : str
        Exact description.
    play : callable
        Performs it; returns when only waiting remains.
    deadline_s : float
        Longest wait in seconds, from the start of the scan.
    redis_options : dict
        Options of the server.
    """

    title: str
    story: str
    play: Callable[[Stage], None]
    deadline_s: float = 60.0
    redis_options: dict[str, str | int] = field(default_factory=dict)


def nothing(stage: Stage) -> None:
    stage.start_warm_writer()
    stage.start_publisher()


def no_writer_at_the_start(stage: Stage) -> None:
    stage.start_publisher()
    stage.wait_sent(EARLY)
    stage.start_writer()


def writer_killed(stage: Stage) -> None:
    stage.start_warm_writer()
    stage.start_publisher()
    stage.wait_sent(MIDDLE)
    stage.writer.kill()
    time.sleep(1.0)
    stage.start_writer()


def reader_holds_files(stage: Stage) -> None:
    stage.start_warm_writer()
    stage.start_publisher()
    stage.settle(30)
    reader = stage.start_reader()
    stage.asked = Asked(number=2)
    stage.start_publisher()
    stage.wait_sent(LATER)
    n_held = reader.said("looked")[-1]["held"]
    n_refused = len(reader.said("refused"))
    stage.note = f"the reader held {n_held} files open and was refused {n_refused}"


def points_trimmed(stage: Stage) -> None:
    stage.start_warm_writer()
    lanes = stage.start_publisher()["lanes"]
    stage.wait_sent(EARLY)
    stage.writer.pause()
    stage.wait_sent(LATER)
    trimmed = f"{LATER - 20}-0"
    lane = lanes[COUNTERS[0]]
    dropped = stage.client.xtrim(lane, minid=trimmed, approximate=False)
    stage.writer.go_on()
    stage.note = f"{dropped} entries of one counter were trimmed"


def redis_killed(stage: Stage) -> None:
    stage.start_warm_writer()
    stage.start_publisher()
    stage.wait_sent(MIDDLE)
    stage.redis.kill()
    time.sleep(REDIS_AWAY_S)
    stage.redis.restart()
    stage.system.make_ready(stage.url, stage.folder)


def redis_full(stage: Stage) -> None:
    stage.start_warm_writer()
    stage.start_publisher()
    stage.wait_sent(MIDDLE)
    before = stage.client.config_get("maxmemory")["maxmemory"]
    stage.client.config_set("maxmemory", "1mb")
    time.sleep(FULL_S)
    stage.client.config_set("maxmemory", before)


def publisher_killed(stage: Stage) -> None:
    stage.start_warm_writer()
    stage.start_publisher()
    stage.wait_sent(MIDDLE)
    stage.publisher.kill()
    stage.publisher_was_killed = True
    stage.is_provisional_enough = True


def value_damaged(stage: Stage) -> None:
    stage.start_warm_writer()
    port = int(stage.url.rpartition(":")[2])
    proxy = DamagingProxy(port, COUNTERS[1], range(MIDDLE, LATER))
    stage.enter(proxy)
    stage.start_publisher(proxy.url)
    stage.wait_sent(LATER)
    stage.note = f"{proxy.n_damaged} value was damaged"


ACCIDENTS = (
    Accident("none", "Nothing happens to the scan.", nothing),
    Accident(
        "writer not running when the scan starts",
        f"The writer is started when {EARLY} of 200 points have been sent.",
        no_writer_at_the_start,
    ),
    Accident(
        "writer killed",
        f"SIGKILL after {MIDDLE} points; another writer is started 1 s later.",
        writer_killed,
    ),
    Accident(
        "a reader holds the files",
        "After a first scan into the same dataset, a reader opens every HDF5 file "
        "that it sees with h5py's default locking and keeps it open; then the judged "
        "scan starts.",
        reader_holds_files,
    ),
    Accident(
        "points trimmed before the writer read them",
        f"The writer is paused (SIGSTOP) from point {EARLY} to {LATER}; meanwhile the "
        f"stream of one counter is trimmed (`XTRIM MINID`) up to point {LATER - 20}.",
        points_trimmed,
    ),
    Accident(
        "Redis killed, restarts empty",
        f"SIGKILL after {MIDDLE} points; an empty one is started {REDIS_AWAY_S:g} s "
        "later at the same address (and, for the peer, initialised). The publisher "
        "continues to send.",
        redis_killed,
    ),
    Accident(
        "Redis at maxmemory",
        f"After {MIDDLE} points `maxmemory` is set below the used memory for "
        f"{FULL_S:g} s: every write is refused, as if another client fills it.",
        redis_full,
        redis_options={"maxmemory": "256mb", "maxmemory-policy": "noeviction"},
    ),
    Accident(
        "publisher killed",
        f"SIGKILL after {MIDDLE} points; it does not return. The points that scanbus "
        "names as missing are on the bus ([how such a scan is closed]"
        "(how-to/when-a-scan-is-not-complete.md#interrupted)); the peer's writer keeps "
        "less than 1 MiB of a stream in memory for 180 s.",
        publisher_killed,
        deadline_s=200.0,
    ),
    Accident(
        "a value damaged in transit",
        "A proxy between publisher and Redis flips one bit of one counter's value.",
        value_damaged,
    ),
)
