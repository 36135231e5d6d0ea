"""What the writer tells Prometheus, where it is configured to.

The verdicts counted here are the ones that stand in the masters and on the bus.
"""

from __future__ import annotations

from typing import Protocol

from scanbus.schemas import Verdict, VerdictWord
from scanbus.schemas.errors import ConfigurationError

__all__ = ["Metrics", "NoMetrics", "PrometheusMetrics", "make_metrics"]


class Metrics(Protocol):
    """Where the writer counts what it does."""

    def judged(self, verdict: Verdict) -> None:
        """Count a final verdict and the points that it accounts for."""

    def state(self, *, unfinished: int, in_trouble: int, free_bytes: int) -> None:
        """Say how many scans are open, how many of them paused, and the free disk."""

    def close(self) -> None:
        """Stop answering."""


class NoMetrics:
    """Nobody asks."""

    def judged(self, verdict: Verdict) -> None:
        """Count nothing."""

    def state(self, *, unfinished: int, in_trouble: int, free_bytes: int) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Nothing is open."""


class PrometheusMetrics:
    """Metrics over HTTP, in a registry of their own.

    Parameters
    ----------
    port : int
        On all addresses of this machine; 0 for any free one.
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
        """Count a final verdict and the points that it accounts for."""
        self._scans.labels(verdict.verdict.value).inc()
        for ledger in verdict.channels.values():
            self._points.labels("written").inc(ledger.written)
            self._points.labels("missing").inc(ledger.expected - ledger.written)

    def state(self, *, unfinished: int, in_trouble: int, free_bytes: int) -> None:
        """Say how many scans are open, how many of them paused, and the free disk."""
        self._unfinished.set(unfinished)
        self._in_trouble.set(in_trouble)
        self._free.set(free_bytes)

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def make_metrics(port: int | None) -> Metrics:
    """Return metrics on a port, or none.

    Raises
    ------
    ConfigurationError
        If the port is taken, or the extra ``metrics`` is not installed.
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
