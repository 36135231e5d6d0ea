"""DECTRIS detectors: their streams V1 and V2 over ZeroMQ become scans.

Needs the extra ``zmq``.
"""

from scanbus.publisher.gateways.dectris.gateway import DectrisGateway
from scanbus.publisher.gateways.dectris.rest import RestConfiguration
from scanbus.publisher.gateways.dectris.simulated_rest import served_configuration
from scanbus.publisher.gateways.dectris.simulator import (
    simulate_series,
    simulated_config,
)
from scanbus.publisher.gateways.wire.sockets import SimulatedSender

__all__ = [
    "DectrisGateway",
    "RestConfiguration",
    "SimulatedSender",
    "served_configuration",
    "simulate_series",
    "simulated_config",
]
