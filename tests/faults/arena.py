"""One arena: a Redis, a publisher, writers, and the faults that are put upon them."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from scanbus.cli.private_redis import PrivateRedis, find_redis_server
from tests.faults.content import CHANNELS, n_points, scan_uid
from tests.faults.judge import Claim, Finding, judge_run
from tests.faults.processes import STOP_S, PublisherProcess, WriterProcess, until
from tests.faults.schedule import VICTIMS, Arena, Fault, Kind, Persistence
from tests.faults.witness import Outages, Witness
from tests.support.clocks import FakeClock
from tests.support.proxy import Proxy
from tests.support.roots import made_root

__all__ = ["Outcome", "Played", "play"]

# Long: the machine that runs this may have other things to do.
REACH_S = 90.0
END_S = 150.0
LEAVE_S = STOP_S + 10.0
# Acknowledged data go at once where Redis is said to be so small.
SMALL_MEMORY, LARGE_MEMORY = 2 * 2**20, 2**30
OPTIONS: dict[Persistence, dict[str, str | int]] = {
    Persistence.ALWAYS: {"appendonly": "yes", "appendfsync": "always"},
    Persistence.EVERYSEC: {"appendonly": "yes", "appendfsync": "everysec"},
    Persistence.NONE: {},
}


@dataclass(frozen=True)
class Played:
    """One fault that was put upon an arena.

    Attributes
    ----------
    scans : frozenset of int
        Those that were under way.
    was_hit : bool
        Whether it came to it.
    """

    fault: Fault
    scans: frozenset[int]
    was_hit: bool


@dataclass
class Outcome:
    """What became of an arena.

    Attributes
    ----------
    n_refused : int
        Scans whose program was told at their begin that there is no bus.
    n_interrupted : int
        Scans that were under way when their publisher was killed.
    """

    arena: Arena
    played: list[Played] = field(default_factory=list)
    findings: dict[int, Finding] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    passes: dict[str, int] = field(default_factory=dict)
    n_refused: int = 0
    n_interrupted: int = 0
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not self.problems and all(f.is_clean for f in self.findings.values())


def play(
    arena: Arena,
    folder: Path,
    *,
    writer_mutant: str = "",
    publisher_mutant: str = "",
    end_s: float = END_S,
    is_over: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run one arena to its end and have its files judged."""
    started = time.monotonic()
    with _Ring(arena, folder, writer_mutant, publisher_mutant, end_s) as ring:
        outcome = ring.run(is_over)
    outcome.seconds = time.monotonic() - started
    if outcome.is_clean:
        shutil.rmtree(folder)
    return outcome


class _Ring:
    """The processes of one arena."""

    def __init__(
        self,
        arena: Arena,
        folder: Path,
        writer_mutant: str,
        publisher_mutant: str,
        end_s: float,
    ) -> None:
        self._arena = arena
        self._folder = folder
        self._root = folder / "files"
        self._writer_mutant = writer_mutant
        self._publisher_mutant = publisher_mutant
        self._end_s = end_s
        self._outcome = Outcome(arena)
        self._stack = ExitStack()
        self._writers: list[WriterProcess] = []
        self._publisher: PublisherProcess | None = None
        self._was_killed = self._must_salvage = False
        self._spool = folder / "spool" if arena.has_spool else None
        self._outages = Outages()
        # Of scans whose publisher did not come to their end.
        self._left: dict[int, Claim] = {}

    def __enter__(self) -> "_Ring":
        made_root(self._root)
        self._clocks: dict[str, FakeClock] = {}
        if self._arena.has_clocks:
            for who in VICTIMS:
                self._clocks[who] = FakeClock(self._folder, f"clock-{who}")
        options = OPTIONS[self._arena.persistence]
        clock = self._clocks.get("redis")
        binary = clock.program(find_redis_server()) if clock else None
        self._redis = self._stack.enter_context(
            PrivateRedis(options=options, tcp=True, binary=binary)
        )
        self._witness = Witness(self._redis.url, self._arena.seed)
        self._proxies: dict[str, Proxy] = {}
        if self._arena.has_network:
            port = int(self._redis.tcp_url.rpartition(":")[2])
            for who in ("writer", "publisher"):
                self._proxies[who] = self._stack.enter_context(Proxy(port))
        return self

    def __exit__(self, *_: object) -> None:
        processes = [*self._writers, *([self._publisher] if self._publisher else [])]
        for process in processes:
            process.kill()
        self._stack.close()

    # ------------------------------------------------------------ processes

    def _url(self, who: str) -> str:
        proxy = self._proxies.get(who)
        if proxy is None:
            return self._redis.url
        # Silence is noticed after this: the default would make the tests long.
        return f"redis://127.0.0.1:{proxy.port}/0?socket_timeout=2"

    def _environment(self, who: str) -> dict[str, str]:
        clock = self._clocks.get(who)
        return clock.environment if clock else {}

    def _new_writer(self, failpoints: str = "") -> WriterProcess:
        writer = WriterProcess(
            self._url("writer"),
            self._root,
            self._folder,
            f"writer-{len(self._writers)}",
            failpoints=failpoints,
            memory_bytes=SMALL_MEMORY if self._arena.trims else LARGE_MEMORY,
            mutant=self._writer_mutant,
            environment=self._environment("writer"),
        )
        self._writers.append(writer)
        return writer

    @property
    def _writer(self) -> WriterProcess:
        """The writer that is at work."""
        if not self._writers or not self._writers[-1].is_running:
            self._new_writer()
            until(lambda: self._writers[-1].is_ready, REACH_S)
        return self._writers[-1]

    def _armed_writer(self, fault: Fault, action: str) -> WriterProcess:
        """A writer with a trap, in the place of whoever is at work."""
        self._dismiss_writers()
        return self._new_writer(f"{fault.failpoint}={action}@{fault.hit}")

    def _dismiss_writers(self) -> None:
        for writer in self._writers:
            if writer.is_running:
                took_s = writer.leave()
                if took_s > LEAVE_S:
                    self._complain(f"{writer.name} left after {took_s:.1f} s")

    def _start_publisher(self, first: int = 1) -> PublisherProcess:
        return PublisherProcess(
            self._url("publisher"),
            self._folder,
            seed=self._arena.seed,
            length=self._arena.length,
            first=first,
            spool=self._spool,
            mutant=self._publisher_mutant,
            environment=self._environment("publisher"),
        )

    def _complain(self, text: str) -> None:
        self._outcome.problems.append(text)

    # ------------------------------------------------------------------ run

    def run(self, is_over: Callable[[], bool]) -> Outcome:
        """Do one fault after the other; then let all come to its end."""
        assert self._writer.is_running
        self._publisher = publisher = self._start_publisher()
        if not until(lambda: publisher.said("judged"), REACH_S):
            self._complain(
                f"the undisturbed scan has no verdict {publisher.log_tail()}"
            )
            return self._outcome
        for fault in self._arena.faults:
            if is_over():
                break
            publisher = self._publisher
            scans = frozenset(publisher.unjudged)
            was_hit = self._inject(fault, publisher)
            if not was_hit:
                self._complain(f"never came to it: {fault}")
            touched = scans | self._publisher.unjudged
            self._outcome.played.append(Played(fault, frozenset(touched), was_hit))
        publisher = self._publisher
        self._settle(publisher)
        self._note_given_up(publisher)
        self._outcome.findings = judge_run(
            self._root, self._arena.seed, self._arena.length, self._claims(publisher)
        )
        self._count_passes()
        return self._outcome

    def _inject(self, fault: Fault, publisher: PublisherProcess) -> bool:
        """Do what the fault says; return whether it came to it."""
        if not publisher.is_running:
            return False
        if fault.failpoint:
            was_hit = self._inject_at(fault, publisher)
        elif fault.kind in (Kind.CUT, Kind.SLOW, Kind.HALF_OPEN):
            was_hit = self._disturb_network(fault)
        else:
            was_hit = self._strike(fault, publisher)
        return was_hit

    def _inject_at(self, fault: Fault, publisher: PublisherProcess) -> bool:
        match fault.kind:
            case Kind.KILL_AT:
                return self._kill_at(fault)
            case Kind.STOP_AT:
                return self._stop_at(fault, publisher)
            case Kind.REDIS_AT:
                return self._kill_redis_at(fault)
            case Kind.RAISE_AT:
                writer = self._armed_writer(fault, f"raise={fault.value}")
            case _:
                writer = self._armed_writer(fault, f"delay={fault.for_s}")
        was_hit = until(lambda: writer.was_hit, REACH_S)
        time.sleep(fault.for_s)
        return was_hit

    def _kill_redis_at(self, fault: Fault) -> bool:
        """Kill Redis while the writer stands still, and let both go on."""
        writer = self._armed_writer(fault, "stop")
        was_hit = until(lambda: writer.was_hit, REACH_S)
        self._restart_redis()
        writer.signal(signal.SIGCONT)
        return was_hit

    def _restart_redis(self, after_s: float = 0.0) -> None:
        with self._outages.during():
            self._redis.kill()
            time.sleep(after_s)
            self._redis.start()

    def _kill_at(self, fault: Fault) -> bool:
        """Kill a worker, whose service lives on; the service itself where it trims."""
        writer = self._armed_writer(fault, "kill")
        dies = fault.failpoint.startswith("trim.") or self._writer_mutant
        until(lambda: writer.was_hit, REACH_S)
        if dies:
            return until(lambda: not writer.is_running, REACH_S)
        is_replaced = until(lambda: '"worker_died"' in writer.said, REACH_S)
        return is_replaced and writer.is_running

    def _stop_at(self, fault: Fault, publisher: PublisherProcess) -> bool:
        """Pause a writer, let a successor finish its scans, wake it up again."""
        paused = self._armed_writer(fault, "stop")
        if not until(lambda: paused.was_hit, REACH_S):
            return False
        scans = publisher.unjudged
        successor = self._new_writer()
        until(lambda: not scans & publisher.unjudged, REACH_S)
        paused.signal(signal.SIGCONT)
        time.sleep(0.5)
        if not paused.is_running:
            self._complain(f"{paused.name} died when it woke up: {paused.log_tail()}")
        elif (took_s := paused.leave()) > LEAVE_S:
            self._complain(f"{paused.name} left after {took_s:.1f} s")
        return successor.is_running

    def _disturb_network(self, fault: Fault) -> bool:
        assert self._writer.is_running
        time.sleep(fault.after_s)
        proxy = self._proxies[fault.victim]
        with ExitStack() as stack:
            if fault.victim == "publisher" and fault.kind is not Kind.SLOW:
                stack.enter_context(self._outages.during())
            match fault.kind:
                case Kind.CUT:
                    proxy.cut()
                case Kind.SLOW:
                    proxy.slow(0.05)
                case _:
                    proxy.half_open()
            time.sleep(fault.for_s)
            proxy.heal()
        return True

    def _strike(self, fault: Fault, publisher: PublisherProcess) -> bool:
        writer = self._writer
        if fault.kind in (Kind.KILL_PUBLISHER, Kind.KILL_ALL):
            return self._kill_publisher(fault, publisher)
        if fault.kind is Kind.KILL_SOURCE:
            return self._kill_source(fault, publisher)
        time.sleep(fault.after_s)
        if fault.kind is Kind.CLOCK:
            self._clocks[fault.victim].jump(int(fault.value))
            time.sleep(fault.for_s)
            return True
        if fault.kind is Kind.TERM_WRITER:
            self._dismiss_writers()
            return True
        if fault.kind in (Kind.KILL_WRITER, Kind.KILL_BOTH):
            writer.kill()
        if fault.kind in (Kind.KILL_REDIS, Kind.KILL_BOTH):
            self._restart_redis(fault.for_s)
        return True

    def _kill_publisher(self, fault: Fault, publisher: PublisherProcess) -> bool:
        """Kill the publisher when it has begun another scan, and have its scans closed.

        Closed, because the files of an interrupted scan hold whole segments only.
        """
        before = set(publisher.said("begun"))
        until(lambda: set(publisher.said("begun")) - before, REACH_S)
        time.sleep(fault.after_s)
        publisher.kill()
        self._was_killed = True
        witness, scans = self._witness, publisher.unjudged
        self._outcome.n_interrupted = len(scans)
        stood, durable = witness.points_on_redis(scans), {}
        if fault.kind is Kind.KILL_ALL:
            durable = witness.points_on_redis(scans, durable=True)
            self._restart_redis(fault.for_s)
        if self._arena.persistence is not Persistence.ALWAYS:
            # What Redis has forgotten, now or just before, is salvaged in the end.
            came_back = witness.points_on_redis(scans)
            self._must_salvage = not scans <= set(came_back)
            stood, scans = durable | came_back, set(came_back)
        self._left |= stood
        witness.declare_dead(scans)
        if not until(lambda: witness.are_judged(scans, finally_=False), REACH_S):
            self._complain("no verdict on a scan whose publisher was killed")
            return True
        witness.close(scans)
        if not until(lambda: witness.are_judged(scans), REACH_S):
            self._complain("no final verdict on a scan that was closed")
        return True

    def _kill_source(self, fault: Fault, publisher: PublisherProcess) -> bool:
        """Kill publisher and Redis; have what stood in the spool sent on."""
        before = set(publisher.said("flushed"))
        until(lambda: set(publisher.said("flushed")) - before, REACH_S)
        time.sleep(fault.for_s / 2)
        publisher.kill()
        self._restart_redis()
        flushed = publisher.said("flushed")
        scans = publisher.unjudged
        for number in scans:
            self._left[number] = _left(flushed.get(number, {}).get("points", 0))
        # It heard of a verdict when its spool is gone, though it had no time to say so;
        # Redis may have forgotten it now.
        waiting = {number for number in scans if self._has_spool(number)}
        if fault.value == "command":
            self._resume()
        first = max(publisher.said("opening")) + 1
        self._publisher = self._start_publisher(first)
        self._publisher.left = set(self._left)
        # A program that starts while Redis is away would end at once.
        until(lambda: first in publisher.said("opening"), REACH_S)
        if not until(lambda: self._witness.are_judged(waiting), REACH_S):
            self._complain(f"no final verdict on scans of the spool: {waiting}")
        return bool(scans)

    def _has_spool(self, number: int) -> bool:
        assert self._spool is not None
        return (self._spool / scan_uid(self._arena.seed, number)).exists()

    def _resume(self) -> None:
        given = ["--redis", self._url("publisher"), "--spool", str(self._spool)]
        self._run("publish", "resume", *given, "--timeout-s", str(REACH_S))

    def _run(self, *given: str) -> None:
        """Run a command of scanbus that may find scans to be partial."""
        command = [sys.executable, "-m", "scanbus.cli", *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in {0, 2}:
            self._complain(f"{given}: {done.returncode} {done.stderr[-400:]}")

    def _settle(self, publisher: PublisherProcess) -> None:
        """Heal everything and wait until the publisher has all its verdicts."""
        assert self._writer.is_running
        if not self._was_killed:
            publisher.end()  # One that died is complained of below.
            until(lambda: not publisher.is_running or self._has_failed(), self._end_s)
            if publisher.is_running:
                self._complain(f"{publisher.name} waits still: {publisher.log_tail()}")
            elif publisher.process.returncode:
                self._complain(f"{publisher.name} failed: {publisher.log_tail()}")
        self._dismiss_writers()
        if self._must_salvage:
            self._run("salvage", "--force", "--root", str(self._root))
        for writer in self._writers:
            if writer.has_failed:
                self._complain(f"{writer.name} failed: {writer.log_tail()}")

    def _has_failed(self) -> bool:
        return any(writer.has_failed for writer in self._writers)

    def _claims(self, publisher: PublisherProcess) -> dict[int, Claim]:
        judged, sent = publisher.said("judged"), publisher.said("sent")
        self._check_refusals(publisher)
        opened = publisher.said("opening")
        claims = {number: Claim(False, never_began=True) for number in opened}
        for number in publisher.said("begun"):
            word = judged.get(number, {}).get("verdict", "")
            ended = number in (judged if self._was_killed else sent)
            claims[number] = replace(
                self._left.get(number, Claim(ended)),
                said=word or self._witness.verdicts.get(number, ""),
            )
        return claims

    def _check_refusals(self, publisher: PublisherProcess) -> None:
        """Only while Redis was away may a program be told that there is no bus."""
        refused = publisher.said("refused")
        self._outcome.n_refused = len(refused)
        for number, line in refused.items():
            if not self._outages.explain(line["at"]):
                self._complain(f"scan {number} was refused: {line['reason']}")

    def _note_given_up(self, publisher: PublisherProcess) -> None:
        """No fault lasts as long as a publisher's patience with a scan that began."""
        for number, line in publisher.said("gave_up").items():
            self._complain(f"the publisher gave scan {number} up: {line['reason']}")
            self._left.setdefault(number, _left(line["points"]))
        for number, line in publisher.said("lost").items():
            self._complain(f"nobody waits for scan {number}: {line['reason']}")

    def _count_passes(self) -> None:
        passes = self._outcome.passes
        for writer in self._writers:
            for line in writer.hits:
                name, count, kind = line.split()
                if kind == "passed":
                    passes[name] = passes.get(name, 0) + int(count)


def _left(n_points_sent: int) -> Claim:
    """What must be there of a scan that did not come to its end."""
    least = {channel: n_points(n_points_sent, channel) for channel in CHANNELS}
    return Claim(ended=False, least=least)
