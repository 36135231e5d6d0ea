"""Ask a DECTRIS detector for its configuration, over its REST interface.

For series whose header was missed, or says nothing about the detector. What it answers
is untrusted, as the stream is.

References
----------
SIMPLON API 1.8: ``GET /detector/api/VERSION/config/KEY`` returns a JSON object with
``value``; ``GET /detector/api/version`` does so for the version.
"""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from time import monotonic
from typing import Any, Final, Self
from urllib.parse import urlsplit

from scanbus.publisher.gateways.runner.messages import SeriesStarted
from scanbus.publisher.gateways.wire.json_part import read_object, shown
from scanbus.publisher.gateways.wire.nexus_fields import KEYS_V1, described_v1
from scanbus.schemas.errors import ConfigurationError, MessageError

__all__ = ["RestConfiguration"]

_VERSION: Final = re.compile(r"\d{1,3}(\.\d{1,3}){1,3}")
_MAX_ANSWER_BYTES = 2**20
# Frames wait for it in the queue, so all keys together have this long.
_TIMEOUT_S = 3.0
_OK, _NOT_FOUND = 200, 404


class RestConfiguration:
    """Reads the configuration of one detector.

    Parameters
    ----------
    address : str
        Of the detector's control unit: ``http://HOST`` or ``http://HOST:PORT``.
    timeout_s : float
        How long all answers may take together, in seconds.

    Raises
    ------
    ConfigurationError
        If the address is none.
    """

    def __init__(self, address: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._address = address
        self._timeout_s = timeout_s
        try:
            parts = urlsplit(address)
            self._host, self._port = parts.hostname or "", parts.port or 80
        except ValueError as error:
            raise ConfigurationError("rest", f"{address!r}: {error}") from error
        if parts.scheme != "http" or not self._host or parts.path not in {"", "/"}:
            raise ConfigurationError("rest", f"{address!r}: expected http://HOST:PORT")

    def describe(self, started: SeriesStarted) -> SeriesStarted:
        """Return the start of a series with the detector's present configuration.

        Raises
        ------
        ConfigurationError
            If the detector does not answer, or answers something else.
        """
        config = self._read()
        found = described_v1(started.series, config, {})
        n_frames = found.n_frames if started.n_frames is None else started.n_frames
        metadata = {**found.metadata, **started.metadata}
        return replace(
            started, n_frames=n_frames, fields=found.fields, metadata=metadata
        )

    def _read(self) -> dict[str, Any]:
        deadline = monotonic() + self._timeout_s
        try:
            with _Connection(self._host, self._port, self._timeout_s) as connection:
                folder = f"{self._version(connection)}/config"
                values = {
                    key: self._value(connection, f"{folder}/{key}") for key in KEYS_V1
                }
        except (OSError, HTTPException, MessageError) as error:
            reason = str(error) or type(error).__name__
            if monotonic() >= deadline:
                reason = f"not all of it came in {self._timeout_s:g} s"
            text = f"{self._address} does not tell the configuration: {reason}"
            raise ConfigurationError("rest", text) from error
        return {key: value for key, value in values.items() if value is not None}

    def _version(self, connection: _Connection) -> str:
        found = self._value(connection, "version")
        if not isinstance(found, str) or not _VERSION.fullmatch(found):
            raise MessageError(self._address, f"version {shown(found)}")
        return found

    def _value(self, connection: _Connection, path: str) -> Any:
        """Return the value below a path; None if the detector has no such key."""
        where = f"{self._address}, {path}"
        status, body = connection.get(f"/detector/api/{path}")
        if status == _NOT_FOUND:
            return None
        if status != _OK:
            raise MessageError(where, f"status {status}")
        if len(body) > _MAX_ANSWER_BYTES:
            raise MessageError(where, f"more than {_MAX_ANSWER_BYTES} bytes")
        return read_object(where, body).get("value")


class _Connection:
    """HTTP with one deadline for all: a timeout of a socket is one of each packet."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._http = HTTPConnection(host, port, timeout=timeout_s)
        self._sockets: list[socket.socket] = []
        self._is_late = threading.Event()
        self._deadline = threading.Timer(timeout_s, self._cut)

    def __enter__(self) -> Self:
        self._deadline.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._deadline.cancel()
        self._http.close()

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body, of which all after the bound is left out."""
        if self._http.sock is None:
            self._http.connect()
        if self._http.sock is not None and self._http.sock not in self._sockets:
            self._sockets.append(self._http.sock)
        if self._is_late.is_set():
            raise TimeoutError
        self._http.request("GET", path)
        answer = self._http.getresponse()
        return answer.status, answer.read(_MAX_ANSWER_BYTES + 1)

    def _cut(self) -> None:
        self._is_late.set()
        for each in tuple(self._sockets):
            with suppress(OSError):  # It is closed already.
                each.shutdown(socket.SHUT_RDWR)
