"""A gateway as a process, to be killed and started again."""

import multiprocessing
from collections.abc import Callable
from typing import Any

from scanbus.bus.store import connect
from scanbus.cli.logs import log_to_stderr
from scanbus.publisher.gateways.runner import (
    Gateway,
    GatewayRunner,
    GatewaySettings,
    ScanNames,
)
from tests.support.waiting import wait_until

__all__ = ["GatewayProcess", "wait_alive"]

_TIMEOUT_S = 90


def wait_alive(url: str, pid: int) -> None:
    """Wait until the gateway of a process is on the bus.

    A sender's socket learns of the death of the one before in some milliseconds;
    what it sends meanwhile is lost.
    """

    def is_alive() -> bool:
        with connect(url, name="test") as client:
            owners = [client.get(key) for key in client.keys("scanbus:gateway:*")]
        return any(f"pid {pid} of".encode() in (owner or b"") for owner in owners)

    wait_until(is_alive)


class GatewayProcess:
    """Runs a gateway in a process of its own.

    Parameters
    ----------
    make : callable
        Makes the gateway, in that process.
    settings
        Further arguments of `GatewaySettings`.
    """

    def __init__(
        self, make: Callable[[], Gateway], url: str, names: ScanNames, **settings: Any
    ) -> None:
        made = GatewaySettings(url, names, **settings)
        # A new interpreter: sockets and threads of this one are not inherited.
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_run, args=(make, made), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill it, as the kernel or a power switch does."""
        self._process.kill()
        self._process.join(_TIMEOUT_S)

    def wait(self) -> None:
        """Wait until it has ended by itself, without an error."""
        self._process.join(_TIMEOUT_S)
        assert self._process.exitcode == 0

    def close(self) -> None:
        """Kill it if it runs."""
        if self._process.is_alive():
            self.kill()


def _run(make: Callable[[], Gateway], settings: GatewaySettings) -> None:
    log_to_stderr()
    GatewayRunner(make(), settings).run()
