"""One system on its own Redis, and the outcome of a scan after an accident."""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.peer.content import CHANNELS, N_POINTS
from benchmarks.peer.counting import Count, count
from benchmarks.peer.processes import OURS, Process, until
from benchmarks.peer.systems import Asked, Run, System, Word, begun
from scanbus.bus.store import connect
from scanbus.cli.private_redis import PrivateRedis

# A writer is taken as ready when it has written a scan of so many points.
WARM_UP_POINTS = 5
WARM_UP_S = 15.0
# After the publisher has ended, longer than both writers take for a scan of this size.
AFTERWARDS_S = 1.0
# First part of the id of the entry that ends a stream, on both systems.
SEAL = b"18446744073709551615-"


@dataclass(frozen=True)
class Outcome:
    """Outcome of one scan.

    Attributes
    ----------
    sent : int
        Points of all channels that the publisher's program had sent.
    count : Count
        Counts of the points in the file.
    n_in_redis : int
        Points of all channels that can still be read from Redis.
    word : str
        Verdict of the system; empty if there is none.
    publisher : str
        How the publisher's program ended.
    seconds : float
        From the scan's begin until the program had ended and the word was said; None
        if that did not come before the deadline.
    note : str
        Further observations.
    """

    sent: int
    count: Count
    n_in_redis: int
    word: str
    publisher: str
    seconds: float | None
    note: str


class Stage:
    """One run of one accident; a context manager that ends all it started.

    Parameters
    ----------
    system : System
        The system under test.
    folder : pathlib.Path
        Empty folder for files and logs.
    options : dict
        Options of Redis.
    """

    def __init__(
        self, system: System, folder: Path, options: dict[str, str | int]
    ) -> None:
        self.system = system
        self.folder = folder
        self.asked = Asked()
        self.note = ""
        self.publisher_was_killed = False
        self.is_provisional_enough = False
        self.writers: list[Process] = []
        self.publishers: list[Process] = []
        self._others: list[Process] = []
        self._stack = ExitStack()
        self.redis = PrivateRedis(options=options, config=system.redis_config, tcp=True)

    def __enter__(self) -> Self:
        self.redis = self._stack.enter_context(self.redis)
        (self.folder / "files").mkdir(parents=True)
        self.system.make_ready(self.url, self.folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in (*self.writers, *self.publishers, *self._others):
            if process.is_running:
                process.go_on()
                process.kill()
        self._stack.close()

    @property
    def url(self) -> str:
        """Address of its Redis; the same after restarts."""
        return self.redis.tcp_url

    @property
    def client(self) -> Any:
        """A connection to it; its answers are known better here than to its types."""
        return self._stack.enter_context(connect(self.redis.tcp_url, name="accidents"))

    @property
    def writer(self) -> Process:
        """The newest writer."""
        return self.writers[-1]

    @property
    def publisher(self) -> Process:
        """The newest publisher."""
        return self.publishers[-1]

    def enter(self, thing: Any) -> Any:
        """Keep a context manager open until the end."""
        return self._stack.enter_context(thing)

    def start_writer(self) -> None:
        """Start a writer that looks for scans."""
        name = f"writer{len(self.writers)}"
        self.writers.append(self.system.writer(self.url, self.folder, name))

    def start_warm_writer(self) -> None:
        """Start a writer and have it write a short scan into another dataset.

        Until the peer's writer has seen a first scan, it asks for those from now on,
        again and again, and does not see one that comes between.
        """
        self.start_writer()
        judged = self.asked
        for number in range(1, 6):
            self.asked = Asked("warmup", number, WARM_UP_POINTS)
            self.start_publisher()
            if self.settle(WARM_UP_S).word:
                break
        self.asked = judged

    def start_publisher(self, url: str = "") -> dict[str, Any]:
        """Start a publisher; return its message about its scan."""
        one = self.system.publisher(url or self.url, self.folder, self.asked)
        self.publishers.append(one)
        return begun(one)

    def start_reader(self) -> Process:
        """Start a reader and wait until it has read once."""
        command = [str(OURS), "-m", "benchmarks.peer.reader"]
        one = Process([*command, str(self.folder / "files")], self.folder / "reader")
        self._others.append(one)
        until(lambda: one.said("looked"), 20)
        return one

    def wait_sent(self, points: int) -> None:
        """Wait until this number of points of each channel was sent."""
        until(lambda: self._n_sent(self.publisher) >= points, 30)

    def _n_sent(self, publisher: Process) -> int:
        told = publisher.said("sent")
        return int(told[-1]["points"]) if told else 0

    def settle(self, deadline_s: float) -> Outcome:
        """Wait for the program's end and the system's verdict, until a deadline."""
        told = begun(self.publisher)
        started = told["at"]
        run = Run(self.url, self.folder, told["scan"], self.asked, self.writers)
        word = Word()
        while time.time() < started + deadline_s:
            word = self.system.word(run)
            if self._is_over(word):
                break
            time.sleep(0.1)
        is_over = self._is_over(word)
        seconds = time.time() - started
        if is_over:
            time.sleep(AFTERWARDS_S)
            word = self.system.word(run)
        return Outcome(
            sent=len(CHANNELS) * self._n_sent(self.publisher),
            count=count(self.system.file(run), f"{self.asked.number}.1", word.named),
            n_in_redis=self._n_in_redis(told["lanes"].values()),
            word=word.text,
            publisher=self._publisher_text(deadline_s),
            seconds=seconds if is_over else None,
            note=self.note,
        )

    def _n_in_redis(self, streams: Iterable[str]) -> int:
        # The bus's client gives fields and values as they come, one after the other.
        entries = [
            (stream_id, dict(zip(fields[::2], fields[1::2], strict=True)))
            for name in streams
            for stream_id, fields in self.client.xrange(name)
        ]
        return sum(
            self.system.n_points(one) for one in entries if not one[0].startswith(SEAL)
        )

    def _is_over(self, word: Word) -> bool:
        said = word.is_final or (self.is_provisional_enough and bool(word.text))
        return said and not self.publisher.is_running

    def _publisher_text(self, deadline_s: float) -> str:
        if self.publisher_was_killed:
            return "killed"
        steps: dict[str, list[str]] = {}
        for line in self.publisher.said("raised"):
            where = steps.setdefault(line["error"], [])
            where += [] if line["where"] in where else [line["where"]]
        texts = [f"{', '.join(where)}: {error}" for error, where in steps.items()]
        if self.publisher.is_running:
            n_sent = self._n_sent(self.publisher)
            until_then = "" if n_sent < N_POINTS else " after the last point"
            texts.append(f"had not ended{until_then} after {deadline_s:g} s")
        return "; ".join(texts) or "ended"
