"""An operator who reads what the writers say, and accepts losses that are real."""

import subprocess
import sys
import threading
from collections.abc import Callable

from tests.faults.content import scan_uid

__all__ = ["LossOperator"]

_LOOK_S = 0.5


class LossOperator(threading.Thread):
    """Lets scans go on of which a fault has deleted files for good.

    Parameters
    ----------
    url : str
        Of Redis itself, with no proxy between.
    seed : int
        Of the data.
    said : callable
        Returns all that the writers of the arena have logged.
    """

    def __init__(self, url: str, seed: int, said: Callable[[], str]) -> None:
        super().__init__(name="operator", daemon=True)
        self._url = url
        self._seed = seed
        self._said = said
        self._n_heard: dict[int, int] = {}
        self._is_over = threading.Event()
        # Numbers of scans that lost a file for good.
        self.bereft: set[int] = set()

    def run(self) -> None:
        while not self._is_over.wait(_LOOK_S):
            for number in tuple(self.bereft):
                uid = scan_uid(self._seed, number)
                n_heard = self._said().count(f"accept-loss {uid}")
                if n_heard > self._n_heard.get(number, 0) and self._accepted(uid):
                    self._n_heard[number] = n_heard

    def _accepted(self, uid: str) -> bool:
        """Accept what is lost; return False if Redis did not answer."""
        command = [sys.executable, "-m", "scanbus.cli", "root", "accept-loss", uid]
        done = subprocess.run(
            [*command, "--redis", self._url],
            capture_output=True,
            text=True,
            check=False,
        )
        return not done.returncode or "finished" in done.stderr

    def leave(self) -> None:
        self._is_over.set()
        self.join(30)
