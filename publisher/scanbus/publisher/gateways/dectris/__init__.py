"""DECTRIS detectors: their streams V1 and V2 over ZeroMQ become scans.

Needs the extra ``zmq``.
"""

from scanbus.publisher.gateways.dectris.gateway import DectrisGateway
from scanbus.publisher.gateways.dectris.simulator import (
    SimulatedDetector,
    simulate_series,
)

__all__ = ["DectrisGateway", "SimulatedDetector", "simulate_series"]
