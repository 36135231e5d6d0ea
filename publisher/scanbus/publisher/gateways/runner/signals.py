"""Stop a gateway in order when its process is told to end."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from scanbus.publisher.gateways.runner.runner import GatewayRunner

__all__ = ["stopped_by_signals"]


@contextmanager
def stopped_by_signals(runner: GatewayRunner) -> Iterator[None]:
    """Have SIGTERM and Ctrl-C stop a gateway in order; Ctrl-C again interrupts."""

    def stop(number: int, _frame: FrameType | None) -> None:
        runner.stop(f"the gateway was stopped by {signal.Signals(number).name}")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before: Mapping[int, Any] = {
        number: signal.signal(number, stop)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
