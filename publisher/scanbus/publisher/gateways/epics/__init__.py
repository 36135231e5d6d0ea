"""EPICS 7: images over PVAccess, and PVs beside them. Needs the extra ``epics``."""

import os

from p4p import logLevelOff
from p4p._p4p import logger_level_set

from scanbus.publisher.gateways.epics.gateway import PvaGateway, PvaSettings
from scanbus.publisher.gateways.epics.simulator import SimulatedIoc, simulate_images
from scanbus.publisher.gateways.epics.slow_pv import channels_of

# It prints to stderr itself, also what we say in our own words.
if "PVXS_LOG" not in os.environ:
    logger_level_set("pvxs.*", logLevelOff)

__all__ = [
    "PvaGateway",
    "PvaSettings",
    "SimulatedIoc",
    "channels_of",
    "simulate_images",
]
