"""An operator who reads what the writers say, and accepts losses that are real."""

import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["LossOperator"]

_LOOK_S = 0.5
_TAKEN = re.compile(r"name taken: (\S+) exists and holds scan (\w+), lane ")


class LossOperator(threading.Thread):
    """Lets scans go on of which a fault has deleted files for good.

    Parameters
    ----------
    url : str
        Of Redis itself, with no proxy between.
    said : callable
        Returns all that the writers of the arena have logged.
    """

    def __init__(self, url: str, said: Callable[[], str]) -> None:
        super().__init__(name="operator", daemon=True)
        self._url = url
        self._said = said
        self._n_heard: dict[str, int] = {}
        self._is_over = threading.Event()
        # Uids of scans that lost a file for good.
        self.bereft: set[str] = set()
        self._moved: set[str] = set()

    def run(self) -> None:
        while not self._is_over.wait(_LOOK_S):
            for uid in filter(None, tuple(self.bereft)):
                n_heard = self._said().count(f"accept-loss {uid}")
                if n_heard > self._n_heard.get(uid, 0) and self._accepted(uid):
                    self._n_heard[uid] = n_heard
            self._move_taken()

    def _move_taken(self) -> None:
        """Move files away that do not fit to one that was deleted before them.

        The segment is written again, and may end elsewhere; the writer says so.
        """
        for path, uid in _TAKEN.findall(self._said()):
            if uid in self.bereft and path not in self._moved and Path(path).is_file():
                self._moved.add(path)
                Path(path).rename(Path(tempfile.mkdtemp()) / Path(path).name)

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
