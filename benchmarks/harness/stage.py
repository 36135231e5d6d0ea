"""A private Redis with the configuration of a beamline, and a writer."""

import contextlib
import logging
import multiprocessing
import multiprocessing.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import structlog

from scanbus.cli.private_redis import PrivateRedis
from scanbus.writer import init_root

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ("schemas", "bus", "publisher", "subscriber", "writer", "cli")
CONFIG = ROOT / "deploy" / "redis" / "redis.conf"
# As in deploy/; Debian's Redis reads the one, a Redis with its own jemalloc the other.
_ALLOCATOR = (
    "oversize_threshold:0,lg_extent_max_active_fit:12,"
    "dirty_decay_ms:-1,muzzy_decay_ms:-1"
)
ALLOCATOR = {"MALLOC_CONF": _ALLOCATOR, "JE_MALLOC_CONF": _ALLOCATOR}
# To fit beside everything else on a machine with 8 GB.
MAXMEMORY_MIB = 2048
CHILD_S = 180.0
# Some 300 children for one page: each would load for most of a second. Of these only
# numpy starts a thread when it is loaded, OpenBLAS', which is made for forks.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["benchmarks.harness.bare", "benchmarks.harness.sending", "h5py", "hdf5plugin"]
)
# Its socket outlives the folder of the benchmarks, which becomes the one for all that
# is temporary.
multiprocessing.util.get_temp_dir()


@dataclass(frozen=True)
class Child:
    """A process that is ready and waits for its start."""

    process: Any
    pipe: Connection

    def go(self) -> None:
        """Start it."""
        self.pipe.send("go")

    def result(self, timeout_s: float = CHILD_S) -> Any:
        """Return the result of the process.

        Raises
        ------
        RuntimeError
            If it failed, or did not answer in time.
        """
        try:
            if not self.pipe.poll(timeout_s):
                raise RuntimeError(f"{self.process.name}: silent for {timeout_s:.0f} s")
            result = self.pipe.recv()
        except EOFError as error:
            raise RuntimeError(f"{self.process.name}: died") from error
        finally:
            self.process.join(10)
            if self.process.is_alive():
                self.process.kill()
        return result


def start_child(target: Callable[..., Any], *args: Any, **options: Any) -> Child:
    """Start ``target(ready, ...)`` in a process; returns when it calls ``ready()``.

    ``ready`` says that everything is loaded and returns when :meth:`Child.go` is
    called, so that starting is not measured.
    """
    ours, theirs = _SERVER.Pipe()
    name = target.__qualname__
    process = _SERVER.Process(
        target=_run, args=(theirs, target, args, options), name=name
    )
    process.start()
    theirs.close()
    if not ours.poll(CHILD_S):
        process.kill()
        raise RuntimeError(f"{name}: not ready within {CHILD_S:.0f} s")
    try:
        ours.recv()
    except EOFError as error:
        raise RuntimeError(f"{name}: died before it was ready") from error
    return Child(process, ours)


def _run(
    pipe: Connection,
    target: Callable[..., Any],
    args: tuple[Any, ...],
    options: dict[str, Any],
) -> None:
    def ready() -> None:
        pipe.send("ready")
        pipe.recv()

    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=quiet)
    pipe.send(target(ready, *args, **options))


class Stage:
    """A Redis and, on demand, a writer; one folder for files.

    Parameters
    ----------
    folder : pathlib.Path
        Parent of the folder for files, which is created and removed.
    aof : bool
        Whether Redis keeps an append-only file, ``everysec``.
    maxmemory_mib : int
        Of Redis.
    is_tuned : bool
        Whether its allocator keeps the memory of large entries, as in ``deploy/``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        aof: bool,
        maxmemory_mib: int = MAXMEMORY_MIB,
        is_tuned: bool = True,
    ) -> None:
        options: dict[str, str | int] = {
            "maxmemory": f"{maxmemory_mib}mb",
            "appendonly": "yes" if aof else "no",
        }
        self.redis = PrivateRedis(
            config=CONFIG, options=options, environment=ALLOCATOR if is_tuned else None
        )
        self.aof = aof
        self.folder = folder / ("aof" if aof else "no-aof")
        self._writer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self.redis.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_writer()
        self.redis.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """Address of the Redis."""
        return self.redis.url

    @property
    def writer_pids(self) -> list[int]:
        """Of the running writer: the service and its workers."""
        if self._writer is None:
            raise RuntimeError("no writer was started")
        service = psutil.Process(self._writer.pid)
        return [service.pid, *(each.pid for each in service.children(recursive=True))]

    def start_writer(self) -> float:
        """Start a writer; return the seconds until it was ready."""
        init_root(self.folder / "files")
        log = self.folder / "writer.log"
        command = [sys.executable, "-m", "scanbus.cli", "writer", "--redis", self.url]
        started = time.perf_counter()
        with log.open("wb") as errors:
            self._writer = subprocess.Popen(
                [*command, "--root", str(self.folder / "files")],
                stderr=errors,
                env=child_environment(),
            )
        deadline = started + 30
        while b"writer_started" not in log.read_bytes():
            if self._writer.poll() is not None or time.perf_counter() > deadline:
                raise RuntimeError(f"the writer did not start: {log.read_text()}")
            time.sleep(0.005)
        return time.perf_counter() - started

    def stop_writer(self) -> None:
        """End the writer, if there is one."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.terminate()
        try:
            writer.wait(20)
        except subprocess.TimeoutExpired:
            writer.kill()
            writer.wait(20)

    def remove_files(self) -> None:
        """Remove files between two runs."""
        # Not the folder itself, nor what makes it a root: the writer needs both.
        for path in (self.folder / "files").glob("[!.]*"):
            shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def metered(self) -> Iterator[dict[str, float]]:
        """Measure CPU seconds of Redis and writer while the block runs."""
        pids = {"redis": [self.redis.pid], "writer": self.writer_pids}
        before = {name: cpu_seconds(each) for name, each in pids.items()}
        spent: dict[str, float] = {}
        yield spent
        for name, each in pids.items():
            spent[name] = cpu_seconds(each) - before[name]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the user and system time of processes so far, in seconds."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return float(sum(each.user + each.system for each in times))


def child_environment() -> dict[str, str]:
    """Return the environment of a child: the source tree, one thread per call."""
    folders = [ROOT, *(ROOT / name for name in COMPONENTS)]
    path = os.pathsep.join(map(str, folders))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
