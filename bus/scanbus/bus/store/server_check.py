"""What a Redis server is and has: refused at once if the bus cannot live on it.

Programs ask before anything else, as the errors of single commands come late and do not
name the cause: half of the commands of a cluster's node succeed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from scanbus.bus.store.connection import CLUSTER_NODE, Bus, connect, translated
from scanbus.bus.store.lazy_redis import redis
from scanbus.bus.store.server_address import ServerAddress
from scanbus.schemas.errors import BusUnsuitableError

__all__ = ["ServerReport", "describe_server", "open_bus", "refuse_unsuitable"]

_MINIMUM_VERSION: Final = (6, 2)
_SENTINEL: Final = (
    "it is a Redis Sentinel, which holds no data; give the address of the Redis that "
    "it watches"
)
# Some servers rename or lack commands: EVAL above all, and streams before 5.0.
_COMMANDS: Final = (
    "DEL", "EVAL", "EXEC", "EXISTS", "GET", "HDEL", "HGET", "HGETALL", "HVALS", "INCR",
    "MULTI", "TYPE", "XADD", "XLEN", "XRANGE", "XREAD", "XREVRANGE",
)  # fmt: skip


@dataclass(frozen=True)
class ServerReport:
    """Properties of a Redis server that matter to the bus.

    Attributes
    ----------
    version : str
        Version of the server.
    run_id : str
        Changes with every start of the server.
    maxmemory_bytes : int
        Memory limit; 0 if none is set.
    evicts : bool
        Whether it evicts keys when it is full.
    persists : bool
        Whether it writes an append-only file.
    """

    version: str
    run_id: str
    maxmemory_bytes: int
    evicts: bool
    persists: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each setting that weakens the guarantees of scanbus."""
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


@contextmanager
def open_bus(url: str, *, name: str) -> Iterator[Bus]:
    """Yield a client for one command, after a check of the server.

    Parameters
    ----------
    name : str
        Name in ``CLIENT LIST``.

    Raises
    ------
    BusUnavailableError
        If Redis does not answer, now or later in the block.
    BusUnsuitableError
        If the bus cannot live on it.
    """
    with connect(url, name=name) as client, translated(url):
        refuse_unsuitable(client, url)
        yield client


def describe_server(client: Bus, url: str, *, known: str = "") -> ServerReport:
    """Return the properties of the server.

    Parameters
    ----------
    known : str
        The `run_id` of a server whose commands were looked at already.

    Raises
    ------
    BusUnavailableError
        If it does not answer.
    BusUnsuitableError
        If it is older than 6.2, a node of a Redis Cluster or a Sentinel, lacks a
        command, or refuses INFO to this user.
    """
    with translated(url):
        info: dict[str, Any] = client.info()
        if "redis_version" not in info:
            raise redis.exceptions.InvalidResponse("INFO does not say a version")
        _refuse(client, url, info, known=known)
    policy = str(info.get("maxmemory_policy", "noeviction"))
    maxmemory = int(info.get("maxmemory", 0))
    return ServerReport(
        version=str(info["redis_version"]),
        run_id=str(info.get("run_id", "")),
        maxmemory_bytes=maxmemory,
        evicts=bool(maxmemory) and policy != "noeviction",
        persists=bool(info.get("aof_enabled", 0)),
    )


def refuse_unsuitable(client: Bus, url: str) -> None:
    """Raise if the bus cannot live on the server, as far as this user may ask.

    Raises
    ------
    BusUnavailableError
        If it does not answer.
    BusUnsuitableError
        As for `describe_server`; a user who may not ask INFO is not refused.
    """
    with translated(url):
        try:
            info: dict[str, Any] = client.info()
        except redis.exceptions.NoPermissionError:
            return  # A user who may only read the bus.
        _refuse(client, url, info)


def _refuse(client: Bus, url: str, info: Mapping[str, Any], *, known: str = "") -> None:
    reason = _why_unsuitable(info)
    if not known or known != info.get("run_id"):
        reason = reason or _lacking_commands(client)
    if reason:
        raise BusUnsuitableError(ServerAddress(url), reason)


def _why_unsuitable(info: Mapping[str, Any]) -> str:
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < _MINIMUM_VERSION:
        return f"version {version}, at least 6.2 is needed"
    if info.get("redis_mode") == "sentinel":
        return _SENTINEL
    return CLUSTER_NODE if info.get("cluster_enabled") else ""


def _lacking_commands(client: Any) -> str:
    try:
        known = client.execute_command("COMMAND INFO", *_COMMANDS)
    except redis.exceptions.ResponseError:
        return ""  # Not said to this user; a command that lacks is refused later.
    lacking = [name for name, about in zip(_COMMANDS, known, strict=False) if not about]
    if not lacking:
        return ""
    return f"it lacks what the bus needs: {', '.join(lacking)}"
