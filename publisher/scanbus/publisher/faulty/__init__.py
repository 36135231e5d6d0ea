"""A simulated publisher that breaks the rules of a correct one, and reports how.

For testing writers: dropped and duplicate points, points out of order, corrupt and
invalid entries, a second publisher on the same lanes, a publisher that dies. The seed
alone determines what is sent, and the ledgers that a correct writer must produce.
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
