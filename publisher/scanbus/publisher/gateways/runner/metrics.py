"""Prometheus metrics of a gateway, over HTTP. Needs the extra ``metrics``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scanbus.publisher.gateways.runner.receiver import QueueState
from scanbus.publisher.gateways.runner.runner import GatewayRunner
from scanbus.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["metrics_served"]

_GAUGES: tuple[tuple[str, str, Callable[[QueueState], float]], ...] = (
    ("queue_messages", "Messages that wait", lambda queue: queue.n_messages),
    ("queue_bytes", "Bytes that wait", lambda queue: queue.n_bytes),
    ("queue_peak_bytes", "Most bytes that waited", lambda queue: queue.peak_bytes),
    ("queue_full_seconds", "Nothing was received", lambda queue: queue.full_s),
)


@contextmanager
def metrics_served(runner: GatewayRunner, port: int) -> Iterator[int]:
    """Serve the metrics of a gateway while the block runs; yield the port.

    Parameters
    ----------
    port : int
        TCP port on all addresses of this host; 0 for any free port.

    Raises
    ------
    ConfigurationError
        If the port is taken.
    ImportError
        If the extra is not installed.
    """
    from prometheus_client import (  # noqa: PLC0415 - an optional extra
        CollectorRegistry,
        start_http_server,
    )

    registry = CollectorRegistry()
    registry.register(_Collector(runner))
    try:
        server, thread = start_http_server(port, registry=registry)
    except OSError as error:
        raise ConfigurationError("metrics_port", f"{port}: {error.strerror}") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector:
    """Asks the runner when the metrics are read."""

    def __init__(self, runner: GatewayRunner) -> None:
        self._runner = runner

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        from prometheus_client.core import (  # noqa: PLC0415 - an optional extra
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        queue = self._runner.queue
        for name, meaning, value in _GAUGES:
            yield GaugeMetricFamily(f"scanbus_gateway_{name}", meaning, value(queue))
        doing = GaugeMetricFamily(
            "scanbus_gateway_doing",
            "What it does; while its queue grows, what it waits for",
            labels=["what"],
        )
        doing.add_metric([self._runner.doing.what], 1)
        yield doing
        frames = CounterMetricFamily(
            "scanbus_gateway_frames", "Frames by what became of them", labels=["fate"]
        )
        totals = self._runner.totals
        for fate in ("frames", "missing", "repeated"):
            frames.add_metric([fate.replace("frames", "sent")], getattr(totals, fate))
        yield frames
        report = self._runner.so_far
        for name, meaning, count in (
            ("values_left_out", "Values that are holes", totals.left_out),
            ("messages_refused", "Messages that cannot be used", report.refused),
            ("series", "Series that ended", len(report.series)),
            ("series_failed", "Series whose scan failed", len(report.failed)),
        ):
            yield CounterMetricFamily(f"scanbus_gateway_{name}", meaning, count)
