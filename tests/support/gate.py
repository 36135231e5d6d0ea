"""A gateway that runs in a thread of a test."""

import threading
from typing import Any

from scanbus.publisher.gateways.runner import (
    GatewayReport,
    GatewayRunner,
    GatewaySettings,
    ScanNames,
)
from tests.support.gateway_senders import HasGateway

__all__ = ["NAMES", "Gate"]

NAMES = ScanNames("eiger", {"proposal": "hg1", "collection": "sample"})


class Gate:
    """A gateway that runs in a thread, to be stopped and asked what it did."""

    def __init__(
        self, sender: HasGateway, url: str, names: ScanNames = NAMES, **settings: Any
    ) -> None:
        self.runner = GatewayRunner(
            sender.gateway(), GatewaySettings(url, names, **settings), self._progress
        )
        self.n_frames = 0
        self._reports: list[GatewayReport] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._reports.append(self.runner.run())

    def _progress(self, *_: object) -> None:
        self.n_frames += 1

    def report(self) -> GatewayReport:
        """Wait until it has ended by itself."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self._reports[0]

    def stop(self) -> GatewayReport:
        self.runner.stop("stopped by the test")
        return self.report()
