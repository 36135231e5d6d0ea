"""What all gateways of streams share: receive, queue, make scans, report.

A gateway translates the messages of its sender to `Message`; the runner does the rest.
"""

from scanbus.publisher.gateways.runner.gateway import Gateway, RawMessage, Source
from scanbus.publisher.gateways.runner.metrics import metrics_served
from scanbus.publisher.gateways.runner.report import GatewayReport
from scanbus.publisher.gateways.runner.runner import GatewayRunner
from scanbus.publisher.gateways.runner.settings import GatewaySettings, ScanNames
from scanbus.publisher.gateways.runner.signals import stopped_by_signals

__all__ = [
    "Gateway",
    "GatewayReport",
    "GatewayRunner",
    "GatewaySettings",
    "RawMessage",
    "ScanNames",
    "Source",
    "metrics_served",
    "stopped_by_signals",
]
