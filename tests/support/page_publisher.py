"""A publisher made from docs/protocol.md alone: raw Redis commands, JSON, msgpack.

It imports nothing of scanbus on purpose: that page must contain all that it needs.
"""

import importlib
import json
import struct
import time
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import redis
import xxhash

SEAL_ID = "18446744073709551615-18446744073709551615"
SESSION = bytes.fromhex("00112233445566778899aabbccddeeff")

# Copied from the page.
RESERVE = """
local sum = 0
for _, bytes in ipairs(redis.call('HVALS', KEYS[1])) do
  sum = sum + (tonumber(bytes) or 0)
end
sum = sum - (tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') or 0)
if ARGV[4] == '0' and sum + tonumber(ARGV[2]) > tonumber(ARGV[3]) then
  return string.format('%.0f', sum)
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return false
"""
EVENT = """
redis.call('XTRIM', KEYS[1], 'MINID', '0-1')
return redis.call('XADD', KEYS[1], '*', 'doc', ARGV[1])
"""


class PagePublisher:
    """Publishes one scan as the page specifies.

    Parameters
    ----------
    client : redis.Redis
        Used for `execute_command` only.
    scan : dict
        The ``scan`` of the documents.
    """

    def __init__(self, client: "redis.Redis", scan: dict[str, Any]) -> None:
        self._client = client
        self._scan = scan
        self._uid = scan["uid"]
        self._events = f"scanbus:{{{self._uid}}}:events"
        self._heartbeat = f"scanbus:{{{self._uid}}}:publisher"
        self._next: dict[str, int] = {}

    def _do(self, *command: Any) -> Any:
        run: Any = self._client.execute_command
        return run(*command)

    def open(self, lanes: Sequence[dict[str, Any]], quota: int, **more: Any) -> None:
        """Announce the scan, create its lanes, send ``prepared`` and ``started``."""
        self._do("SET", self._heartbeat, "page", "PX", 10_000)
        self._do("XADD", "scanbus:scans", "*", "doc", self._said("announced"))
        answer = self._do(
            "EVAL", RESERVE, 1, "scanbus:reserved", self._uid, quota, 2**32, 0
        )
        if answer is not None:
            raise RuntimeError(f"no room: others have {answer} bytes")
        for lane in lanes:
            self.make(lane["name"])
        fixed = {"lanes": lanes, "quota_bytes": quota, **more}
        self._tell("prepared", scan=self._scan, **fixed)
        self._tell("started")

    def make(self, lane: str) -> None:
        """Create a lane."""
        key = self._lane_key(lane)
        self._do("XGROUP", "CREATE", key, "scanbus-maker", "0", "MKSTREAM")
        self._do("XGROUP", "DESTROY", key, "scanbus-maker")
        self._next[lane] = 0

    def send(
        self,
        lane: str,
        blocks: Sequence[bytes],
        times: Sequence[float],
        **header: Any,
    ) -> None:
        """Append the next points of a lane, as many as there are times."""
        if len(blocks) > 1:
            header["sizes"] = [len(block) for block in blocks]
        block = struct.pack(f"<{len(times)}d", *times)
        if block == evenly_spaced(times[0], times[-1], len(times)):
            header["times"] = [times[0], times[-1]]
            block = b""
        else:
            header["times_checksum"] = xxhash.xxh3_64_intdigest(block)
        self._append(lane, len(times), b"".join(blocks), header, block)

    def send_gap(self, lane: str, count: int) -> None:
        """Declare the next points as a gap."""
        self._append(lane, count, b"", {"gap": True})

    def update(self, metadata: dict[str, Any]) -> None:
        """Send metadata during the scan."""
        self._tell("updated", metadata=metadata)

    def seal(self) -> None:
        """Seal every lane with its number of points."""
        for lane, length in self._next.items():
            self._xadd(lane, SEAL_ID, pack_header(b"", {"length": length}), b"")

    def end(self, reason: str, text: str = "") -> None:
        """Send ``ended``."""
        self._tell("ended", end_reason=reason, text=text)

    def _append(
        self,
        lane: str,
        count: int,
        blocks: bytes,
        header: dict[str, Any],
        times: bytes = b"",
    ) -> None:
        first = self._next[lane]
        packed = pack_header(blocks, header)
        self._xadd(lane, f"{first}-{count}", packed, blocks + times)
        self._next[lane] = first + count

    def _xadd(self, lane: str, stream_id: str, header: bytes, payload: bytes) -> None:
        fields = ["h", header] + (["p", payload] if payload else [])
        key = self._lane_key(lane)
        if self._do("XADD", key, "NOMKSTREAM", stream_id, *fields) is None:
            raise RuntimeError(f"{key} is gone")

    def _lane_key(self, lane: str) -> str:
        return f"scanbus:{{{self._uid}:{lane}}}:lane"

    def _tell(self, kind: str, **fields: Any) -> None:
        self._do("EVAL", EVENT, 1, self._events, self._said(kind, **fields))

    def _said(self, kind: str, **fields: Any) -> bytes:
        if kind == "announced":
            fields["scan"] = self._scan
        document = {"protocol": 1, "type": kind, "time": time.time(), **fields}
        return json.dumps(document).encode()


def pack_header(blocks: bytes, header: dict[str, Any]) -> bytes:
    checksum = xxhash.xxh3_64_intdigest(blocks)
    packed: bytes = msgpack.packb(
        {"session": SESSION, "checksum": checksum, **header}, use_bin_type=True
    )
    return packed


def evenly_spaced(first: float, last: float, count: int) -> bytes:
    """Return the times for which a header's two times stand, as a block."""
    step = (last - first) / (count - 1) if count > 1 else 0.0
    times = [first + k * step for k in range(count)]
    times[-1] = last
    times[0] = first
    return struct.pack(f"<{count}d", *times)


def text_block(texts: Sequence[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    lengths = struct.pack(f"<{len(texts)}I", *(len(text) for text in encoded))
    return lengths + b"".join(encoded)


def ragged_block(series: Sequence[Sequence[float]]) -> bytes:
    """Return a block of series of float32."""
    lengths = struct.pack(f"<{len(series)}I", *(len(points) for points in series))
    return lengths + b"".join(struct.pack(f"<{len(s)}f", *s) for s in series)


def bslz4(frames: npt.NDArray[Any]) -> bytes:
    """Return frames encoded with bitshuffle and LZ4, as "Frame A" of the page."""
    bitshuffle: Any = importlib.import_module("bitshuffle")
    itemsize = frames.dtype.itemsize
    block_items = max(8192 // itemsize // 8 * 8, 128)
    packed = bitshuffle.compress_lz4(np.ascontiguousarray(frames), block_items)
    header = struct.pack(">QI", frames.nbytes, block_items * itemsize)
    return header + bytes(memoryview(packed))
