"""Connections to Redis: settings of the client, translation of its errors.

The only place that depends on redis-py's settings and error messages. Nothing
reconnects silently: after a lost connection, the owner must check what Redis still
holds.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeAlias

from scanbus.bus.store.lazy_redis import redis
from scanbus.bus.store.resp import CommandPacker
from scanbus.bus.store.server_address import ServerAddress
from scanbus.schemas.errors import (
    BusRefusedError,
    BusUnavailableError,
    BusUnsuitableError,
    ServerAddressError,
)

__all__ = [
    "CLUSTER_NODE",
    "Bus",
    "connect",
    "no_room_reason",
    "ping",
    "translated",
]

Bus: TypeAlias = "redis.Redis"
"""A client of Redis that returns raw replies for streams."""

# Entries have megabytes: reading 64 KiB at a time would need many system calls.
_READ_BYTES = 1 << 20
CLUSTER_NODE = (
    "it is a node of a Redis Cluster, which holds a part of the keys only; give the "
    "address of a Redis that is not in cluster mode"
)
# These errors are temporary: they end when Redis has memory, a disk, its data, its
# master or its replicas again. Scripts and transactions quote them in their own errors.
_NO_ROOM = re.compile(
    r"\b(OOM|MISCONF|LOADING|READONLY|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|NOREPLICAS|BUSY)\b"
)


def connect(
    url: str,
    *,
    name: str,
    timeout_s: float = 10.0,
    once: bool = False,
    read_bytes: int = _READ_BYTES,
) -> Bus:
    """Return a client of the Redis at `url`; it connects with the first command.

    Parameters
    ----------
    url : str
        ``redis://host:port/db``, ``rediss://…`` (TLS) or ``unix:///path``.
    name : str
        Name in ``CLIENT LIST``; letters, digits, ``-``.
    timeout_s : float
        Timeout of connecting (at most 5 s) and of each reply, in seconds; blocking
        reads must be shorter.
    once : bool
        Connect at most once: after the connection was lost every command fails, so
        that the owner notices. A publisher must check the lanes before it continues.
    read_bytes : int
        Size of the buffer into which replies are read. Each connection has one, so it
        is small where many are made and replies are short.

    Raises
    ------
    ServerAddressError
        If `url` does not have one of these forms.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 5.0),
        "client_name": name,
        "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": False,
        "socket_read_size": read_bytes,
        "parser_class": _parser,
        "command_packer": CommandPacker(),
        "health_check_interval": 0,
        **_without_driver_info(),
    }
    if once:
        options["redis_connect_func"] = _ConnectOnce()
        options["max_connections"] = 1
    client = _client(ServerAddress(url), options)
    for command in ("XREAD", "XRANGE", "XREVRANGE"):
        client.set_response_callback(command, _unchanged)
    return client


def _client(address: ServerAddress, options: dict[str, Any]) -> Bus:
    try:
        client = redis.Redis.from_url(address.secret, **options)
        # Created and discarded: this is what raises for unknown options in the URL.
        pool = client.connection_pool
        trial: dict[str, Any] = {**pool.connection_kwargs, "socket_read_size": 1}
        pool.connection_class(**trial)
    except (ValueError, TypeError):
        client = None
    # Not from that error, which may quote the password.
    if client is None:
        raise ServerAddressError
    return client


@cache
def _without_driver_info() -> dict[str, Any]:
    """Return options with which redis-py does not say to Redis which version it is.

    It reads that from the disk for each connection, which takes longer than connecting:
    a publisher makes one for each scan.
    """
    known = inspect.signature(redis.connection.AbstractConnection).parameters
    return {"driver_info": None} if "driver_info" in known else {}


def _parser(socket_read_size: int) -> Any:
    """Return a parser that is freed, with its read buffer, together with its client.

    redis-py's parser has a reference cycle, for push notifications that are not used
    here: it would stay in memory until the garbage collector runs, which took a hundred
    scans and 45 MB.
    """
    parser: Any = redis.connection.DefaultParser(socket_read_size=socket_read_size)
    parser.pubsub_push_handler_func = None
    return parser


class _ConnectOnce:
    def __init__(self) -> None:
        self._used = False

    def __call__(self, connection: Any) -> None:
        if self._used:
            raise redis.exceptions.ConnectionError("the connection was lost")
        self._used = True
        connection.on_connect()


def _unchanged(reply: Any, **_: Any) -> Any:
    return reply


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Translate every error of redis-py; none of them passes.

    The only one that does is redis-py's ``DataError``: the caller passed an argument
    that cannot be sent.

    Raises
    ------
    BusUnavailableError
        If the connection is refused, lost or times out, if credentials are refused, or
        if Redis cannot take data now; see :func:`no_room_reason`.
    BusUnsuitableError
        If the user has no permission for a command that the bus needs, or the server
        is a node of a Redis Cluster.
    BusRefusedError
        If Redis answers with any other error: nobody knows whether it is temporary, so
        whoever has a deadline waits for it.
    """
    try:
        with _without_secrets(url):
            yield
    except redis.exceptions.DataError:
        raise
    except redis.exceptions.RedisError as error:
        raise _translation(ServerAddress(url), error) from error


def _translation(
    address: str, error: redis.exceptions.RedisError
) -> BusUnavailableError:
    errors = redis.exceptions
    # After an invalid response redis-py has closed the connection.
    lost = errors.ConnectionError, errors.TimeoutError, errors.InvalidResponse
    if isinstance(error, lost):
        return BusUnavailableError(address, str(error))
    if isinstance(error, errors.NoPermissionError):
        return BusUnsuitableError(address, str(error))
    if isinstance(error, errors.AskError | errors.ClusterCrossSlotError):  # Also MOVED.
        return BusUnsuitableError(address, CLUSTER_NODE)
    reason = no_room_reason(error)
    if reason is not None:
        return BusUnavailableError(address, reason)
    return BusRefusedError(address, str(error) or type(error).__name__)


@contextmanager
def _without_secrets(url: str) -> Iterator[None]:
    """Remove passwords from errors: Redis quotes an AUTH that it does not know."""
    try:
        yield
    except redis.exceptions.RedisError as error:
        hidden_in = ServerAddress(url).hidden_in
        error.args = tuple(hidden_in(str(each)) for each in error.args)
        raise


def no_room_reason(error: BaseException) -> str | None:
    """Return why Redis cannot take data now; None if the error is another one.

    Redis answers with such errors while it is full, loading, without a disk or without
    a master. They are temporary, so the sender waits.
    """
    text = str(error)
    for kind, word in _no_room_classes().items():
        if isinstance(error, kind):
            return f"{word} {text.removeprefix(f'{word} ')}"
    if isinstance(error, redis.exceptions.ResponseError) and _NO_ROOM.search(text):
        return text
    return None


@cache
def _no_room_classes() -> dict[type[Exception], str]:
    """Return the error prefix of each class: redis-py strips it from the message."""
    return {
        redis.exceptions.OutOfMemoryError: "OOM",
        redis.exceptions.BusyLoadingError: "LOADING",
        redis.exceptions.ReadOnlyError: "READONLY",
        # MasterDownError comes before its base class, ClusterDownError.
        redis.exceptions.MasterDownError: "MASTERDOWN",
        redis.exceptions.ClusterDownError: "CLUSTERDOWN",
        redis.exceptions.TryAgainError: "TRYAGAIN",
    }


def ping(client: Bus) -> None:
    """Send PING and wait for the answer; connects a client that is not connected.

    Errors of redis-py are not translated: see :func:`translated`.
    """
    client.ping()
