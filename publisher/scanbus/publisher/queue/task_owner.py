"""What the inbox knows of a scan whose tasks it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from scanbus.publisher.queue.inbox import Task

__all__ = ["TaskOwner"]


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
