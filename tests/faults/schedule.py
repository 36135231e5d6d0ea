"""What is done to whom, and when: drawn from a seed, before anything runs.

Pure, so that the same seed gives the same faults. A run is a list of arenas, each with
a Redis, a publisher and one or two writers of its own, and a list of faults in order.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from scanbus.writer.steps import FAILPOINTS
from tests.faults.keys import KEYS
from tests.faults.traps import TRAPS
from tests.support.damage import KINDS as DAMAGES
from tests.support.redis_proxy import ERRORS as ERRORS_OF_REDIS

__all__ = ["VICTIMS", "Arena", "Fault", "Kind", "Persistence", "covering", "endless"]


class Kind(StrEnum):
    """What can be done."""

    KILL_AT = "SIGKILL of the writer at a failpoint"
    STOP_AT = "SIGSTOP at a failpoint, takeover, SIGCONT"
    RAISE_AT = "error of the system at a failpoint"
    DELAY_AT = "delay beyond the lease at a failpoint"
    REDIS_AT = "SIGKILL of Redis, writer at a failpoint"
    KILL_WRITER = "SIGKILL of the writer at random"
    TERM_WRITER = "SIGTERM of the writer"
    KILL_REDIS = "SIGKILL of Redis"
    KILL_BOTH = "SIGKILL of writer and Redis"
    KILL_PUBLISHER = "SIGKILL of the publisher"
    KILL_ALL = "SIGKILL of publisher and Redis"
    KILL_SOURCE = "SIGKILL of publisher and Redis, spool"
    CUT = "network cut"
    SLOW = "network slow"
    HALF_OPEN = "network half-open"
    CLOCK = "wall clock jumps"
    REPLIES = "Redis answers with an error"
    EXCEPTION = "unforeseen exception in a thread"
    INTERRUPT = "Ctrl-C in the publisher"
    INTERRUPT_TWICE = "Ctrl-C in the publisher, twice"
    FORK = "fork in the publisher"
    FILE = "finished segment deleted or moved"
    WORK_FOLDER = "work folder moved away"
    ROOT = "root unmounted"
    REFUSED = "writes refused for a time"
    KEY = "a key deleted on Redis"
    SPOOL = "spool damaged"
    KILL_CHILD = "child of the writer killed"
    CLOSED = "scan closed, then its publisher is back"
    TAKEN = "number of a scan taken on the disk"
    EMPTIED = "Redis emptied"


class Persistence(StrEnum):
    """What Redis keeps on disk."""

    ALWAYS = "always"
    EVERYSEC = "everysec"
    NONE = "none"


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    failpoint, hit : str, int
        Where, for those at a failpoint; at which hit.
    value : str
        What exactly: name of an error number, seconds by which a clock is wrong, who
        resumes, which reply, exception, key or damage.
    after_s, for_s : float
        When, after the fault before; for how long.
    victim : str
        Whose network or clock: ``writer``, ``publisher`` or ``redis``.
    """

    kind: Kind
    failpoint: str = ""
    hit: int = 1
    value: str = ""
    after_s: float = 0.0
    for_s: float = 0.0
    victim: str = "writer"


@dataclass(frozen=True)
class Arena:
    """One group of processes and what happens to it.

    Attributes
    ----------
    seed : int
        Of the data.
    length : int
        Points of each scan.
    trims : bool
        Whether whatever is acknowledged leaves Redis at once.
    """

    seed: int
    persistence: Persistence
    length: int
    trims: bool
    faults: tuple[Fault, ...]

    @property
    def has_network(self) -> bool:
        """Whether its processes must speak to Redis through proxies."""
        kinds = {fault.kind for fault in self.faults}
        return bool(kinds & {Kind.CUT, Kind.SLOW, Kind.HALF_OPEN})

    @property
    def has_answers(self) -> bool:
        """Whether a proxy may answer in Redis' place."""
        return any(fault.kind is Kind.REPLIES for fault in self.faults)

    @property
    def has_spool(self) -> bool:
        """Whether its publisher has a spool."""
        kinds = {fault.kind for fault in self.faults}
        return bool(kinds & {Kind.KILL_SOURCE, Kind.SPOOL})

    @property
    def has_clocks(self) -> bool:
        """Whether each of its processes has a clock of its own."""
        return any(fault.kind is Kind.CLOCK for fault in self.faults)


KILLS_PER_FAILPOINT: Final = 3
TIMES_ELSEWHERE: Final = 2
STOPS: Final = (
    "rename.before",
    "claim.before",
    "link.before",
    "master.before",
    "scan_file.before",
    "join_link.before",
    "join_remove.before",
)
ERRORS: Final = (
    "claim.before",
    "write.before",
    "flush.before",
    "close.before",
    "fsync.before",
    "join_copy.before",
    "join_fsync.before",
    "join_link.before",
)
REDIS_GONE: Final = (
    "verdict.after",
    "acknowledge.before",
    "link.after",
    "scan_file.after",
)
VICTIMS: Final = ("writer", "publisher", "redis")
RESUMERS: Final = ("command", "successor", "closed")
JUMPS: Final = ("3600", "-3600", "86400", "-86400")
DELAYS: Final = ("renew.before", "link.before", "verify.after", "acknowledge.before")
# What else may happen, and how: one of these each time.
HOWS: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.REPLIES: ("close", *ERRORS_OF_REDIS),
    Kind.EXCEPTION: TRAPS,
    Kind.INTERRUPT: ("",),
    Kind.INTERRUPT_TWICE: ("",),
    Kind.FORK: ("",),
    Kind.FILE: ("deleted", "moved"),
    Kind.WORK_FOLDER: ("",),
    Kind.ROOT: ("renamed", "mounted over"),
    Kind.REFUSED: ("ENOSPC", "EDQUOT", "EIO", "EFBIG"),
    Kind.KEY: tuple(KEYS),
    Kind.SPOOL: DAMAGES,
    Kind.KILL_CHILD: ("SIGKILL", "SIGSEGV", "SIGABRT"),
    Kind.CLOSED: ("operator", "writer", "emptied"),
    Kind.TAKEN: ("",),
    Kind.EMPTIED: ("",),
}
# Late hits of these may never come in the life of one writer.
_RARE: Final = (
    "renumber",
    "rename",
    "claim",
    "scan_file",
    "manifest",
    "verdict",
    "join",
)
_ARENA_FAULTS: Final = 11
# After these there is no publisher any more.
_LAST: Final = (Kind.KILL_PUBLISHER, Kind.KILL_ALL)


def covering(
    seed: int, *, clocks: bool = True, is_short: bool = False
) -> tuple[Arena, ...]:
    """Every failpoint and every kind under every persistence.

    Parameters
    ----------
    clocks : bool
        Whether clocks can jump.
    is_short : bool
        As CI does it: each failpoint under one persistence, which hangs on the seed.
    """
    chance = random.Random(seed)
    n_kills, n_others = (1, 1) if is_short else (KILLS_PER_FAILPOINT, TIMES_ELSEWHERE)
    # Dealt out one by one: of three or more of a kind, each persistence gets some.
    local = [
        _at(chance, Kind.KILL_AT, failpoint)
        for failpoint in FAILPOINTS
        for _ in range(n_kills)
    ]
    for kind, names in ((Kind.STOP_AT, STOPS), (Kind.RAISE_AT, ERRORS)):
        local += [_at(chance, kind, name) for name in names for _ in range(n_others)]
    local += [_at(chance, Kind.REDIS_AT, name) for name in REDIS_GONE]
    local += [_at(chance, Kind.DELAY_AT, name) for name in DELAYS]
    local += [_at_random(chance, Kind.KILL_WRITER) for _ in range(5)]
    local += [_at_random(chance, Kind.TERM_WRITER) for _ in range(3)]
    local += [_at_random(chance, Kind.KILL_REDIS) for _ in range(6)]
    local += [_at_random(chance, Kind.KILL_BOTH) for _ in range(4)]
    local += [
        _any_of(chance, kind)
        for kind in HOWS
        if kind not in (Kind.REPLIES, Kind.SPOOL)
        for _ in range(6 if kind is Kind.KEY else 3)
    ]
    remote = [_any_of(chance, Kind.REPLIES) for _ in range(6)]
    remote += [
        _at_random(chance, kind)
        for kind in (Kind.CUT, Kind.SLOW, Kind.HALF_OPEN)
        for _ in Persistence
    ]
    remote += [
        _at_random(chance, Kind.CLOCK, victim, JUMPS[(row + column) % len(JUMPS)])
        for row, victim in enumerate(VICTIMS)
        for column, _ in enumerate(Persistence)
        if clocks
    ]
    spooled = [
        _at_random(chance, Kind.KILL_SOURCE, value=value)
        # Not the same ones under one persistence.
        for value in (*RESUMERS, *RESUMERS[1:], RESUMERS[0])
    ]
    spooled += [_any_of(chance, Kind.SPOOL) for _ in Persistence]
    kinds = list(Persistence)
    chance.shuffle(kinds)
    # Those that take long come first.
    return tuple(
        arena
        for faults, lasts in (
            (local, _LAST),
            (remote, (Kind.KILL_PUBLISHER,)),
            (spooled, ()),
        )
        for index, persistence in enumerate(kinds)
        for arena in _arenas(chance, persistence, faults[index :: len(kinds)], lasts)
    )


def endless(seed: int, *, clocks: bool = True) -> Iterator[Arena]:
    """Arenas with faults of all kinds at random, as long as somebody asks."""
    chance = random.Random(seed)
    kinds = [kind for kind in Kind if kind not in _LAST]
    kinds = [kind for kind in kinds if clocks or kind is not Kind.CLOCK]
    while True:
        faults = [_any(chance, chance.choice(kinds)) for _ in range(_ARENA_FAULTS - 1)]
        lasts = chance.choice(([Kind.KILL_PUBLISHER], [Kind.KILL_ALL], []))
        yield from _arenas(chance, chance.choice(list(Persistence)), faults, lasts)


def _any(chance: random.Random, kind: Kind) -> Fault:
    places = {
        Kind.KILL_AT: FAILPOINTS,
        Kind.STOP_AT: STOPS,
        Kind.RAISE_AT: ERRORS,
        Kind.REDIS_AT: REDIS_GONE,
        Kind.DELAY_AT: DELAYS,
    }
    if kind in HOWS:
        return _any_of(chance, kind)
    if kind in places:
        return _at(chance, kind, chance.choice(places[kind]))
    if kind is Kind.KILL_SOURCE:
        return _at_random(chance, kind, value=chance.choice(RESUMERS))
    if kind is Kind.CLOCK:
        victim, value = chance.choice(VICTIMS), chance.choice(JUMPS)
        return _at_random(chance, kind, victim, value)
    return _at_random(chance, kind)


def _at(chance: random.Random, kind: Kind, failpoint: str) -> Fault:
    rare = failpoint.startswith(_RARE)
    return Fault(
        kind,
        failpoint,
        hit=1 if rare else chance.randint(1, 6),
        value=chance.choice(("ENOSPC", "EIO")) if kind is Kind.RAISE_AT else "",
        for_s=1.6 if kind is Kind.DELAY_AT else 0.0,
    )


def _any_of(chance: random.Random, kind: Kind) -> Fault:
    fault = _at_random(chance, kind, value=chance.choice(HOWS[kind]))
    return replace(fault, hit=chance.randint(1, 6))


def _at_random(
    chance: random.Random, kind: Kind, victim: str = "", value: str = ""
) -> Fault:
    return Fault(
        kind,
        value=value,
        after_s=round(chance.uniform(0.2, 1.5), 3),
        for_s=round(chance.uniform(0.1, 1.2), 3),
        victim=victim or chance.choice(("writer", "publisher")),
    )


def _arenas(
    chance: random.Random,
    persistence: Persistence,
    faults: Sequence[Fault],
    lasts: Sequence[Kind],
) -> Iterator[Arena]:
    """Cut faults into arenas of about the same length; the first ones end with `lasts`.

    The publisher's end comes last: what it had not sent yet is out of reach.
    """
    waiting = list(faults)
    chance.shuffle(waiting)
    n_arenas = -(-len(waiting) // _ARENA_FAULTS)
    for index in range(n_arenas):
        taken = waiting[index::n_arenas]
        taken += [_at_random(chance, kind) for kind in lasts[index : index + 1]]
        yield Arena(
            seed=chance.randrange(2**32),
            persistence=persistence,
            length=chance.randint(60, 110),
            trims=chance.random() < 0.5 or any("trim" in f.failpoint for f in taken),
            faults=tuple(taken),
        )
