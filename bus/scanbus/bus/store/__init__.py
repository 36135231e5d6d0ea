"""Redis: every command that scanbus sends, and what its errors mean.

May import :mod:`scanbus.bus.protocol` and :mod:`scanbus.bus.codecs`. Other components
import from here only, never from the modules below.
"""

from __future__ import annotations

from scanbus.bus.store.backoff import Backoff
from scanbus.bus.store.connection import (
    DEFAULT_URL,
    Bus,
    ServerReport,
    connect,
    describe_server,
    no_room_reason,
    translated,
)
from scanbus.bus.store.cursors import acknowledge, read_cursor, read_cursors
from scanbus.bus.store.eviction import (
    KEPT_SCANS,
    KEPT_WHEN_FULL,
    Evictor,
    Freed,
    remove_traces,
)
from scanbus.bus.store.heartbeats import (
    beat_publisher,
    beat_writer,
    end_publisher_beat,
    forget_lapsed_writers,
    forget_writer,
    publisher_is_alive,
    writer_is_alive,
    writers_alive,
)
from scanbus.bus.store.holds import hold_scan, is_held
from scanbus.bus.store.lane_fetch import find_entry_start, read_lanes
from scanbus.bus.store.lanes import (
    NoRoomError,
    VanishedError,
    append_entries,
    make_lane,
    sealed_length,
    stored_session,
    stream_ends,
)
from scanbus.bus.store.leases import (
    Lease,
    acquire_lease,
    append_fenced_event,
    begin_attempt,
    end_attempt,
    give_back_lease,
    renew_lease,
)
from scanbus.bus.store.quota import (
    release_quota,
    reserve_quota,
    shrink_quota,
    used_memory,
)
from scanbus.bus.store.resp import Argument, CommandPacker
from scanbus.bus.store.scans import (
    announce,
    announcement_came,
    announcements,
    append_event,
    events_came,
    find_scan,
    id_order,
    is_announced,
    is_off_the_bus,
    load_announced,
    load_record,
    move_position,
    next_scan_number,
    raise_scan_number,
    read_events,
    read_position,
    was_forgotten,
)

__all__ = [
    "DEFAULT_URL",
    "KEPT_SCANS",
    "KEPT_WHEN_FULL",
    "Argument",
    "Backoff",
    "Bus",
    "CommandPacker",
    "Evictor",
    "Freed",
    "Lease",
    "NoRoomError",
    "ServerReport",
    "VanishedError",
    "acknowledge",
    "acquire_lease",
    "announce",
    "announcement_came",
    "announcements",
    "append_entries",
    "append_event",
    "append_fenced_event",
    "beat_publisher",
    "beat_writer",
    "begin_attempt",
    "connect",
    "describe_server",
    "end_attempt",
    "end_publisher_beat",
    "events_came",
    "find_entry_start",
    "find_scan",
    "forget_lapsed_writers",
    "forget_writer",
    "give_back_lease",
    "hold_scan",
    "id_order",
    "is_announced",
    "is_held",
    "is_off_the_bus",
    "load_announced",
    "load_record",
    "make_lane",
    "move_position",
    "next_scan_number",
    "no_room_reason",
    "publisher_is_alive",
    "raise_scan_number",
    "read_cursor",
    "read_cursors",
    "read_events",
    "read_lanes",
    "read_position",
    "release_quota",
    "remove_traces",
    "renew_lease",
    "reserve_quota",
    "sealed_length",
    "shrink_quota",
    "stored_session",
    "stream_ends",
    "translated",
    "used_memory",
    "was_forgotten",
    "writer_is_alive",
    "writers_alive",
]
