"""Simulated experiments: physically plausible data for demos, tests and benchmarks.

Pure numpy: no Redis, no files, no clock. The same seed gives the same numbers.
"""

from scanbus.publisher.simulation.experiment import CounterInfo, SimulatedExperiment
from scanbus.publisher.simulation.geometry import Geometry

__all__ = ["CounterInfo", "Geometry", "SimulatedExperiment"]
