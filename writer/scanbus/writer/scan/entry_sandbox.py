"""Sandbox: unpack entries in a child process before the writer does.

An entry that crashes a decoder kills the process, and that of every successor. After
several attempts that ended in a kill, each entry is first unpacked in a child process.
An entry that kills the child is refused, and the scan continues. Entries that came
after the last kill are not examined: it would slow down an innocent scan for ever.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

import msgpack

from scanbus.bus.protocol import Entry, decode_block
from scanbus.schemas import LaneDescription
from scanbus.schemas.errors import PayloadError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["Sandbox", "main"]

log = get_logger()
_LENGTH = struct.Struct("<Q")
# Runs this file alone, without its folder in sys.path (-P): a child that imports the
# whole writer takes twice as long to start.
_COMMAND = (sys.executable, "-P", __file__)


class Sandbox:
    """A child process that unpacks entries; it is restarted when an entry kills it.

    One scan writer owns it and must close it.

    Parameters
    ----------
    command : sequence of str
        Command line of the child, which uses the protocol of :func:`main`.
    last_ids : mapping of str to bytes
        Of each lane the id of the last entry to examine: what came after the attempts
        that were killed has killed none of them. All entries of lanes that are not
        named.
    """

    def __init__(
        self,
        command: Sequence[str] = _COMMAND,
        last_ids: Mapping[str, bytes] | None = None,
    ) -> None:
        self._command = tuple(command)
        self._last_ids = {
            lane: _order(last_id) for lane, last_id in (last_ids or {}).items()
        }
        self._child: subprocess.Popen[bytes] | None = None

    def check(self, lane: LaneDescription, entry: Entry) -> None:
        """Unpack an entry in the child.

        Raises
        ------
        PayloadError
            If it cannot be unpacked, or kills the child.
        """
        last = self._last_ids.get(lane.name)
        if last is not None and _order(entry.id) > last:
            return
        problem = self._problem(lane, entry)
        if problem:
            raise PayloadError(problem)

    def _problem(self, lane: LaneDescription, entry: Entry) -> str:
        child = self._running_child()
        if child.stdin is None or child.stdout is None:
            raise ValueError("the child has no pipes")
        try:
            for part in (lane.model_dump_json().encode(), _packed(entry)):
                _send(child.stdin, part)
            reply = _receive(child.stdout)
        except BrokenPipeError:
            reply = None
        if reply is not None:
            return reply.decode()
        self.close()
        code = child.returncode
        name = entry.id.decode()
        log.error(LogEvent.ENTRY_KILLED_SANDBOX, lane=lane.name, id=name, code=code)
        return f"killed the process that unpacked it (exit code {code})"

    def close(self) -> None:
        """Kill the child and close its pipes."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        child.wait()

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._child = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        return self._child


def _order(entry_id: bytes) -> tuple[int, int]:
    point, _, count = entry_id.partition(b"-")
    return int(point or 0), int(count or 0)


def _packed(entry: Entry) -> bytes:
    fields = (entry.count, entry.is_padded, entry.codecs, entry.sizes, entry.payload)
    packed: bytes = msgpack.packb(fields)
    return packed


def _send(pipe: IO[bytes], part: bytes) -> None:
    pipe.write(_LENGTH.pack(len(part)))
    pipe.write(part)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    part = pipe.read(length)
    return part if len(part) == length else None


def _unpack(lane: LaneDescription, packed: bytes) -> str:
    count, is_padded, codecs, sizes, payload = msgpack.unpackb(packed)
    n_packed = lane.points_per_chunk if is_padded else count
    start = 0
    try:
        for channel, codec_name, size in zip(lane.channels, codecs, sizes, strict=True):
            block = memoryview(payload)[start : start + size]
            decode_block(channel, block, n_packed, codec_name)
            start += size
    except PayloadError as error:
        return str(error)
    return ""


def main() -> int:
    """Unpack entries from standard input until its end; return the exit code.

    Each request is a lane description (JSON) and an entry (MessagePack), each after its
    length (uint64, little-endian). The reply on standard output, in the same framing,
    is the problem as text, empty if there is none.
    """
    while True:
        lane = _receive(sys.stdin.buffer)
        packed = _receive(sys.stdin.buffer)
        if lane is None or packed is None:
            return 0
        problem = _unpack(LaneDescription.model_validate_json(lane), packed)
        _send(sys.stdout.buffer, problem.encode())


if __name__ == "__main__":
    sys.exit(main())
