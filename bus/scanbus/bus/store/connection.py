"""Connections to Redis: how they are made, and what their errors mean.

The one place that knows redis-py's settings and error texts. Nothing reconnects
silently: whoever lost a connection has to look at what Redis still holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from scanbus.bus.store.lazy_redis import redis
from scanbus.bus.store.resp import CommandPacker
from scanbus.schemas.errors import BusUnavailableError, BusUnsuitableError

__all__ = [
    "DEFAULT_URL",
    "Bus",
    "ServerReport",
    "connect",
    "describe_server",
    "no_room_reason",
    "ping",
    "translated",
]

DEFAULT_URL = "redis://127.0.0.1:6379"
Bus: TypeAlias = "redis.Redis"
"""A connected client; raw replies for streams."""

MINIMUM_VERSION = (6, 2)
# Entries are megabytes: reading 64 KiB at a time costs a system call for each.
_READ_SIZE = 1 << 20
# Each of these passes when Redis has room, a disk, its data, its master or its replicas
# again. Scripts and transactions carry them inside their own error text.
_NO_ROOM = re.compile(
    r"\b(OOM|MISCONF|LOADING|READONLY|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|NOREPLICAS|BUSY)\b"
)


@dataclass(frozen=True)
class ServerReport:
    """What kind of Redis this is, as far as the bus cares.

    Attributes
    ----------
    version : str
        As the server says.
    run_id : str
        Changes with every start of the server.
    maxmemory_bytes : int
        0 where no limit is set.
    evicts : bool
        Whether it drops keys on its own when full.
    persists : bool
        Whether an append-only file is kept.
    """

    version: str
    run_id: str
    maxmemory_bytes: int
    evicts: bool
    persists: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for everything that weakens what scanbus promises."""
        found = []
        if self.evicts:
            found.append(
                "Redis evicts keys when full: data may vanish before they are "
                "written; set maxmemory-policy noeviction"
            )
        if not self.persists:
            found.append(
                "Redis keeps no append-only file: if Redis and a publisher die "
                "together, what is not written yet is lost"
            )
        if not self.maxmemory_bytes:
            found.append(
                "Redis has no maxmemory: set one, so that it refuses instead of "
                "being killed by the system"
            )
        return tuple(found)


def connect(
    url: str,
    *,
    name: str,
    timeout_s: float = 10.0,
    once: bool = False,
) -> Bus:
    """Return a client of the Redis at `url`, not yet connected.

    Parameters
    ----------
    url : str
        ``redis://host:port/db``, ``rediss://…`` (TLS) or ``unix:///path``.
    name : str
        Shown by ``CLIENT LIST``; letters, digits, ``-``.
    timeout_s : float
        Deadline of connecting and of each reply; blocking reads must be shorter.
    once : bool
        Connect at most once: after a loss every command fails, so that the owner
        notices. A publisher must compare before it sends on.

    Raises
    ------
    ValueError
        If `url` is not of these forms.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 5.0),
        "client_name": name,
        "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": False,
        "socket_read_size": _READ_SIZE,
        "parser_class": _parser,
        "command_packer": CommandPacker(),
        "health_check_interval": 0,
    }
    if once:
        options["redis_connect_func"] = _ConnectOnce()
        options["max_connections"] = 1
    client = _client(url, options)
    for command in ("XREAD", "XRANGE", "XREVRANGE"):
        client.set_response_callback(command, _as_it_came)
    return client


def _client(url: str, options: dict[str, Any]) -> Bus:
    try:
        client = redis.Redis.from_url(url, **options)
        # Made and dropped: options in the URL that nobody knows show only here.
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError) as error:
        # Not the error's own text: a password with a slash in it may be quoted there.
        raise ValueError(
            f"{_without_password(url)} is no address of a Redis; expected "
            "redis://host:port/db, rediss://host:port/db (TLS) or unix:///path"
        ) from error
    return client


def _parser(socket_read_size: int) -> Any:
    """Return a parser that goes, with the buffer it reads into, when its client does.

    redis-py's refers to itself, for notifications that nobody asks for here: it would
    stay until Python looks for such circles, which took a hundred scans and 45 MB.
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


def _as_it_came(reply: Any, **_: Any) -> Any:
    return reply


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn redis-py's errors about the connection into ours.

    Raises
    ------
    BusUnavailableError
        For refused, lost and silent connections, and refused credentials.
    BusUnsuitableError
        If the user may not do what the bus needs.
    """
    try:
        yield
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        raise BusUnavailableError(_without_password(url), str(error)) from error
    except redis.exceptions.NoPermissionError as error:
        raise BusUnsuitableError(_without_password(url), str(error)) from error
    except redis.exceptions.ResponseError as error:
        reason = no_room_reason(error)
        if reason is None:
            raise
        raise BusUnavailableError(_without_password(url), reason) from error


def no_room_reason(error: BaseException) -> str | None:
    """Return why Redis cannot take data now, or None if that is not the problem.

    Redis answers so when it is full, loading, without a disk or without a master; it
    passes, so whoever sends waits.
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
    """Return the words that redis-py takes away, as it has a class for each."""
    return {
        redis.exceptions.OutOfMemoryError: "OOM",
        redis.exceptions.BusyLoadingError: "LOADING",
        redis.exceptions.ReadOnlyError: "READONLY",
        redis.exceptions.MasterDownError: "MASTERDOWN",  # Before its base, the next.
        redis.exceptions.ClusterDownError: "CLUSTERDOWN",
        redis.exceptions.TryAgainError: "TRYAGAIN",
    }


def ping(client: Bus) -> None:
    """Have Redis answer; a client that is not connected connects.

    Errors of redis-py come as they are: see :func:`translated`.
    """
    client.ping()


def describe_server(client: Bus, url: str) -> ServerReport:
    """Return what kind of Redis this is.

    Raises
    ------
    BusUnavailableError
        If it does not answer.
    BusUnsuitableError
        If it is older than 6.2.
    """
    with translated(url):
        info: dict[str, Any] = client.info()
    version = str(info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MINIMUM_VERSION:
        raise BusUnsuitableError(
            _without_password(url), f"version {version}, at least 6.2 is needed"
        )
    policy = str(info.get("maxmemory_policy", "noeviction"))
    maxmemory = int(info.get("maxmemory", 0))
    return ServerReport(
        version=version,
        run_id=str(info.get("run_id", "")),
        maxmemory_bytes=maxmemory,
        evicts=bool(maxmemory) and policy != "noeviction",
        persists=bool(info.get("aof_enabled", 0)),
    )


def _without_password(url: str) -> str:
    """Return an address that can be shown; a password may also stand behind the "?"."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        scheme, rest = "", url
    address, question, options = rest.partition("?")
    if "@" in options:
        address = "…"  # A password with a question mark in it, or one behind it.
    _, at, host = address.rpartition("@")
    hidden = "…@" if at else ""
    return f"{scheme}{slashes}{hidden}{host}{'?…' if question else ''}"
