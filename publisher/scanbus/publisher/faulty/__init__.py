"""A publisher that does what no correct one would, by seed, and says what it did.

For trying writers: drops, duplicates, points out of order, damaged and wrong entries,
a second publisher on the same lanes, a death without a word. What is sent follows from
the seed alone, and so does the account that an honest writer must come to.
"""

from scanbus.publisher.faulty.content import points_of, simulated_lanes
from scanbus.publisher.faulty.faults import Faults
from scanbus.publisher.faulty.faulty_scan import FaultyScan, Injected, simulate
from scanbus.publisher.faulty.plan import Plan, Step, make_plan

__all__ = [
    "Faults",
    "FaultyScan",
    "Injected",
    "Plan",
    "Step",
    "make_plan",
    "points_of",
    "simulate",
    "simulated_lanes",
]
