"""A proxy that changes one bit of one value in transit to Redis."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

import numpy as np

from benchmarks.peer.content import values

_PIECE = 1 << 16


class DamagingProxy:
    """Proxy of one server; damages the first of these points of `channel` that it sees.

    Parameters
    ----------
    port : int
        Port of the server on 127.0.0.1.
    channel : str
        A counter: both systems send its float64 values as they are.
    points : range
        One of them is damaged. Several, as a value may be split over two reads.
    """

    def __init__(self, port: int, channel: str, points: range) -> None:
        self._server_port = port
        data = values(channel)
        self._marks = [np.float64(data[point]).tobytes() for point in points]
        self.n_damaged = 0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port), 5)
            except OSError:
                return
            server.settimeout(None)
            self._sockets += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(_PIECE):
                target.sendall(self._damaged(data))
        except OSError:
            pass
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _damaged(self, data: bytes) -> bytes:
        with self._lock:
            for mark in () if self.n_damaged else self._marks:
                at = data.find(mark)
                if at >= 0:
                    self.n_damaged += 1
                    # The lowest bit of the mantissa's third byte: a plausible value.
                    return data[: at + 2] + bytes([data[at + 2] ^ 1]) + data[at + 3 :]
        return data
