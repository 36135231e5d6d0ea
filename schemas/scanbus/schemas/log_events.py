"""Names of the events in logs: one per change of state, with fields beside it.

Below each name stands the level at which it is logged and what it means; operators
find the same list, with more detail, in ``docs/reference/events.md``.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["LogEvent"]


class LogEvent(StrEnum):
    """The events that scanbus logs; its text is the value."""

    # Renderers that show values by repr (structlog's KeyValueRenderer) print the name.
    __repr__ = str.__repr__

    # ------------------------------------------------------------ of the bus
    BUS_LOST = "bus_lost"
    """warning: Redis does not answer; tried again until it does."""
    BUS_RESTORED = "bus_restored"
    """warning, of a subscriber info: Redis answers again."""
    BUS_WARNING = "bus_warning"
    """warning: a weakness of Redis' configuration."""
    WAIT_CUT_SHORT = "wait_cut_short"
    """debug: Redis went while news were waited for."""

    ATTEMPT_REPEATED = "attempt_repeated"
    """error: part of a loop met an unknown error; it is repeated until it succeeds."""

    # -------------------------------------------------------- of a publisher
    SCAN_ANNOUNCED = "scan_announced"
    """info: a scan is known on the bus."""
    WAITING_FOR_VERDICTS = "waiting_for_verdicts"
    """info: the publisher is closed and waits for final verdicts."""
    WAITING_FOR_ROOM = "waiting_for_room"
    """warning: a send waits, for too much is not durable yet."""
    WAITING_FOR_REDIS = "waiting_for_redis"
    """warning: opening a scan waits until Redis can take it."""
    SENDING_PAUSED = "sending_paused"
    """warning: Redis takes nothing now; what was sent is kept."""
    ROOM_FREED = "room_freed"
    """info: written data and finished scans were removed from Redis, for room."""
    LANE_VANISHED = "lane_vanished"
    """warning: Redis had lost a lane."""
    SENT_AGAIN = "sent_again"
    """warning: points that Redis had lost are there again."""
    EVENTS_SENT_AGAIN = "events_sent_again"
    """warning: events of a scan that Redis had lost are there again."""
    ANNOUNCED_AGAIN = "announced_again"
    """warning: an announcement that Redis had lost is there again."""
    LATE_POINTS = "late_points"
    """warning: points came after their places were closed; they have an own lane."""
    CLOSED_WITHOUT_VERDICT = "closed_without_verdict"
    """warning: time was over; Redis or the spool alone holds the rest of the scan."""
    SCAN_RESUMED = "scan_resumed"
    """warning: what a dead publisher left in the spool is sent."""
    SPOOL_PAUSED = "spool_paused"
    """warning: the spool's disk takes nothing now."""
    SPOOL_UNREADABLE = "spool_unreadable"
    """error: a scan in the spool is damaged and left as it is."""
    LANE_CONFLICT = "lane_conflict"
    """error: somebody else publishes or closed the same scan."""
    POINTS_LEFT_OUT = "points_left_out"
    """error: the scan was closed without points that are in the spool."""
    SENDER_FAILED = "sender_failed"
    """error: a bug, with a traceback; the scan ends as FAILURE."""
    MONITOR_FAILED = "monitor_failed"
    """error: a bug, with a traceback; all scans end as FAILURE."""
    SPOOL_WRITER_FAILED = "spool_writer_failed"
    """error: a bug or a failed disk, with a traceback; the scan ends as FAILURE."""

    # ----------------------------------------------------------- of a writer
    WRITER_STARTED = "writer_started"
    """info: the service looks for scans."""
    WRITER_LEFT = "writer_left"
    """info: the service is over."""
    WORKER_DIED = "worker_died"
    """error: a worker process ended; another one takes its place and its scans."""
    WORKER_SILENT = "worker_silent"
    """error: a worker process gave no sign of life for long and is killed."""
    WORKER_LINK_FAILED = "worker_link_failed"
    """error: a bug, with a traceback; the worker is replaced."""
    SCAN_OPENED = "scan_opened"
    """info: an attempt to write a scan begins."""
    SCAN_CLOSED = "scan_closed"
    """info: a scan has its final verdict."""
    SCAN_INTERRUPTED = "scan_interrupted"
    """warning: the publisher is silent; the verdict is provisional."""
    SCAN_PAUSED = "scan_paused"
    """warning: an attempt ended for a known reason; another one follows."""
    SCAN_STALLED = "scan_stalled"
    """warning: a step on the disk hangs."""
    SCAN_SALVAGED = "scan_salvaged"
    """warning: a scan was made of what killed writers left."""
    ATTEMPT_FAILED = "attempt_failed"
    """error: an attempt ended for an unknown reason; another one follows."""
    SLOW_STEP = "slow_step"
    """warning: a step on the disk took long."""
    LOW_SPACE = "low_space"
    """warning: the disk may not have room for the scan."""
    NOT_KEPT = "not_kept"
    """warning: temporary files could not be flushed, so salvage may lack them."""
    EXAMINING_ENTRIES = "examining_entries"
    """warning: entries are unpacked in a child process first."""
    ENTRY_KILLED_SANDBOX = "entry_killed_sandbox"
    """error: that child died of an entry, whose points are refused."""
    BAD_ANNOUNCEMENT = "bad_announcement"
    """error: an announcement cannot be understood."""
    LEASE_NOT_GIVEN_BACK = "lease_not_given_back"
    """warning: Redis went while a scan was left; the lease expires by itself."""
    LINK_OUT_OF_ROOT = "link_out_of_root"
    """warning: a symbolic link that leads out of the root is not followed."""
    MASTER_KEEPS_CHANGING = "master_keeps_changing"
    """warning: something else writes to the folders below a master."""
    MASTER_NOT_LINKED = "master_not_linked"
    """warning: a scan master cannot be read, so the masters above lack it."""
