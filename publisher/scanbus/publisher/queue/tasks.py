"""What a program's thread has handed over, each with all that it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from scanbus.publisher.queue.locks import Wakeup

__all__ = ["LastTask", "Question", "Task", "TaskOwner"]

# A thread looks as often whether the publisher was closed.
_LOOK_EVERY_S = 0.2


class TaskOwner(Protocol):
    """The scan of a task."""

    @property
    def is_over(self) -> bool:
        """Whether the program has ended it."""
        ...

    @property
    def end(self) -> Task | None:
        """The task that ends it, once the program has ended it."""
        ...

    def set_end(self, end: Task) -> None:
        """Take no more points, in one step."""
        ...

    def check_open(self) -> None:
        """Raise the scan's error if it failed, or ScanStateError if it is over."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether its end was carried out: tasks that come after that are refused."""
        ...

    def fail_with(self, error: BaseException) -> None:
        """Let every further call of the program raise `error`; takes the lock."""
        ...

    def note_room(self) -> None:
        """Wake the threads of the program that wait for room."""
        ...


@dataclass(slots=True, eq=False)
class Task:
    """One change of a scan, with everything that it needs.

    Parameters
    ----------
    owner : TaskOwner
        The scan.
    nbytes : int
        Bytes that it keeps until it was run.
    run : callable
        Makes the change, in the worker's thread; its error fails the scan.
    arguments : tuple
        Its arguments.
    is_done : bool
        Whether it was run or refused.
    is_refused : bool
        Whether the scan's end was carried out before it.
    """

    is_always: ClassVar[bool] = False
    """Whether it is run although the end of the scan was carried out."""
    is_awaited: ClassVar[bool] = False
    """Whether a thread waits until it was run."""

    owner: TaskOwner
    nbytes: int
    run: Callable[..., object]
    arguments: tuple[Any, ...] = ()
    is_done: bool = False
    is_refused: bool = False

    def carry_out(self) -> None:
        """Run it, or refuse it if the scan's end was carried out before."""
        if self.is_done:
            return  # Handed over twice: the first time may have been interrupted.
        if self.owner.is_closed and not self.is_always:
            self.is_refused = True
            self.answer(None)
        else:
            try:
                self.run(*self.arguments)
            except Exception as error:  # noqa: BLE001 - told to the program
                self.answer(error)
            else:
                self.answer(None)
        self.is_done = True

    def answer(self, error: Exception | None) -> None:
        """Tell the program of an error: nobody waits, so its next call raises it."""
        if error is not None:
            self.owner.fail_with(error)


class LastTask(Task):
    """Starts or ends a scan: it is run whenever it comes."""

    __slots__ = ()
    is_always: ClassVar[bool] = True


class Question(Task):
    """A task for which the program waits; its error is that call's."""

    __slots__ = ("_answered", "_error")
    is_awaited: ClassVar[bool] = True

    def __init__(self, owner: TaskOwner, run: Callable[[], object]) -> None:
        super().__init__(owner, 0, run)
        self._error: Exception | None = None
        self._answered = Wakeup()

    def answer(self, error: Exception | None) -> None:
        """Give the waiting thread its error."""
        self._error = error
        self._answered.wake()

    def wait(self, check_served: Callable[[], None]) -> None:
        """Wait until it was run or refused.

        Raises
        ------
        ScanStateError
            If the publisher is closed, or this thread must not wait for it.
        Exception
            What it raised.
        """
        while not self._answered.sleep(_LOOK_EVERY_S):
            check_served()
        if self._error is not None:
            raise self._error
