"""The thread that carries out what the program's threads hand over."""

from __future__ import annotations

import threading

from scanbus.publisher.queue.inbox import Inbox

__all__ = ["Worker"]


class Worker(threading.Thread):
    """The thread that carries out the tasks of one publisher's scans.

    It never waits for Redis or the disk. The interpreter waits for it at its exit, and
    so for the publisher, which shuts the inbox last.

    Parameters
    ----------
    inbox : Inbox
        The tasks.
    """

    def __init__(self, inbox: Inbox) -> None:
        super().__init__(name="scanbus-worker", daemon=False)
        self._inbox = inbox

    def run(self) -> None:
        """Carry out tasks until the inbox is shut."""
        inbox = self._inbox
        while True:
            inbox.carry_out()
            if inbox.is_idle_and_shut:
                return
            inbox.await_task()
