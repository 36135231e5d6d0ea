"""Detectors that send JSON and bytes, or Jungfraujoch's CBOR, over ZeroMQ become scans.

Needs the extra ``zmq``.
"""

from scanbus.publisher.gateways.wire.sockets import SimulatedSender
from scanbus.publisher.gateways.zmq.gateway import ZmqGateway
from scanbus.publisher.gateways.zmq.simulator import simulate_frames

__all__ = ["SimulatedSender", "ZmqGateway", "simulate_frames"]
