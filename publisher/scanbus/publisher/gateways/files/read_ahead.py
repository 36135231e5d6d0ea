"""Read many files in order, a bounded number of files ahead.

Decompressing and decoding a file takes longer than sending its frames, so threads do
it.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from scanbus.publisher.gateways.files.images import Frame, headers_of, open_image

__all__ = ["frames_ahead", "headers_ahead"]

T = TypeVar("T")

# bz2, gzip and fabio's decoders release the GIL; more threads only keep more frames.
_MAX_THREADS = 4


@contextmanager
def frames_ahead(files: Sequence[Path], repeat: int = 1) -> Iterator[Iterator[Frame]]:
    """Yield an iterator over the frames of all files, `repeat` times.

    The first frame of a file is read ahead, the others when it is their turn. At most
    one file per thread and one more are held.

    Parameters
    ----------
    files : sequence of Path
        In order.
    repeat : int
        How often all files are read.
    """
    wanted = itertools.chain.from_iterable(itertools.repeat(list(files), repeat))
    with _ahead(wanted, partial(open_image, follows_links=True)) as opened:
        yield itertools.chain.from_iterable(opened)


@contextmanager
def headers_ahead(files: Sequence[Path]) -> Iterator[Iterator[list[dict[str, Any]]]]:
    """Yield an iterator over the headers of each file, one for each frame."""
    with _ahead(files, headers_of) as found:
        yield found


@contextmanager
def _ahead(files: Iterable[Path], read: Callable[[Path], T]) -> Iterator[Iterator[T]]:
    n_threads = max(1, min(_MAX_THREADS, os.cpu_count() or 1))
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="scanbus-images")
    try:
        yield _in_order(executor, iter(files), read, n_threads + 1)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _in_order(
    executor: ThreadPoolExecutor,
    wanted: Iterator[Path],
    read: Callable[[Path], T],
    ahead: int,
) -> Iterator[T]:
    opened: deque[Future[T]] = deque(
        executor.submit(read, path) for path in itertools.islice(wanted, ahead)
    )
    while opened:
        found = opened.popleft().result()
        following = next(wanted, None)
        if following is not None:
            opened.append(executor.submit(read, following))
        yield found
