"""Serialize commands in Redis's protocol (RESP) without copying large payloads.

hiredis copies a whole command into one string. From about 7 MB on, the system maps new
memory for it each time, and the page faults alone take 15 ms per entry; sending the
payload from its own memory takes 2 ms (docs/performance.md).
"""

from __future__ import annotations

from typing import Any, TypeAlias

from scanbus.bus.store.lazy_redis import redis

__all__ = ["Argument", "CommandPacker"]

Argument: TypeAlias = bytes | memoryview | str | int | float
# Below this size, a copy takes less time than another system call.
_LARGE_BYTES = 1 << 16


class CommandPacker:
    """Serializes commands in RESP; safe to share between threads."""

    def __init__(self) -> None:
        # Any, as redis-py's annotations of it are wrong.
        self._hiredis: Any = redis.connection.HiredisRespSerializer()

    def pack(self, *args: Argument) -> list[bytes | memoryview]:
        """Return the serialized command in pieces.

        Raises
        ------
        redis.exceptions.DataError
            If an argument has a type that cannot be sent.
        """
        if any(_is_large(arg) for arg in args):
            return _pack_around(args)
        packed: list[bytes | memoryview] = self._hiredis.pack(*args)
        return packed


def _is_large(arg: Argument) -> bool:
    return isinstance(arg, bytes | memoryview) and len(arg) >= _LARGE_BYTES


def _pack_around(args: tuple[Argument, ...]) -> list[bytes | memoryview]:
    """Return a command in pieces: large arguments uncopied, the rest joined."""
    pieces: list[bytes | memoryview] = []
    between: list[bytes | memoryview] = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = _octets(arg)
        between.append(b"$%d\r\n" % len(data))
        if _is_large(data):
            pieces += [b"".join(between), data]
            between = [b"\r\n"]
        else:
            between += [data, b"\r\n"]
    return [*pieces, b"".join(between)]


def _octets(arg: Argument) -> bytes | memoryview:
    if isinstance(arg, bytes):
        return arg
    if isinstance(arg, memoryview):
        return arg.cast("B")
    if isinstance(arg, str):
        return arg.encode()
    if type(arg) in {int, float}:
        return repr(arg).encode()
    raise redis.exceptions.DataError(
        f"an argument of type {type(arg).__name__} cannot be sent to Redis"
    )
