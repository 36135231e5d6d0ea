"""Faults that are neither a kill, nor a pause, nor the network: one function each.

What a fault legitimately costs is noted in `left`: the judge then checks that the
verdict names the loss, and that the named loss is the true one.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import redis

from tests.faults.claims import left_after
from tests.faults.closings import close_meanwhile, empty_redis, renumber
from tests.faults.content import scan_uid
from tests.faults.keys import KEYS
from tests.faults.processes import PublisherProcess, until
from tests.faults.schedule import Fault, Kind
from tests.support.damage import Damage, inflict
from tests.support.redis_proxy import CLOSE, ERRORS
from tests.support.waiting import found_below

if TYPE_CHECKING:
    from tests.faults.arena import Ring

__all__ = ["INJURIES"]

REACH_S = 90.0
# A process that is told to leave by a second Ctrl-C leaves within this.
LEAVES_S = 20.0
_LIMIT_BYTES = 4096
# Not MULTI: no Redis refuses it and takes the commands behind it one by one.
_COMMANDS = (
    "EXEC",
    "XADD",
    "XREAD",
    "XRANGE",
    "XREVRANGE",
    "XLEN",
    "XTRIM",
    "XGROUP",
    "HGET",
    "HSET",
    "HGETALL",
    "HDEL",
    "GET",
    "SET",
    "DEL",
    "EXISTS",
    "INCR",
    "EXPIRE",
    "PEXPIRE",
    "PTTL",
    "EVAL",
    "EVALSHA",
    "INFO",
    "PING",
    "SCAN",
)


def _wrong_replies(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Answer with an error in Redis' place, sometimes after the command was done."""
    assert ring.writer.is_running
    time.sleep(fault.after_s)
    proxy = ring.answers[fault.victim]
    reply = CLOSE if fault.value == "close" else ERRORS[fault.value]
    with ring.outages.during():
        answers = [
            proxy.answer(
                command,
                reply,
                times=None,
                chance=0.3,
                seed=fault.hit,
                executes=bool(fault.hit % 2),
            )
            for command in _COMMANDS
        ]
        until(lambda: any(each.n_answered for each in answers), REACH_S)
        time.sleep(fault.for_s)
        for each in answers:
            each.stop()
    return any(each.n_answered for each in answers)


def _exceptions(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Raise what nobody expects in threads of the publisher or the service."""
    process = publisher if fault.victim == "publisher" else ring.writer
    time.sleep(fault.after_s)
    with ring.outages.during():
        process.tell(f"raise {fault.value} {fault.hit}")
        time.sleep(fault.for_s)
    if not process.is_running:
        ring.complain(f"{process.name} died of {fault}: {process.log_tail()}")
    return True


def _interrupt(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Ctrl-C in the publisher: its scan ends, and it begins the next one."""
    before = set(publisher.said("interrupted"))
    time.sleep(fault.after_s)
    publisher.signal(signal.SIGINT)
    said = until(
        lambda: set(publisher.said("interrupted")) - before or not publisher.is_running,
        REACH_S,
    )
    if not publisher.is_running:
        ring.complain(f"one Ctrl-C ended the publisher: {publisher.log_tail()}")
    return said


def _interrupt_twice(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Ctrl-C twice: the publisher leaves at once; an operator closes its scans."""
    before = publisher.told("leaving")  # Of its predecessors, too.
    time.sleep(fault.after_s)
    publisher.tell("leave")
    until(lambda: len(publisher.told("leaving")) > len(before), REACH_S)
    publisher.signal(signal.SIGINT)
    time.sleep(fault.for_s / 4)
    publisher.signal(signal.SIGINT)
    if not until(lambda: not publisher.is_running, LEAVES_S):
        ring.complain(f"{publisher.name} stayed after two Ctrl-C")
    publisher.kill()  # Its pipe is closed, too.
    _replace_publisher(ring, publisher)
    return True


def _replace_publisher(ring: "Ring", publisher: PublisherProcess) -> None:
    """Close the scans of a publisher that is gone, and start another one."""
    scans = publisher.unjudged
    stood = ring.witness.points_on_redis(scans)
    ring.left |= stood
    if ring.spool is not None:  # Its successor resumes them.
        for number in scans:
            claim = ring.left.get(number, left_after(0))
            ring.left[number] = replace(claim, named=True)
        _start_next(ring, publisher, scans)
        return
    # It heard of the verdicts on the others, though it had no time to say so; or Redis
    # was emptied, and it had no time to put back what is not judged.
    ring.left |= {number: left_after(0) for number in scans - set(stood)}
    ring.must_salvage |= not scans <= set(stood)
    ring.close_scans(set(stood))
    _start_next(ring, publisher, scans)


def _start_next(ring: "Ring", publisher: PublisherProcess, scans: "set[int]") -> None:
    first = max(publisher.said("opening")) + 1
    publisher, left = ring.start_publisher(first), publisher.left | scans
    publisher.left = left
    ring.publisher = publisher
    until(lambda: first in publisher.said("opening"), REACH_S)


def _fork(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Fork in the publisher: the child may not send, and the parent goes on."""
    before = publisher.told("forked")
    time.sleep(fault.after_s)
    publisher.tell("fork")
    if not until(lambda: len(publisher.told("forked")) > len(before), REACH_S):
        ring.complain(f"nothing was heard of the fork: {publisher.log_tail()}")
        return False
    outcome = publisher.told("forked")[-1]["outcome"]
    if outcome not in {"raised", "no scan"}:
        ring.complain(f"a forked child that sends: {outcome}")
    return True


def _segments_of(ring: "Ring", number: int) -> list[Path]:
    """Return finished segments, of frames and of small values, of one scan."""
    folder = ring.root / (ring.witness.newest(number)[1] or "none")
    return sorted(
        path
        for pattern in ("*_[0-9][0-9][0-9][0-9]*.h5", "values-*.segment")
        for path in folder.glob(pattern)
        if not path.name.startswith(".") and path not in ring.foreign
    )


def _missing_file(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Delete a finished segment of a scan that goes on, or take it away for a time."""
    found = until(lambda: any(map(_of(ring), publisher.unjudged)), REACH_S)
    candidates = [n for n in publisher.unjudged if _segments_of(ring, n)]
    if not found or not candidates:
        return False
    number = max(candidates)
    path = random.Random(fault.hit).choice(_segments_of(ring, number))
    aside = ring.folder / f"aside-{path.name}"
    with suppress(FileNotFoundError):
        shutil.move(path, aside)
    if ring.witness.are_judged({number}):  # It was over before: nobody looks again.
        shutil.move(aside, path)
        return True
    time.sleep(fault.for_s)
    ring.may_name.add(number)
    if fault.value == "moved":
        shutil.move(aside, path)
    else:
        ring.operator.bereft.add(ring.witness.newest(number)[0])
    return True


def _of(ring: "Ring") -> Callable[[int], list[Path]]:
    return lambda number: _segments_of(ring, number)


def _missing_work_folder(
    ring: "Ring", fault: Fault, publisher: PublisherProcess
) -> bool:
    """Take away the work folder of a scan that is being written."""
    time.sleep(fault.after_s)
    folders: list[Path] = []

    def is_there() -> bool:
        folders[:] = found_below(ring.root, ".scanbus/*")
        return bool(folders)

    until(is_there, REACH_S)
    present = [folder for folder in folders if folder.is_dir()]
    if not present:
        return bool(folders)
    aside = ring.folder / f"aside-work-{fault.hit}-{time.monotonic_ns()}"
    with suppress(OSError):
        present[-1].rename(aside)
    time.sleep(fault.for_s)
    return True


def _unmounted_root(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Take the root away, or mount an empty file system over it."""
    time.sleep(fault.after_s)
    with _covered(ring.root, fault.value) as decoy:
        time.sleep(fault.for_s)
        strays = [path for path in found_below(decoy, "*") if path.is_file()]
    if strays:
        ring.complain(f"written into another file system: {strays[:3]}")
    return publisher.is_running


@contextmanager
def _covered(root: Path, how: str) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(root)]
    if how == "mounted over" and not subprocess.run(mount, check=False).returncode:
        try:
            yield root
        finally:
            subprocess.run(["umount", "--lazy", str(root)], check=True)
        return
    away = root.with_name("away")
    root.rename(away)
    root.mkdir()
    try:
        yield root
    finally:
        shutil.rmtree(root)
        away.rename(root)


def _refused_writes(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Refuse writes for a time: by a limit of the processes, or at failpoints."""
    time.sleep(fault.after_s)
    if fault.value == "EFBIG":
        writer = ring.writer
        pids = [writer.process.pid, *writer.descendants]
        _limit(pids, _LIMIT_BYTES)
        time.sleep(fault.for_s)
        _limit({*pids, *writer.descendants}, resource.RLIM_INFINITY)
        return True
    points = ("write", "flush", "close", "fsync", "link", "master", "scan_file")
    armed = ";".join(
        f"{name}.before=raise={fault.value}@{hit}"
        for name in points
        for hit in range(fault.hit, fault.hit + 3)
    )
    ring.dismiss_writers()
    writer = ring.new_writer(armed)
    was_hit = until(lambda: writer.was_hit, REACH_S)
    time.sleep(fault.for_s)
    return was_hit


def _limit(pids: "set[int] | list[int]", most: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))


def _deleted_key(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Delete one key of a scan that is under way; sometimes kill the writer, too."""
    before = set(publisher.said("begun"))
    until(lambda: set(publisher.said("begun")) - before, REACH_S)
    time.sleep(fault.after_s)
    uid = scan_uid(ring.arena.seed, max(publisher.said("begun")))
    pattern = KEYS[fault.value].replace("UID", uid)
    with redis.Redis.from_url(ring.redis.url) as client:
        keys = list(client.scan_iter(pattern.replace("{", "[{]").replace("}", "[}]")))
        for key in keys:
            client.delete(key)
    if fault.hit % 2:
        ring.writer.kill()
    return True


def _damaged_spool(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Kill publisher and Redis, damage the spool, and have it sent on."""
    chance = random.Random(fault.hit)

    def damage() -> None:
        assert ring.spool is not None
        for folder in sorted(each for each in ring.spool.iterdir() if each.is_dir()):
            files = sorted(found_below(folder / "lanes", "*.spool"))
            files = [path for path in files if path.stat().st_size]
            if files:
                drawn = Damage(
                    fault.value,
                    chance.randrange(len(files)),
                    chance.random(),
                    chance.randint(1, 300),
                )
                inflict(drawn, files)

    was_hit = ring.kill_source(fault, publisher, damage)
    for number, claim in ring.left.items():
        if number in publisher.unjudged:
            ring.left[number] = replace(claim, named=True)
    return was_hit


def _killed_child(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Kill any child of the writer's service, by SIGKILL, SIGSEGV or SIGABRT."""
    time.sleep(fault.after_s)
    writer = ring.writer
    children = [pid for pid in writer.descendants if pid != writer.process.pid]
    if not children:
        return False
    with suppress(ProcessLookupError):
        os.kill(
            random.Random(fault.hit).choice(children),
            getattr(signal, fault.value),
        )
    time.sleep(fault.for_s)
    if not writer.is_running:
        ring.complain(f"{writer.name} died with its child: {writer.log_tail()}")
    return True


Injury = Callable[["Ring", Fault, PublisherProcess], bool]
INJURIES: Final[dict[Kind, Injury]] = {
    Kind.REPLIES: _wrong_replies,
    Kind.EXCEPTION: _exceptions,
    Kind.INTERRUPT: _interrupt,
    Kind.INTERRUPT_TWICE: _interrupt_twice,
    Kind.FORK: _fork,
    Kind.FILE: _missing_file,
    Kind.WORK_FOLDER: _missing_work_folder,
    Kind.ROOT: _unmounted_root,
    Kind.REFUSED: _refused_writes,
    Kind.KEY: _deleted_key,
    Kind.SPOOL: _damaged_spool,
    Kind.KILL_CHILD: _killed_child,
    Kind.CLOSED: close_meanwhile,
    Kind.TAKEN: renumber,
    Kind.EMPTIED: empty_redis,
}
