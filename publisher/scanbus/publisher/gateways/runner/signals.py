"""Stop a gateway in order when its process is told to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from scanbus.publisher.gateways.runner.runner import GatewayRunner
from scanbus.schemas.exit_codes import ExitCode

__all__ = ["stopped_by_signals"]

_CODES: Mapping[int, ExitCode] = {
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGINT: ExitCode.INTERRUPTED,
}


@contextmanager
def stopped_by_signals(
    runner: GatewayRunner, leave_on_interrupt: Callable[[], None]
) -> Iterator[None]:
    """Have SIGTERM and Ctrl-C stop a gateway in order; a second one ends it at once.

    Its next start goes on with what it leaves then, as after a kill.

    Parameters
    ----------
    leave_on_interrupt : callable
        Has Ctrl-C end the process at once from then on.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        runner.stop(f"the gateway was stopped by {name}", _CODES[number])
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        leave_on_interrupt()

    before: Mapping[int, Any] = {
        number: signal.signal(number, stop) for number in _CODES
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
