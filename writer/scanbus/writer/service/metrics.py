"""Prometheus metrics of the writer, if configured.

The verdicts counted here are those in the masters and on the bus.
"""

from __future__ import annotations

from typing import Protocol

from scanbus.schemas import Verdict, VerdictWord
from scanbus.schemas.errors import ConfigurationError

__all__ = ["Metrics", "NoMetrics", "PrometheusMetrics", "make_metrics"]


class Metrics(Protocol):
    """Metrics of the writer service."""

    def judged(self, verdict: Verdict) -> None:
        """Count a final verdict, and the written and missing points of its scan."""

    def state(self, *, unfinished: int, in_trouble: int, free_bytes: int) -> None:
        """Set the gauges: open scans, paused or stalled ones, free disk space."""

    def close(self) -> None:
        """Stop the HTTP server."""


class NoMetrics:
    """Disabled metrics."""

    def judged(self, verdict: Verdict) -> None:
        """Do nothing."""

    def state(self, *, unfinished: int, in_trouble: int, free_bytes: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class PrometheusMetrics:
    """Metrics over HTTP, in a separate registry.

    Parameters
    ----------
    port : int
        TCP port on all addresses of this host; 0 for any free port.
    """

    def __init__(self, port: int) -> None:
        from prometheus_client import (  # noqa: PLC0415  (an optional extra)
            CollectorRegistry,
            Counter,
            Gauge,
            start_http_server,
        )

        registry = CollectorRegistry()
        self._scans = Counter(
            "scanbus_scans",
            "Scans with a final verdict",
            ["verdict"],
            registry=registry,
        )
        for word in VerdictWord:
            self._scans.labels(word.value)
        self._points = Counter(
            "scanbus_points", "Points of finished scans", ["fate"], registry=registry
        )
        self._unfinished = Gauge(
            "scanbus_scans_unfinished", "Scans without one", registry=registry
        )
        self._in_trouble = Gauge(
            "scanbus_scans_in_trouble", "Scans paused or stalled", registry=registry
        )
        self._free = Gauge(
            "scanbus_disk_free_bytes", "Free below the root", registry=registry
        )
        self._server, self._thread = start_http_server(port, registry=registry)
        self.port: int = self._server.server_port

    def judged(self, verdict: Verdict) -> None:
        """Count a final verdict, and the written and missing points of its scan."""
        self._scans.labels(verdict.verdict.value).inc()
        for ledger in verdict.of_data.values():
            self._points.labels("written").inc(ledger.written)
            self._points.labels("missing").inc(ledger.expected - ledger.written)

    def state(self, *, unfinished: int, in_trouble: int, free_bytes: int) -> None:
        """Set the gauges: open scans, paused or stalled ones, free disk space."""
        self._unfinished.set(unfinished)
        self._in_trouble.set(in_trouble)
        self._free.set(free_bytes)

    def close(self) -> None:
        """Stop the HTTP server and join its thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def make_metrics(port: int | None) -> Metrics:
    """Return metrics on a port, or disabled ones if `port` is None.

    Raises
    ------
    ConfigurationError
        If the port is in use, or the extra ``metrics`` is not installed.
    """
    if port is None:
        return NoMetrics()
    try:
        return PrometheusMetrics(port)
    except ImportError as error:
        raise ConfigurationError(
            "metrics_port", "needs prometheus-client: pip install scanbus[metrics]"
        ) from error
    except OSError as error:
        raise ConfigurationError("metrics_port", f"{port}: {error.strerror}") from error
