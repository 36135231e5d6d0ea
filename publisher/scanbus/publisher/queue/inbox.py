"""What the program's threads have handed over, for the publisher's worker.

A signal handler may raise between any two steps of a program's thread, and a finaliser
may run in any thread, whatever locks that holds. So a program's thread changes nothing
that other threads use, and takes no lock: it appends a task, one call that nothing
interrupts, and the publisher's worker runs all tasks in their order.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from scanbus.publisher.queue.locks import Wakeup, is_own_thread, refuse_own_wait
from scanbus.publisher.queue.tasks import LastTask, Question, Task, TaskOwner
from scanbus.schemas.errors import ScanStateError

__all__ = ["Inbox", "ScanInbox"]

# A thread that was interrupted right after its task did not wake the worker.
_LOOK_EVERY_S = 0.2
# Waking the worker costs more than most tasks, so after some it rests as long.
_REST_S = 0.001


class Inbox:
    """The tasks that were handed over and not carried out, in their order."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._wakeup = Wakeup()
        self._is_asleep = self._is_shut = self._was_busy = False
        self._why_shut = ""

    def put(self, task: Task) -> None:
        """Hand over a task, from any thread, signal handler or finaliser.

        Raises
        ------
        ScanStateError
            If the publisher is closed, or its monitor has failed.
        """
        self._tasks.append(task)
        if (self._is_asleep or task.is_awaited) and self._wakeup.is_wanted():
            with suppress(RuntimeError):  # Another thread was faster.
                self._wakeup.release()
        if self._is_shut:
            self.check_served()

    def shut(self, why: str) -> None:
        """Refuse tasks from now on; the worker carries out those that came before.

        Parameters
        ----------
        why : str
            What whoever hands over a task is told; the first one counts.
        """
        self._why_shut = self._why_shut or why
        self._is_shut = True
        self._wakeup.wake()

    @property
    def is_shut(self) -> bool:
        """Whether tasks are refused."""
        return self._is_shut

    @property
    def is_idle_and_shut(self) -> bool:
        """Whether there is no task, and none will come."""
        return self._is_shut and not self._tasks

    def check_served(self) -> None:
        """Raise ScanStateError if tasks are refused."""
        if self._is_shut:
            raise ScanStateError(self._why_shut)

    def pending_bytes(self, owner: TaskOwner) -> int:
        """Return the bytes that the tasks of a scan keep."""
        if not self._tasks:
            return 0
        # The copy is one step: other threads append meanwhile.
        return sum([task.nbytes for task in tuple(self._tasks) if task.owner is owner])

    def carry_out(self) -> None:
        """Carry out all tasks: only the worker calls this."""
        tasks = self._tasks
        while tasks:
            task = tasks[0]
            task.carry_out()
            tasks.popleft()  # Only now: it keeps its bytes until then.
            task.owner.note_room()
            self._was_busy = True

    def await_task(self) -> None:
        """Sleep until there is a task, or for a time: only the worker calls this.

        After tasks it rests first; a task for which nobody waits does not end that.
        """
        if self._was_busy:
            self._was_busy = False
            self._sleep(_REST_S)
        else:
            self._is_asleep = True
            if not self._tasks:
                self._sleep(_LOOK_EVERY_S)
            self._is_asleep = False

    def _sleep(self, most_s: float) -> None:
        self._wakeup.sleep(most_s)
        self._wakeup.forget()


class ScanInbox:
    """Where the program's threads hand over what they do to one scan.

    Parameters
    ----------
    scan : TaskOwner
        The scan.
    inbox : Inbox
        The tasks of all scans of the publisher.
    """

    def __init__(self, scan: TaskOwner, inbox: Inbox) -> None:
        self._scan = scan
        self._inbox = inbox

    def hand_over(
        self, nbytes: int, run: Callable[..., object], *arguments: Any
    ) -> None:
        """Have the worker do something with points that came, from any thread.

        Parameters
        ----------
        nbytes : int
            Bytes of the points.
        run : callable
            What is done; its errors fail the scan.
        arguments
            Its arguments.

        Raises
        ------
        ScanStateError
            If another thread has ended the scan meanwhile.
        """
        scan = self._scan
        task = Task(scan, nbytes, run, arguments)
        self._inbox.put(task)
        if scan.is_over:
            # Another thread has ended the scan: before this, or after it?
            while not (task.is_done or is_own_thread(threading.current_thread())):
                self._inbox.check_served()
                time.sleep(0.001)
            if task.is_refused or not task.is_done:
                scan.check_open()

    def ask(self, run: Callable[[], object]) -> None:
        """Have the worker do something after all that came before, and wait for it.

        Raises
        ------
        ScanStateError
            If the publisher is closed.
        Exception
            What it raised.
        """
        refuse_own_wait()
        question = Question(self._scan, run)
        self._inbox.put(question)
        question.wait(self._inbox.check_served)

    def hand_over_start(self, run: Callable[[], object]) -> None:
        """Have the worker start the threads that send the scan: `run` does it once."""
        self._inbox.put(LastTask(self._scan, 0, run))

    def hand_over_end(self, run: Callable[[], object]) -> None:
        """Accept no more points, and have the worker end the scan, once.

        Called again, it hands over the first `run` again if it was not carried out: a
        call that was interrupted may have closed the scan only.
        """
        scan = self._scan
        if scan.end is None:
            scan.set_end(LastTask(scan, 0, run))
        if scan.end is not None and not scan.end.is_done:
            self._inbox.put(scan.end)
