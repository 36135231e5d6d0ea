"""Commands on their way to the socket: large payloads are not copied.

hiredis makes one string of a whole command. From about 7 MB on, its memory comes fresh
from the system each time, and the page faults alone take 15 ms per entry; a payload
that is sent from where it stands takes 2 ms (docs/performance.md).
"""

from __future__ import annotations

from typing import Any, TypeAlias

from scanbus.bus.store.lazy_redis import redis

__all__ = ["Argument", "CommandPacker"]

Argument: TypeAlias = bytes | memoryview | str | int | float
# Below that, a copy costs less than another call to the system.
_LARGE_BYTES = 1 << 16


class CommandPacker:
    """Puts commands into Redis's protocol; safe to share between threads."""

    def __init__(self) -> None:
        # Its annotations are wrong.
        self._hiredis: Any = redis.connection.HiredisRespSerializer()

    def pack(self, *args: Argument) -> list[bytes | memoryview]:
        """Return what goes over the socket, piece by piece.

        Raises
        ------
        redis.exceptions.DataError
            If an argument is of no type that Redis takes.
        """
        if any(_is_large(arg) for arg in args):
            return _pack_around(args)
        packed: list[bytes | memoryview] = self._hiredis.pack(*args)
        return packed


def _is_large(arg: Argument) -> bool:
    return isinstance(arg, bytes | memoryview) and len(arg) >= _LARGE_BYTES


def _pack_around(args: tuple[Argument, ...]) -> list[bytes | memoryview]:
    """Return a command, large arguments as they are and all between them joined."""
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
    raise redis.exceptions.DataError(f"Redis takes no {type(arg).__name__}")
