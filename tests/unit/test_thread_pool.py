"""Several threads on one array: the same bytes, every error, and nobody left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from scanbus.bus.codecs import ThreadPool, find_codec
from scanbus.schemas.errors import PayloadError
from tests.support.process_limits import no_more_threads


@pytest.fixture
def threads() -> Iterator[ThreadPool]:
    threads = ThreadPool(3, "test", part_bytes=1 << 13)
    with threads.pool:
        yield threads


def test_all_is_done_once_and_in_order(threads: ThreadPool) -> None:
    assert threads.map(lambda number: number * number, 50) == [n * n for n in range(50)]
    assert threads.map(str, 1) == ["0"]
    assert threads.map(str, 0) == []


def test_several_threads_are_at_it(threads: ThreadPool) -> None:
    everybody = threading.Barrier(3, timeout=30)
    names = threads.map(
        lambda _: (everybody.wait(), threading.current_thread().name)[1], 3
    )
    assert len(set(names)) == 3


def test_an_error_comes_when_nobody_is_at_work_any_more(threads: ThreadPool) -> None:
    main = threading.current_thread()
    begun, ended = threading.Event(), threading.Event()

    def work(_: int) -> None:
        if threading.current_thread() is main:
            assert begun.wait(30)
            raise ValueError("mine")
        begun.set()
        if not ended.is_set():
            threading.Event().wait(0.3)
            ended.set()

    with pytest.raises(ValueError, match="mine"):
        threads.map(work, 20)
    assert ended.is_set()


def test_an_error_of_who_helps_is_not_swallowed(threads: ThreadPool) -> None:
    main = threading.current_thread()
    helped = threading.Event()

    def work(_: int) -> None:
        if threading.current_thread() is main:
            assert helped.wait(30)
        else:
            helped.set()
            raise ValueError("theirs")

    with pytest.raises(ValueError, match="theirs"):
        threads.map(work, 20)


def test_nobody_waits_for_help_that_has_not_begun() -> None:
    """The helping threads may be those that call: they would wait for each other."""
    threads = ThreadPool(2, "test")
    with threads.pool:
        calls = [threads.pool.submit(threads.map, str, 1000) for _ in range(20)]
        for call in calls:
            assert call.result(30) == [str(number) for number in range(1000)]


def test_helpers_may_go_everywhere_afterwards() -> None:
    """Though they call each other, and one finds the other restricted."""
    threads = ThreadPool(2, "travellers")  # Nobody else's threads have this name.
    with threads.pool:
        calls = [threads.pool.submit(threads.map, busy, 40) for _ in range(100)]
        for call in calls:
            call.result(60)
        numbers = {
            each.native_id
            for each in threading.enumerate()
            if each.name.startswith("travellers_")
        }
        assert len(numbers) == 2
        for number in numbers:
            assert os.sched_getaffinity(number or 0) == os.sched_getaffinity(0)


def busy(_: int) -> int:
    return len(bytes(200_000))


def test_without_helpers_the_caller_does_it() -> None:
    threads = ThreadPool(3, "test")
    threads.pool.shutdown()
    assert threads.map(str, 3) == ["0", "1", "2"]


@pytest.mark.parametrize("n_items", [1, 7, 4096, 40_961, 65_536, 100_003, 100_008])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f8"])
def test_the_bytes_are_those_of_one_thread(
    threads: ThreadPool, dtype: str, n_items: int
) -> None:
    array = np.random.default_rng(1).poisson(3, n_items).astype(dtype)
    alone = find_codec("bitshuffle-lz4")
    together = alone.with_threads(threads)
    packed = alone.encode(array)
    assert together.encode(array) == packed
    out = np.empty_like(array)
    together.decode(packed, array.dtype, array.shape, out)
    np.testing.assert_array_equal(out, array)
    np.testing.assert_array_equal(
        together.decode(packed, array.dtype, array.shape), array
    )


def test_damage_in_any_part_is_found(threads: ThreadPool) -> None:
    array = np.random.default_rng(2).poisson(0.003, 2_000_000).astype("u2")
    together = find_codec("bitshuffle-lz4").with_threads(threads)
    packed = bytearray(together.encode(array))
    n_found = 0
    for place in range(16, len(packed), len(packed) // 40):
        damaged = packed.copy()
        damaged[place : place + 64] = b"\xff" * 64
        try:
            found = together.decode(bytes(damaged), array.dtype, array.shape)
        except PayloadError:
            n_found += 1
        else:
            # A literal of LZ4 may be any bytes: that is what checksums are for.
            assert found.shape == array.shape
    assert n_found > 20


def test_only_codecs_of_independent_blocks_are_shared(threads: ThreadPool) -> None:
    shared = {name for name in ("none", "zstd", "lz4") if find_codec(name).is_shared}
    assert not shared
    assert find_codec("zstd").with_threads(threads) is find_codec("zstd")
    assert find_codec("bitshuffle-zstd").is_shared


def test_what_no_thread_can_be_started_for_is_not_done_later() -> None:
    # ThreadPoolExecutor keeps it in its queue although it raises.
    done: list[str] = []
    threads = ThreadPool(2, "test")
    with no_more_threads():
        assert threads.submit(lambda: done.append("refused")) is None
        assert threads.map(str, 3) == ["0", "1", "2"]
    later = threads.submit(lambda: done.append("later"))
    assert later is not None
    later.result(10)
    threads.pool.shutdown()
    assert done == ["later"]


def test_a_pool_that_is_shut_down_takes_nothing() -> None:
    threads = ThreadPool(2, "test")
    threads.pool.shutdown()
    assert threads.submit(lambda: None) is None


def test_the_error_of_a_call_is_in_its_future() -> None:
    threads = ThreadPool(1, "test")
    future = threads.submit(lambda: next(iter(())))
    assert future is not None
    assert isinstance(future.exception(10), StopIteration)
    threads.pool.shutdown()
