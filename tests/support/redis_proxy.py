"""A proxy in front of a real Redis that answers chosen commands itself.

It speaks Redis' protocol: it reads a client's commands one by one, forwards each to the
server and the reply back, and on request answers in the server's place: with any error,
with any other (wrong) reply, or by closing the connection. Everything else is real.

::

    with RedisProxy(server.url) as proxy, Publisher(proxy.url) as publisher:
        # The third and the fourth XADD get this error; the server does not get them.
        fault = proxy.answer("XADD", error("OOM no memory"), skip=2, times=2)
        ...
        assert fault.wait()  # Both were answered.

        # Until it is stopped, half of all commands on cursors get a wrong reply.
        fault = proxy.answer("*", b"+OK\\r\\n", key="*:cursors", times=None, chance=0.5)
        ...
        fault.stop()

        # The server has executed the command, but its reply never arrives.
        proxy.answer("EVAL", CLOSE, executes=True)

        proxy.drop_all()  # Close all connections once.
        proxy.seen["XADD"]  # Commands so far.

What a command inside ``MULTI`` is answered with also makes the server refuse the
``EXEC``, as Redis does (``EXECABORT``). `ERRORS` has an error of each kind that Redis
is known to answer, `WRONG_REPLIES` well-formed replies of the wrong type, and
`BROKEN_REPLIES` bytes that are no reply. All methods may be called from any thread.
"""

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from io import BufferedReader
from types import TracebackType
from typing import Final, Self

__all__ = [
    "BROKEN_REPLIES",
    "CLOSE",
    "ERRORS",
    "WRONG_REPLIES",
    "Fault",
    "RedisProxy",
    "error",
]

CLOSE: Final = b""
"""In place of a reply: the connection is closed."""


def error(text: str) -> bytes:
    """Return the reply of an error, such as ``NOPERM this user has no permissions``."""
    return f"-{text}\r\n".encode()


ERRORS: Final[dict[str, bytes]] = {
    text.split(maxsplit=1)[0]: error(text)
    for text in (
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots, but cannot persist on disk",
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL",
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "MOVED 3999 127.0.0.1:1",
        "ASK 3999 127.0.0.1:1",
        "CROSSSLOT Keys in request don't hash to the same slot",
        "UNBLOCKED client unblocked via CLIENT UNBLOCK",
        "NOPERM this user has no permissions to run the command",
        "NOAUTH Authentication required.",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "NOSCRIPT No matching script. Please use EVAL.",
        "EXECABORT Transaction discarded because of previous errors.",
        "NOGROUP No such key or consumer group",
        "INPROG Failover already in progress.",
        "NOPROTO unsupported protocol version",
        "NOTBUSY No scripts in execution right now.",
        "BUSYKEY Target key name already exists.",
        "IOERR error or timeout reading to target instance",
        "ERR unknown command, with args beginning with: ",
        "SOMETHING that nobody knows",
    )
} | {
    "script": error(
        "ERR Error running script (call to f_1): @user_script:1: user_script:2: x"
    ),
    "max clients": error("ERR max number of clients reached"),
    "empty": error(""),
}
"""Errors by their first word."""

WRONG_REPLIES: Final[tuple[bytes, ...]] = (
    b"+OK\r\n",
    b":-1\r\n",
    b":7\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"$0\r\n\r\n",
    b"$5\r\nhello\r\n",
    b"*0\r\n",
    b"*1\r\n*1\r\n:5\r\n",
    b"*2\r\n$3\r\n1-1\r\n*-1\r\n",
    b"*2\r\n$1\r\nx\r\n*1\r\n*2\r\n$3\r\nabc\r\n*2\r\n$3\r\ndoc\r\n$2\r\n{}\r\n",
)
"""Well-formed replies, each of them the wrong one to most commands."""

BROKEN_REPLIES: Final[tuple[bytes, ...]] = (
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"$-7\r\n",
    b"*99999999999999999999\r\n",
    b"?\r\n",
)
"""Bytes that are no reply; the connection is closed behind them."""

# Not a command: the server answers with an error, and refuses the EXEC of a MULTI.
_REFUSED = b"*1\r\n$13\r\nPROXY.REFUSED\r\n"
_LINES, _BULKS, _ARRAYS, _PAIRS = b"+-:,#_(", b"$=!", b"*~>", b"%|"


class Fault:
    """What a proxy answers to some commands; made by :meth:`RedisProxy.answer`.

    Attributes
    ----------
    n_answered : int
        How many commands were answered so far.
    """

    def __init__(
        self,
        command: str,
        replies: Sequence[bytes],
        *,
        key: str,
        skip: int,
        times: int | None,
        chance: float,
        seed: int,
        executes: bool,
        delay_s: float,
    ) -> None:
        self._words = command.upper().split()
        self._replies = tuple(replies)
        self._key = key
        self._skip = skip
        self._left = times
        self._chance = chance
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self.executes = executes
        self.delay_s = delay_s
        self.n_answered = 0

    def stop(self) -> None:
        """Answer no more commands."""
        self._is_over.set()

    def wait(self, timeout_s: float = 30) -> bool:
        """Wait until all `times` commands were answered; return whether they were."""
        return self._is_over.wait(timeout_s)

    def reply_to(self, command: Sequence[bytes]) -> bytes | None:
        """Return the reply to one command; None if the server answers it."""
        if self._is_over.is_set() or not self._fits(command):
            return None
        with self._lock:
            if self._is_over.is_set() or self._random.random() >= self._chance:
                return None
            if self._skip:
                self._skip -= 1
                return None
            self.n_answered += 1
            if self._left is not None:
                self._left -= 1
                if not self._left:
                    self._is_over.set()
            return self._random.choice(self._replies)

    def _fits(self, command: Sequence[bytes]) -> bool:
        words = [_text(part).upper() for part in command[: len(self._words)]]
        if self._words not in (["*"], words):
            return False
        arguments = [_text(part) for part in command[1:] if len(part) < 1024]
        return self._key == "*" or any(
            fnmatchcase(argument, self._key) for argument in arguments
        )


class RedisProxy:
    """A proxy in front of one server; a context manager.

    Parameters
    ----------
    url : str
        The server: ``redis://host:port`` or ``unix:///path``.

    Attributes
    ----------
    url : str
        Where clients connect to the proxy.
    seen : collections.Counter
        How often each command came, by its first word.
    """

    def __init__(self, url: str) -> None:
        self._server_url = url
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self.seen: Counter[str] = Counter()
        self._faults: list[Fault] = []
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_open = True
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_open = False
        with contextlib.suppress(OSError):  # Wakes the thread that accepts.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5)
        self._listener.close()
        self.drop_all()

    def answer(
        self,
        command: str,
        *replies: bytes,
        key: str = "*",
        skip: int = 0,
        times: int | None = 1,
        chance: float = 1.0,
        seed: int = 0,
        executes: bool = False,
        delay_s: float = 0.0,
    ) -> Fault:
        """Answer some commands in the server's place, from now on.

        Parameters
        ----------
        command : str
            Its first words, such as ``XADD`` or ``CLIENT SETINFO``; ``*`` for any.
        *replies : bytes
            One of them, at random, is the answer: `error`, raw bytes, or `CLOSE`.
        key : str
            Pattern of a key or another argument that the command must have.
        skip : int
            How many such commands the server still answers first.
        times : int or None
            How many are answered; None for all until the fault is stopped.
        chance : float
            Probability that such a command counts at all.
        seed : int
            Of chances and choices.
        executes : bool
            Whether the server executes the command nevertheless.
        delay_s : float
            How long the answer takes, in seconds.
        """
        fault = Fault(
            command,
            replies,
            key=key,
            skip=skip,
            times=times,
            chance=chance,
            seed=seed,
            executes=executes,
            delay_s=delay_s,
        )
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Let the server answer everything again."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.stop()

    def drop_all(self) -> None:
        """Close all connections; clients may connect again."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            _close(each)

    # ---------------------------------------------------------------- threads

    def _accept(self) -> None:
        while self._is_open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:  # The server was killed.
                _close(client)
                continue
            with self._lock:
                self._sockets |= {client, server}
            pair = client, server
            threading.Thread(target=self._serve, args=pair, daemon=True).start()

    def _connect(self) -> socket.socket:
        scheme, _, address = self._server_url.partition("://")
        if scheme == "unix":
            server = socket.socket(socket.AF_UNIX)
            server.connect(address)
            return server
        host, _, port = address.partition("/")[0].rpartition(":")
        return socket.create_connection((host, int(port)))

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        try:
            with client.makefile("rb") as asks, server.makefile("rb") as answers:
                while (asked := _read_command(asks)) is not None:
                    reply = self._exchange(*asked, server, answers)
                    if reply == CLOSE:
                        break
                    client.sendall(reply)
                    if reply in BROKEN_REPLIES:
                        break
        except (OSError, EOFError, ValueError):
            pass
        for each in (client, server):
            _close(each)
        with self._lock:
            self._sockets -= {client, server}

    def _exchange(
        self,
        raw: bytes,
        command: Sequence[bytes],
        server: socket.socket,
        answers: BufferedReader,
    ) -> bytes:
        """Return the reply to one command, the server's or another."""
        with self._lock:
            self.seen[_text(command[0]).upper()] += 1
            faults = tuple(self._faults)
        for fault in faults:
            reply = fault.reply_to(command)
            if reply is not None:
                server.sendall(raw if fault.executes else _REFUSED)
                _read_reply(answers)
                time.sleep(fault.delay_s)
                return reply
        server.sendall(raw)
        return _read_reply(answers)


def _text(part: bytes) -> str:
    return part.decode("latin-1")


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


def _read_command(asks: BufferedReader) -> tuple[bytes, list[bytes]] | None:
    """Return the next command, raw and in parts; None at the end."""
    head = asks.readline()
    if not head:
        return None
    if not head.startswith(b"*"):
        raise ValueError(f"not a command: {head!r}")
    raw, parts = [head], []
    for _ in range(int(head[1:])):
        size = asks.readline()
        data = _read(asks, int(size[1:]) + 2)
        raw += [size, data]
        parts.append(data[:-2])
    return b"".join(raw), parts


def _read_reply(answers: BufferedReader) -> bytes:
    """Return the bytes of the next reply, of RESP2 or RESP3."""
    head = answers.readline()
    if not head:
        raise EOFError
    kind, rest = head[:1], head[1:]
    if kind in _LINES:
        return head
    n = int(rest)
    if kind in _BULKS:
        return head + (_read(answers, n + 2) if n >= 0 else b"")
    n_items = max(0, n) * (2 if kind in _PAIRS else 1)
    return head + b"".join(_read_reply(answers) for _ in range(n_items))


def _read(stream: BufferedReader, n: int) -> bytes:
    data = stream.read(n)
    if len(data) < n:
        raise EOFError
    return data
