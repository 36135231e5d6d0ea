"""A network between a process and Redis that can be cut, slowed or half-open.

Threads and sockets; whoever connects to the proxy's port speaks to the server behind.
"""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self

__all__ = ["Proxy"]

_PIECE = 1 << 16


class Proxy:
    """One proxy in front of one server, for all connections of one process.

    Parameters
    ----------
    port : int
        Where the server listens, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open = True
        self._is_cut = False
        self._delay_s = 0.0
        self._deaf: set[socket.socket] = set()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        # Wakes the thread that accepts; closing alone would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drop_all()

    def cut(self) -> None:
        """Break all connections and refuse new ones until it is healed."""
        self._is_cut = True
        self._drop_all()

    def slow(self, delay_s: float) -> None:
        """Delay every piece in both directions."""
        self._delay_s = delay_s

    def half_open(self) -> None:
        """Swallow what comes over the connections that stand, and answer nothing.

        They stay so for ever: only a deadline of their own tells the two ends.
        """
        with self._lock:
            self._deaf |= self._sockets

    def heal(self) -> None:
        """Let new connections through, at full speed."""
        self._is_cut = False
        self._delay_s = 0.0

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port), 5)
            except OSError:  # Redis was killed.
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._sockets |= {client, server}
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(_PIECE):
                if self._delay_s:
                    time.sleep(self._delay_s)
                if source in self._deaf:
                    continue
                target.sendall(data)
        except OSError:
            pass
        if source not in self._deaf:
            self._drop(source, target)

    def _drop_all(self) -> None:
        with self._lock:
            sockets = tuple(self._sockets)
        self._drop(*sockets)

    def _drop(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        with self._lock:
            self._sockets -= set(sockets)
            self._deaf -= set(sockets)
