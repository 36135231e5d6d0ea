"""The protocol as pure code: keys, entries, blocks, lane readers, scan records.

May import :mod:`scanbus.bus.codecs` and :mod:`scanbus.schemas`; never Redis, HDF5 or
a clock.
"""

from __future__ import annotations

from scanbus.bus.protocol.blocks import (
    Variable,
    block_length,
    decode_block,
    encode_block,
    pack_variable,
)
from scanbus.bus.protocol.entries import (
    HEADER_FIELD,
    MAX_HEADER_BYTES,
    PAYLOAD_FIELD,
    SEAL_ID,
    Entry,
    checksum_of,
    entry_id,
    pack_header,
    parse_entry,
    session_of,
    split_id,
)
from scanbus.bus.protocol.heartbeat_periods import (
    HEARTBEAT_S,
    HEARTBEAT_TTL_MS,
    HEARTBEATS_TO_LAPSE,
    LEASE_S,
    LONGEST_TTL_MS,
)
from scanbus.bus.protocol.keys import (
    ANNOUNCEMENTS,
    FORGOTTEN,
    NUMBER_REQUESTS,
    POSITION,
    RESERVED,
    WRITERS,
    attempts_key,
    cursors_key,
    events_key,
    fence_key,
    heartbeat_key,
    hold_key,
    lane_key,
    lease_key,
    number_key,
    writer_key,
)
from scanbus.bus.protocol.lane_reader import (
    GATHERED_BYTES,
    MAX_COUNT,
    Arrival,
    Kind,
    LaneReader,
)
from scanbus.bus.protocol.limits import (
    ALLOCATED_SHARE,
    BUDGET_FRACTION,
    DEFAULT_MEMORY_BYTES,
    LEAST_MEMORY_BYTES,
    MOST_WATERMARK,
    budget_bytes,
    quota_range,
)
from scanbus.bus.protocol.retransmit import (
    EncodedEntry,
    RetransmitBuffer,
    lost_entry,
)
from scanbus.bus.protocol.scan_record import MAX_STATIC_LANES, ScanRecord
from scanbus.bus.protocol.times import (
    TIME_BYTES,
    Ends,
    Times,
    encode_times,
    evenly_spaced,
)

__all__ = [
    "ALLOCATED_SHARE",
    "ANNOUNCEMENTS",
    "BUDGET_FRACTION",
    "DEFAULT_MEMORY_BYTES",
    "FORGOTTEN",
    "GATHERED_BYTES",
    "HEADER_FIELD",
    "HEARTBEATS_TO_LAPSE",
    "HEARTBEAT_S",
    "HEARTBEAT_TTL_MS",
    "LEASE_S",
    "LEAST_MEMORY_BYTES",
    "LONGEST_TTL_MS",
    "MAX_COUNT",
    "MAX_HEADER_BYTES",
    "MAX_STATIC_LANES",
    "MOST_WATERMARK",
    "NUMBER_REQUESTS",
    "PAYLOAD_FIELD",
    "POSITION",
    "RESERVED",
    "SEAL_ID",
    "TIME_BYTES",
    "WRITERS",
    "Arrival",
    "EncodedEntry",
    "Ends",
    "Entry",
    "Kind",
    "LaneReader",
    "RetransmitBuffer",
    "ScanRecord",
    "Times",
    "Variable",
    "attempts_key",
    "block_length",
    "budget_bytes",
    "checksum_of",
    "cursors_key",
    "decode_block",
    "encode_block",
    "encode_times",
    "entry_id",
    "evenly_spaced",
    "events_key",
    "fence_key",
    "heartbeat_key",
    "hold_key",
    "lane_key",
    "lease_key",
    "lost_entry",
    "number_key",
    "pack_header",
    "pack_variable",
    "parse_entry",
    "quota_range",
    "session_of",
    "split_id",
    "writer_key",
]
