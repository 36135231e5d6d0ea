"""EPICS 7: images over PVAccess, and PVs beside them. Needs the extra ``epics``."""

from scanbus.publisher.gateways.epics.gateway import PvaGateway, PvaSettings
from scanbus.publisher.gateways.epics.simulator import SimulatedIoc, simulate_images
from scanbus.publisher.gateways.epics.slow_pv import channels_of

__all__ = [
    "PvaGateway",
    "PvaSettings",
    "SimulatedIoc",
    "channels_of",
    "simulate_images",
]
