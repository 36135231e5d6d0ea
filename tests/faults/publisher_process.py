"""A publisher as a process of its own: scan after scan, until it is told to end.

``python -m tests.faults.publisher_process URL SEED LENGTH FIRST``. It
says in a line of JSON on stdout what happened; the word ``end`` on stdin lets it finish
its scan, wait for all verdicts and leave.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from scanbus.cli.logs import log_to_stderr
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas.errors import (
    BusUnavailableError,
    DeadlineError,
    ScanbusError,
    ScanClosedError,
    ScanStateError,
)
from tests.faults.content import (
    CHANNELS,
    FRAME_SHAPE,
    SPECTRUM_LENGTH,
    points,
    scan_uid,
)
from tests.faults.mutants import forget_what_was_sent
from tests.faults.traps import has_trap, set_trap

# Half of it holds all open segments: packed, some 20 frames of each detector.
QUOTA_BYTES = 300_000
POINT_S = 0.008
# So many scans may wait for their verdict: a writer that is killed all the time must
# not be buried under them.
MAX_UNJUDGED = 3
VERDICT_S = 90.0
# Longer than any fault lasts, on a machine that has other things to do.
SEND_S = 150.0
FORK_S = 20.0
FORKED = {3: "raised", 4: "accepted", 5: "raised something else"}


def say(**what: object) -> None:
    # A line that Ctrl-C has cut could not be read.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        sys.stdout.write(json.dumps({"at": time.monotonic(), **what}) + "\n")
        sys.stdout.flush()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def declare(scan: Scan) -> None:
    scan.channel("th", group="g", role="axis", units="deg")
    scan.channel("c1", group="g", dtype="int32")
    scan.channel("i0", group="g")
    scan.channel("label", dtype="string", max_point_bytes=64)
    scan.channel("mca", role="spectrum", dtype="uint32", shape=(SPECTRUM_LENGTH,))
    scan.detector("eiger", shape=FRAME_SHAPE, dtype="uint16", points_per_chunk=4)
    scan.detector("fast", shape=FRAME_SHAPE, dtype="uint32", points_per_chunk=1)


def _code_of_send(scan: Scan) -> int:
    try:
        scan.send("th", 1.0)
    except ScanbusError:
        return 3
    return 4


def send_points(scan: Scan, seed: int, number: int, first: int, stop: int) -> None:
    """Send some points of the scan: of each channel what belongs to them."""
    for name, (_, _, rate) in CHANNELS.items():
        scan.send(name, points(seed, number, name, first * rate, stop * rate))


class Program:
    """What a beamline's program does, as far as the bus is concerned."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self._asked = asked
        self._unjudged: dict[int, Scan] = {}
        self._n_taken = 0
        self._ended = threading.Event()
        self._is_leaving = False
        self._current: tuple[int, Scan] | None = None

    def run(self, publisher: Publisher) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        number = self._asked.first
        while not self._ended.is_set():
            try:
                self._run_scan(publisher, number)
                # The very first one is what an undisturbed scan looks like.
                most = 0 if number == 1 else MAX_UNJUDGED - 1
                self._collect(most, VERDICT_S)
            except KeyboardInterrupt:
                if self._is_leaving:
                    raise
                points = self._n_taken
                say(event="interrupted", scan=number, points=points)
            number += 1
        self._collect(0, VERDICT_S)

    def _listen(self) -> None:
        for line in sys.stdin:
            match line.split():
                case ["end"]:
                    break
                case ["leave"]:
                    self._is_leaving = True
                    say(event="leaving", scan=0)
                case ["fork"]:
                    self._fork()
                case ["raise", name, times]:
                    set_trap(name, int(times), threads="scanbus-")
        self._ended.set()

    def _fork(self) -> None:
        """Try to send from a forked process, and say what became of it."""
        if self._current is None:
            say(event="forked", scan=0, outcome="no scan")
            return
        number, scan = self._current
        child = os.fork()
        if not child:
            code = 5
            try:
                code = _code_of_send(scan)
            finally:
                os._exit(code)
        deadline = time.monotonic() + FORK_S
        done, status = 0, 0
        while not done and time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.01)
        if not done:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        outcome = FORKED.get(os.waitstatus_to_exitcode(status), f"died: {status}")
        say(event="forked", scan=number, outcome=outcome if done else "hung")

    def _run_scan(self, publisher: Publisher, number: int) -> None:
        seed = self._asked.seed
        say(event="opening", scan=number)
        scan = publisher.scan(
            uid=scan_uid(seed, number),
            session="20260101",
            quota_bytes=QUOTA_BYTES,
            title=f"faults {seed}",
        )
        has_begun = False
        try:
            self._n_taken = 0
            with scan:
                self._current = number, scan
                declare(scan)
                if self._asked.mutant == "impatient" and number % 2:
                    self._give_up(number)
                scan.prepare()
                if self._asked.mutant == "no-resend":
                    forget_what_was_sent(scan)
                say(event="begun", scan=number)
                has_begun = True
                self._send(scan, number)
            say(event="sent", scan=number)
        except (BusUnavailableError, DeadlineError) as error:
            if not has_begun:
                # Redis was away when the scan was to begin: an error of the program.
                say(event="refused", scan=number, reason=str(error))
                time.sleep(0.2)
                return
            say(event="gave_up", scan=number, points=self._n_taken, reason=str(error))
        except Exception as error:
            if not has_trap():
                raise
            # What nobody foresees may fail a scan, visibly.
            reason = f"{type(error).__name__}: {error}"
            event = "gave_up" if has_begun else "refused"
            points = self._n_taken
            say(event=event, scan=number, points=points, reason=reason, trapped=True)
            if not has_begun:
                return
        finally:
            self._current = None
            if has_begun:
                self._unjudged[number] = scan

    def _send(self, scan: Scan, number: int) -> None:
        seed, length = self._asked.seed, self._asked.length
        for first in range(0, length, 4):
            stop = min(first + 4, length)
            send_points(scan, seed, number, first, stop)
            self._n_taken = stop
            if self._asked.spool is not None:
                # Whatever becomes of this process and of Redis: this much is safe.
                scan.flush(VERDICT_S)
                say(event="flushed", scan=number, points=stop)
            if self._asked.mutant == "impatient" and stop > length // 2:
                self._give_up(number)
            time.sleep(POINT_S * (stop - first))

    def _give_up(self, number: int) -> None:
        # Not the very first one.
        if number > 1:
            raise DeadlineError("sending", 0.0, "a mutant has no patience")

    def _collect(self, most: int, timeout_s: float) -> None:
        """Tell the verdicts that there are; wait until at most so many lack one."""
        deadline = time.monotonic() + timeout_s
        while self._unjudged and time.monotonic() < deadline:
            for number, scan in list(self._unjudged.items()):
                self._ask(number, scan)
            if len(self._unjudged) <= most:
                return
            time.sleep(0.02)

    def _ask(self, number: int, scan: Scan) -> None:
        try:
            verdict = scan.verdict(0.0)
        except DeadlineError:
            return
        except ScanClosedError:
            # Somebody closed it, and it has all that was sent.
            say(event="closed", scan=number)
        except ScanStateError as error:
            say(event="lost", scan=number, reason=str(error))
        except Exception as error:
            if not has_trap():
                raise
            say(event="lost", scan=number, reason=repr(error), trapped=True)
        else:
            word = verdict.verdict.value
            say(event="judged", scan=number, verdict=word, uid=verdict.uid)
        del self._unjudged[number]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("seed", type=int)
    parser.add_argument("length", type=int)
    parser.add_argument("first", type=int)
    parser.add_argument("--mutant", default="")
    parser.add_argument("--spool", type=Path)
    parser.add_argument("--patience-s", type=float, default=SEND_S)
    asked = parser.parse_args()
    # A shell that starts a run in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log_to_stderr(logging.INFO)
    with Publisher(
        asked.url,
        name="faults",
        spool=asked.spool,
        close_timeout_s=1,
        send_deadline_s=asked.patience_s,
    ) as publisher:
        Program(asked).run(publisher)
    return 0


if __name__ == "__main__":
    sys.exit(main())
