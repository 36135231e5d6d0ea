"""Plan of a run: how much it measures; passed to all goals."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.frames import FrameSet
from benchmarks.harness.stage import COMPONENTS, ROOT, Stage
from scanbus.cli.private_redis import SOCKET_PATH_BYTES


@dataclass(frozen=True)
class Plan:
    """One run of the benchmarks.

    Attributes
    ----------
    folder : pathlib.Path
        Folder on the measured disk; removed afterwards.
    quick : bool
        Only ratios, with less data: for CI.
    repeats : int
        Number of runs of each side; their median counts.
    detector : FrameSet
        Frames of a large detector.
    """

    folder: Path
    quick: bool
    repeats: int
    detector: FrameSet

    @property
    def persistence(self) -> tuple[bool, ...]:
        """Values of "Redis keeps an append-only file" to measure, in turn."""
        return (False,) if self.quick else (False, True)

    def size(self, full: int, quick: int) -> int:
        """Return a number of items, less for CI."""
        return quick if self.quick else full

    @contextmanager
    def stage(
        self, *, aof: bool, maxmemory_mib: int = 2048, is_tuned: bool = True
    ) -> Iterator[Stage]:
        """Start a Redis with a writer for a goal."""
        with Stage(
            self.folder, aof=aof, maxmemory_mib=maxmemory_mib, is_tuned=is_tuned
        ) as stage:
            stage.start_writer()
            yield stage


def with_aof(aof: bool) -> str:
    """Return the words for the append-only file in a figure's name."""
    return "AOF everysec" if aof else "no AOF"


def prepare_environment() -> None:
    """Let children find the source tree, and use one thread per call."""
    folders = [str(ROOT), *(str(ROOT / name) for name in COMPONENTS)]
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([*folders, *filter(None, given)])
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]


def use_for_redis(folder: Path) -> None:
    """Put private servers and their append-only files on the disk that is measured.

    Raises
    ------
    ValueError
        If the path is too long for the socket of a server.
    """
    server = folder / "scanbus-redis-12345678" / "redis.sock"
    if len(os.fsencode(server)) > SOCKET_PATH_BYTES:
        raise ValueError(
            f"{folder} is too long for a socket of Redis ({SOCKET_PATH_BYTES} bytes "
            "with what comes below it): give --folder a shorter one, or a link to it"
        )
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
