"""A thread that looks at files again and again while a test goes on."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

__all__ = ["Looking"]


class Looking(ABC):
    """Looks in a thread of its own; what a look raises is raised by the test."""

    def __init__(self) -> None:
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="onlooker")
        self.fault: BaseException | None = None

    @abstractmethod
    def look(self) -> None:
        """Look once; raise if something is wrong."""

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look during a block, and raise at its end what was found."""
        self._thread.start()
        try:
            yield
        finally:
            self._is_done.set()
            self._thread.join()
        if self.fault is not None:
            raise self.fault

    @final
    def _run(self) -> None:
        try:
            while not self._is_done.is_set():
                self.look()
                self._is_done.wait(0.01)
        except BaseException as error:  # noqa: BLE001 - raised by `looking`
            self.fault = error
