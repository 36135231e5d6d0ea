"""A gateway on the bus and towards systemd: alive, and what it does.

A thread renews the heartbeat also between series, while nothing else of the gateway
talks to Redis. What the gateway says of itself stays when it is killed; its successor
finds there the series that was on the way.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Self

from scanbus.bus.protocol import HEARTBEAT_S, HEARTBEAT_TTL_MS
from scanbus.bus.store import (
    Bus,
    beat_gateway,
    connect,
    gateway_owner,
    is_dead_here,
    note_gateway,
    process_text,
    read_gateway,
    refuse_unsuitable,
    remove_gateway,
    translated,
)
from scanbus.schemas.errors import BusUnavailableError, ConfigurationError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.schemas.systemd import notify

__all__ = ["Presence"]

log = get_logger()

_POLL_S = 0.1


class Presence:
    """The heartbeat of one gateway; a context manager.

    Parameters
    ----------
    url : str
        Address of Redis.
    name : str
        Names the gateway: its kind, and the address from which it receives.
    status : callable
        Returns what it does, as JSON has it.
    is_alive : callable
        Returns whether its threads go on: if not, systemd is not told that they do.
    """

    def __init__(
        self,
        url: str,
        name: str,
        status: Callable[[], Mapping[str, Any]],
        is_alive: Callable[[], bool],
    ) -> None:
        self._url = url
        self._name = name
        self._status = status
        self._is_alive = is_alive
        # With a token: several gateways of one process differ.
        self._owner = process_text(f"{secrets.token_hex(4)} gateway {name}")
        self._found: dict[str, Any] = {}
        self._client: Bus
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._was_away = False
        self._thread = threading.Thread(
            target=self._run, name="scanbus-presence", daemon=True
        )

    def __enter__(self) -> Self:
        """Take the gateway's name, as soon as a dead process has lost it.

        Raises
        ------
        ConfigurationError
            If another gateway receives from that address.
        BusUnavailableError
            If Redis does not answer.
        BusUnsuitableError
            If the bus cannot live on it.
        """
        self._client = connect(self._url, name="scanbus-gateway")
        try:
            with translated(self._url):
                refuse_unsuitable(self._client, self._url)
                self._claim()
                self._found = read_gateway(self._client, self._name)
        except BaseException:
            self._client.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bus; what a successor has to go on with stays."""
        notify("STOPPING=1")
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()
        try:
            with self._lock, translated(self._url):
                is_over = not self._status().get("on_the_way")
                remove_gateway(self._client, self._name, self._owner, is_over=is_over)
        except BusUnavailableError as failure:
            log.warning(LogEvent.BUS_LOST, reason=failure.reason)
        self._client.close()

    def start(self) -> None:
        """Renew the heartbeat and note what is done, from now on.

        Not before `found` was asked: the first note takes the place of the last one.
        """
        self._thread.start()

    def found(self, key: str) -> list[Any]:
        """Return a list that a gateway of this name noted, and did not end in order."""
        listed = self._found.get(key)
        return listed if isinstance(listed, list) else []

    def _claim(self) -> None:
        deadline = monotonic() + HEARTBEAT_TTL_MS / 1000 + HEARTBEAT_S
        is_said = False
        while True:
            other = gateway_owner(self._client, self._name) or ""
            instead_of = other if is_dead_here(other) else ""
            if self._beat(instead_of=instead_of):
                return
            if monotonic() > deadline:
                where = other.partition(" on ")[2].partition(" of ")[0]
                raise ConfigurationError(
                    "address",
                    f"another gateway receives from {self._name}, on {where}. Each of "
                    "them would get a part of the messages: stop one",
                )
            if not is_said:
                log.info(LogEvent.GATEWAY_WAITING, gateway=self._name, other=other)
                is_said = True
            self._is_over.wait(_POLL_S)

    def _beat(self, *, instead_of: str = "") -> bool:
        return beat_gateway(
            self._client,
            self._name,
            self._owner,
            HEARTBEAT_TTL_MS,
            instead_of=instead_of,
        )

    def note(self) -> None:
        """Note at once what the gateway does.

        Raises
        ------
        BusUnavailableError
            If Redis does not answer.
        """
        with self._lock, translated(self._url):
            note_gateway(self._client, self._name, self._status())

    def _run(self) -> None:
        while not self._is_over.is_set():
            if self._is_alive():
                notify("WATCHDOG=1")
            self._renew()
            self._is_over.wait(HEARTBEAT_S)

    def _renew(self) -> None:
        try:
            with self._lock, translated(self._url):
                is_ours = self._beat()
                if is_ours:
                    note_gateway(self._client, self._name, self._status())
        except BusUnavailableError as error:
            if not self._was_away:
                log.warning(LogEvent.BUS_LOST, reason=error.reason)
            self._was_away = True
            return
        if not is_ours:
            log.error(LogEvent.GATEWAY_REPLACED, gateway=self._name)
        self._was_away = False
