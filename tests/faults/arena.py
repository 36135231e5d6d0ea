"""One arena: a Redis, a publisher, writers, and the faults that are put upon them."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from scanbus.cli.private_redis import PrivateRedis, find_redis_server
from tests.faults.claims import claims_of, failed_scans, left_after, note_given_up
from tests.faults.closings import take_numbers
from tests.faults.content import scan_uid
from tests.faults.injuries import INJURIES
from tests.faults.judge import Claim, judge_run
from tests.faults.loss_operator import LossOperator
from tests.faults.outcome import Outcome, Played
from tests.faults.processes import STOP_S, PublisherProcess, WriterProcess, until
from tests.faults.schedule import VICTIMS, Arena, Fault, Kind, Persistence
from tests.faults.told import told_of
from tests.faults.witness import Outages, Witness
from tests.support.clocks import FakeClock
from tests.support.proxy import Proxy
from tests.support.redis_proxy import RedisProxy
from tests.support.roots import made_root

__all__ = ["Outcome", "Played", "play"]

# Long: the machine that runs this may have other things to do.
REACH_S = 90.0
END_S = 150.0
_HAS_ALL = "It has all points that were sent here"
LEAVE_S = STOP_S + 10.0
# Looks for a failpoint that is not come to, within `REACH_S`.
_LOOKS = 9
# Of the durations of faults, half are longer.
LONG_S = 0.65
# Acknowledged data go at once where Redis is said to be so small.
SMALL_MEMORY, LARGE_MEMORY = 2 * 2**20, 2**30
OPTIONS: dict[Persistence, dict[str, str | int]] = {
    Persistence.ALWAYS: {"appendonly": "yes", "appendfsync": "always"},
    Persistence.EVERYSEC: {"appendonly": "yes", "appendfsync": "everysec"},
    Persistence.NONE: {},
}


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
    with Ring(arena, folder, writer_mutant, publisher_mutant, end_s) as ring:
        outcome = ring.run(is_over)
    outcome.seconds = time.monotonic() - started
    if outcome.is_clean:
        shutil.rmtree(folder)
    else:
        problems = " ".join(outcome.problems)
        uids = {scan_uid(arena.seed, n): found for n, found in outcome.findings.items()}
        odd = [uid for uid, found in uids.items() if found.notes or uid in problems]
        outcome.told = told_of(folder, odd)
    return outcome


class Ring:
    """The processes of one arena."""

    def __init__(
        self,
        arena: Arena,
        folder: Path,
        writer_mutant: str,
        publisher_mutant: str,
        end_s: float,
    ) -> None:
        self.arena = arena
        self.folder = folder
        self.root = folder / "files"
        self._writer_mutant = writer_mutant
        self._publisher_mutant = publisher_mutant
        self._end_s = end_s
        self.outcome = Outcome(arena)
        self.stack = ExitStack()
        self.writers: list[WriterProcess] = []
        self.publisher: PublisherProcess | None = None
        self.was_killed = False
        # Whether Redis has forgotten scans that nobody puts back.
        self.must_salvage = False
        self.spool = folder / "spool" if arena.has_spool else None
        self.outages = Outages()
        # Scans that may lack what their verdict names.
        self.may_name: set[int] = set()
        # Files of somebody else, in the places of scans.
        self.foreign: dict[Path, bytes] = {}
        # Of scans whose publisher did not come to their end.
        self.left: dict[int, Claim] = {}

    def __enter__(self) -> "Ring":
        made_root(self.root)
        self._clocks: dict[str, FakeClock] = {}
        if self.arena.has_clocks:
            for who in VICTIMS:
                self._clocks[who] = FakeClock(self.folder, f"clock-{who}")
        options = OPTIONS[self.arena.persistence]
        clock = self._clocks.get("redis")
        binary = clock.program(find_redis_server()) if clock else None
        self.redis = self.stack.enter_context(
            PrivateRedis(options=options, tcp=True, binary=binary)
        )
        self.witness = Witness(self.redis.url, self.arena.seed)
        self.operator = LossOperator(
            self.redis.url,
            lambda: "".join(writer.said for writer in tuple(self.writers)),
        )
        self.operator.start()
        self.stack.callback(self.operator.leave)
        self.proxies: dict[str, Proxy] = {}
        if self.arena.has_network:
            port = int(self.redis.tcp_url.rpartition(":")[2])
            for who in ("writer", "publisher"):
                self.proxies[who] = self.stack.enter_context(Proxy(port))
        self.answers: dict[str, RedisProxy] = {}
        if self.arena.has_answers:
            for who in ("writer", "publisher"):
                proxy = RedisProxy(self._network_url(who))
                self.answers[who] = self.stack.enter_context(proxy)
        return self

    def __exit__(self, *_: object) -> None:
        processes = [*self.writers, *([self.publisher] if self.publisher else [])]
        for process in processes:
            process.kill()
        self.stack.close()

    # ------------------------------------------------------------ processes

    def url(self, who: str) -> str:
        answers = self.answers.get(who)
        url = self._network_url(who) if answers is None else answers.url
        # Silence is noticed after this: the default would make the tests long.
        return f"{url}/0?socket_timeout=2" if url.startswith("redis:") else url

    def _network_url(self, who: str) -> str:
        proxy = self.proxies.get(who)
        return self.redis.url if proxy is None else f"redis://127.0.0.1:{proxy.port}"

    def environment(self, who: str) -> dict[str, str]:
        clock = self._clocks.get(who)
        return clock.environment if clock else {}

    def new_writer(self, failpoints: str = "") -> WriterProcess:
        writer = WriterProcess(
            self.url("writer"),
            self.root,
            self.folder,
            f"writer-{len(self.writers)}",
            failpoints=failpoints,
            memory_bytes=SMALL_MEMORY if self.arena.trims else LARGE_MEMORY,
            mutant=self._writer_mutant,
            environment=self.environment("writer"),
        )
        self.writers.append(writer)
        return writer

    @property
    def writer(self) -> WriterProcess:
        """The writer that is at work."""
        if not self.writers or not self.writers[-1].is_running:
            self.new_writer()
            until(lambda: self.writers[-1].is_ready, REACH_S)
        return self.writers[-1]

    def _armed_writer(self, fault: Fault, action: str) -> WriterProcess:
        """A writer with a trap, in the place of whoever is at work."""
        self.dismiss_writers()
        if fault.failpoint.startswith("renumber."):
            take_numbers(self, fault)
        return self.new_writer(f"{fault.failpoint}={action}@{fault.hit}")

    def dismiss_writers(self) -> None:
        for writer in self.writers:
            if writer.is_running:
                took_s = writer.leave()
                if took_s > LEAVE_S:
                    self.complain(f"{writer.name} left after {took_s:.1f} s")

    def start_publisher(self, first: int = 1) -> PublisherProcess:
        return PublisherProcess(
            self.url("publisher"),
            self.folder,
            seed=self.arena.seed,
            length=self.arena.length,
            first=first,
            spool=self.spool,
            mutant=self._publisher_mutant,
            patience_s=self._end_s,
            environment=self.environment("publisher"),
        )

    def complain(self, text: str) -> None:
        self.outcome.problems.append(text)

    # ------------------------------------------------------------------ run

    def run(self, is_over: Callable[[], bool]) -> Outcome:
        """Do one fault after the other; then let all come to its end."""
        assert self.writer.is_running
        self.publisher = publisher = self.start_publisher()
        if not until(lambda: publisher.said("judged"), REACH_S):
            self.complain(f"the undisturbed scan has no verdict {publisher.log_tail()}")
            return self.outcome
        for fault in self.arena.faults:
            if is_over():
                break
            publisher = self.publisher
            scans = frozenset(publisher.unjudged)
            was_hit = self._inject(fault, publisher)
            if not was_hit:
                self.complain(f"never came to it: {fault}")
            touched = scans | self.publisher.unjudged
            self.outcome.played.append(Played(fault, frozenset(touched), was_hit))
        publisher = self.publisher
        self._settle(publisher)
        note_given_up(self, publisher)
        # Of a scan that Redis forgot and got back, the last verdict counts.
        self.witness.are_judged({*publisher.said("begun")})
        self.outcome.findings = judge_run(
            self.root,
            self.arena.seed,
            self.arena.length,
            claims_of(self, publisher),
            closed=self._closed_uids,
            foreign=self.foreign,
        )
        self._count_passes()
        return self.outcome

    def _inject(self, fault: Fault, publisher: PublisherProcess) -> bool:
        """Do what the fault says; return whether it came to it."""
        if not publisher.is_running:
            return False
        if fault.kind in INJURIES:
            assert self.writer.is_running  # The fault before may have killed it.
            was_hit = INJURIES[fault.kind](self, fault, publisher)
        elif fault.failpoint:
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
        was_hit = self._comes_to(fault, writer)
        time.sleep(fault.for_s)
        return was_hit

    def _comes_to(self, fault: Fault, writer: WriterProcess) -> bool:
        """Return whether a writer comes to the failpoint of its trap."""
        for _ in range(_LOOKS):
            if until(lambda: writer.was_hit, REACH_S / _LOOKS):
                return True
            if fault.failpoint.startswith("renumber."):
                # After a loss of Redis, the writer looks for numbers that are free.
                take_numbers(self, fault)
        return False

    def _kill_redis_at(self, fault: Fault) -> bool:
        """Kill Redis while the writer stands still, and let both go on."""
        writer = self._armed_writer(fault, "stop")
        was_hit = self._comes_to(fault, writer)
        self.restart_redis()
        writer.signal(signal.SIGCONT)
        return was_hit

    def restart_redis(self, after_s: float = 0.0) -> None:
        with self.outages.during():
            self.redis.kill()
            time.sleep(after_s)
            self.redis.start()

    def _kill_at(self, fault: Fault) -> bool:
        """Kill a worker, whose service lives on; the service itself where it trims."""
        writer = self._armed_writer(fault, "kill")
        dies = fault.failpoint.startswith("trim.") or self._writer_mutant
        self._comes_to(fault, writer)
        if dies:
            return until(lambda: not writer.is_running, REACH_S)
        is_replaced = until(lambda: '"worker_died"' in writer.said, REACH_S)
        return is_replaced and writer.is_running

    def _stop_at(self, fault: Fault, publisher: PublisherProcess) -> bool:
        """Pause a writer, let a successor finish its scans, wake it up again."""
        paused = self._armed_writer(fault, "stop")
        if not self._comes_to(fault, paused):
            return False
        scans = publisher.unjudged
        successor = self.new_writer()
        until(lambda: not scans & publisher.unjudged, REACH_S)
        paused.signal(signal.SIGCONT)
        time.sleep(0.5)
        if not paused.is_running:
            self.complain(f"{paused.name} died when it woke up: {paused.log_tail()}")
        elif (took_s := paused.leave()) > LEAVE_S:
            self.complain(f"{paused.name} left after {took_s:.1f} s")
        return successor.is_running

    def _disturb_network(self, fault: Fault) -> bool:
        assert self.writer.is_running
        time.sleep(fault.after_s)
        proxy = self.proxies[fault.victim]
        with ExitStack() as stack:
            if fault.victim == "publisher" and fault.kind is not Kind.SLOW:
                stack.enter_context(self.outages.during())
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
        writer = self.writer
        if fault.kind in (Kind.KILL_PUBLISHER, Kind.KILL_ALL):
            return self._kill_publisher(fault, publisher)
        if fault.kind is Kind.KILL_SOURCE:
            return self.kill_source(fault, publisher)
        time.sleep(fault.after_s)
        if fault.kind is Kind.CLOCK:
            self._clocks[fault.victim].jump(int(fault.value))
            time.sleep(fault.for_s)
            return True
        if fault.kind is Kind.TERM_WRITER:
            self.dismiss_writers()
            return True
        if fault.kind in (Kind.KILL_WRITER, Kind.KILL_BOTH):
            writer.kill()
        if fault.kind in (Kind.KILL_REDIS, Kind.KILL_BOTH):
            self.restart_redis(fault.for_s)
        return True

    def _kill_publisher(self, fault: Fault, publisher: PublisherProcess) -> bool:
        """Kill the publisher in a scan, and close its scans: files lack the rest."""
        before = set(publisher.said("begun"))
        until(lambda: set(publisher.said("begun")) - before, REACH_S)
        time.sleep(fault.after_s)
        publisher.kill()
        self.was_killed = True
        # With those that it was resuming for a predecessor.
        resuming = {
            each for each in publisher.left if self.spool and self.has_spool(each)
        }
        witness, scans = self.witness, publisher.unjudged | resuming
        self.outcome.n_interrupted = len(scans)
        stood, durable = witness.points_on_redis(scans), {}
        if fault.kind is Kind.KILL_ALL:
            durable = witness.points_on_redis(scans, durable=True)
            self.restart_redis(fault.for_s)
        if self.arena.persistence is not Persistence.ALWAYS:
            # What Redis has forgotten, now or just before, is salvaged in the end.
            came_back = witness.points_on_redis(scans)
            self.must_salvage |= not scans <= set(came_back)
            stood, scans = durable | came_back, set(came_back)
        self.left |= stood
        self.close_scans(scans, by_writer=fault.for_s > LONG_S)
        return True

    def close_scans(self, scans: set[int], *, by_writer: bool = False) -> None:
        """Have scans ended whose publisher is gone: by an operator, or a writer."""
        witness = self.witness
        witness.declare_dead(scans)
        if not until(lambda: witness.are_judged(scans, finally_=False), REACH_S):
            self.complain(f"no verdict on scans whose publisher is gone: {scans}")
            return
        if not by_writer:
            witness.close(scans)
        if not until(lambda: witness.are_judged(scans), REACH_S):
            self.complain(f"no final verdict on scans that were closed: {scans}")

    def kill_source(
        self,
        fault: Fault,
        publisher: PublisherProcess,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> bool:
        """Kill publisher and Redis; have what stood in the spool sent on."""
        before = set(publisher.said("flushed"))
        until(lambda: set(publisher.said("flushed")) - before, REACH_S)
        time.sleep(fault.for_s / 2)
        publisher.kill()
        meanwhile()
        self.restart_redis()
        flushed = publisher.said("flushed")
        scans = publisher.unjudged
        for number in scans:
            self.left[number] = left_after(flushed.get(number, {}).get("points", 0))
        # It heard of a verdict when its spool is gone, though it had no time to say so;
        # Redis may have forgotten it now.
        waiting = {number for number in scans if self.has_spool(number)}
        if fault.value == "closed":
            self.close_scans(set(self.witness.points_on_redis(waiting)))
        if fault.value in ("command", "closed"):
            self.resume()
        first = max(publisher.said("opening")) + 1
        self.publisher = self.start_publisher(first)
        self.publisher.left = set(self.left)
        # A program that starts while Redis is away would end at once.
        until(lambda: first in publisher.said("opening"), REACH_S)
        if not until(lambda: self.witness.are_judged(waiting), REACH_S):
            self.complain(f"no final verdict on scans of the spool: {waiting}")
        return bool(scans)

    def has_spool(self, number: int) -> bool:
        assert self.spool is not None
        return (self.spool / scan_uid(self.arena.seed, number)).exists()

    def resume(self) -> None:
        given = ["--redis", self.url("publisher"), "--spool", str(self.spool)]
        self._run("publish", "resume", *given, "--timeout-s", str(REACH_S))

    def _run(self, *given: str) -> None:
        """Run a command of scanbus that may find scans to be partial."""
        command = [sys.executable, "-m", "scanbus.cli", *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        with (self.folder / f"{given[0]}.log").open("a") as log:
            log.write(done.stderr)
        # One that was closed, and has all points, has its verdict: it is not resumed.
        is_closed = _HAS_ALL in done.stderr
        if done.returncode not in {0, 2} and not (done.returncode == 3 and is_closed):
            self.complain(f"{given}: {done.returncode} {done.stderr[-400:]}")

    def _settle(self, publisher: PublisherProcess) -> None:
        """Heal everything and wait until the publisher has all its verdicts."""
        assert self.writer.is_running
        if not self.was_killed:
            publisher.end()  # One that died is complained of below.
            until(lambda: not publisher.is_running or self._has_failed(), self._end_s)
            if publisher.is_running:
                self.complain(f"{publisher.name} waits still: {publisher.log_tail()}")
            elif publisher.process.returncode:
                self.complain(f"{publisher.name} failed: {publisher.log_tail()}")
        self._end_failed(publisher)
        self.dismiss_writers()
        if self.must_salvage:
            self._run("salvage", "--force", "--root", str(self.root))
        for writer in self.writers:
            if writer.has_failed:
                self.complain(f"{writer.name} failed: {writer.log_tail()}")

    def _end_failed(self, publisher: PublisherProcess) -> None:
        """End scans that failed for an error that nobody foresaw: nobody else does.

        Their program was told so; what Redis has forgotten of them is salvaged.
        """
        failed = failed_scans(publisher)
        known = set(self.witness.points_on_redis(failed))
        self.must_salvage |= failed != known
        self.close_scans(known)

    def _has_failed(self) -> bool:
        return any(writer.has_failed for writer in self.writers)

    @property
    def _closed_uids(self) -> set[str]:
        """Uids of scans that an operator closed, or a writer by itself."""
        lines = [line for each in self.writers for line in each.said.splitlines()]
        said = [json.loads(line) for line in lines if '"interrupted_closed"' in line]
        return self.witness.closed | {line["scan"] for line in said}

    def _count_passes(self) -> None:
        passes = self.outcome.passes
        for writer in self.writers:
            for line in writer.hits:
                name, count, kind = line.split()
                if kind == "passed":
                    passes[name] = passes.get(name, 0) + int(count)
