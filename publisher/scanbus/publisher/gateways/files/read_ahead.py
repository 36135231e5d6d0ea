"""Read the frames of many files in order, a bounded number of files ahead.

Decompressing and decoding a file takes longer than sending its frames, so threads do
it.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from scanbus.publisher.gateways.files.images import Frame, open_image

__all__ = ["frames_ahead"]

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
    n_threads = max(1, min(_MAX_THREADS, os.cpu_count() or 1))
    wanted = itertools.chain.from_iterable(itertools.repeat(list(files), repeat))
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="scanbus-images")
    try:
        yield _in_order(executor, wanted, n_threads + 1)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _in_order(
    executor: ThreadPoolExecutor, wanted: Iterator[Path], ahead: int
) -> Iterator[Frame]:
    opened: deque[Future[Iterator[Frame]]] = deque(
        executor.submit(open_image, path) for path in itertools.islice(wanted, ahead)
    )
    while opened:
        frames = opened.popleft().result()
        following = next(wanted, None)
        if following is not None:
            opened.append(executor.submit(open_image, following))
        yield from frames
