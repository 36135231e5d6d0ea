"""What became of an arena: which faults came to it, and what the judge found."""

from dataclasses import dataclass, field

from tests.faults.judge import Finding
from tests.faults.schedule import Arena, Fault

__all__ = ["Outcome", "Played"]


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
    told : list of str
        What the processes logged of scans that are not as they should be.
    """

    arena: Arena
    played: list[Played] = field(default_factory=list)
    findings: dict[int, Finding] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    passes: dict[str, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    n_refused: int = 0
    n_interrupted: int = 0
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not self.problems and all(f.is_clean for f in self.findings.values())
