"""Memory of several processes together: what they share counts once (PSS)."""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

# Short against a scan; reading takes the kernel a fraction of a millisecond.
_EVERY_S = 0.05


def tree_pss(pids: Iterable[int]) -> int:
    """Return the proportional set size of processes, in bytes; of dead ones 0."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


class PeakPss:
    """The largest PSS of processes together while a block runs, sampled.

    Parameters
    ----------
    find_pids : callable
        Returns the processes, which may change meanwhile.

    Attributes
    ----------
    nbytes : int
        The peak so far.
    """

    def __init__(self, find_pids: Callable[[], Iterable[int]]) -> None:
        self._find_pids = find_pids
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.nbytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.nbytes = max(self.nbytes, tree_pss(self._find_pids()))
            if self._is_over.wait(_EVERY_S):
                return
