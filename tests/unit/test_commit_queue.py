"""Segments are published in order, and none behind one that failed."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from scanbus.writer.scan.commit_queue import CommitQueue, Stopped

EIGER: Any = "eiger"
COUNTERS: Any = "counters"


def segment(name: str) -> Any:
    return name


def test_segments_are_published_in_order() -> None:
    done: list[Any] = []
    with CommitQueue(done.append) as commits:
        commits.submit(EIGER, segment("eiger_0000.h5"))
        commits.submit(COUNTERS, segment("counters_0000.h5"))
        commits.submit(EIGER, segment("eiger_0001.h5"))
    published = list(commits.published())
    assert [owner for owner, _ in published] == [EIGER, COUNTERS, EIGER]
    assert [name for _, name in published] == done
    assert done == [
        "eiger_0000.h5",
        "counters_0000.h5",
        "eiger_0001.h5",
    ]
    assert commits.is_empty


def test_nothing_is_published_behind_one_that_failed() -> None:
    done: list[Any] = []

    def publish(finished: Any) -> None:
        if finished == "b":
            raise OSError("no")
        done.append(finished)

    with CommitQueue(publish) as commits:
        for name in "abc":
            commits.submit(EIGER, segment(name))

    published = commits.published()
    assert next(published) == (EIGER, segment("a"))
    with pytest.raises(OSError, match="no"):
        next(published)
    assert done == ["a"]
    assert commits.unpublished(EIGER) == [segment("b"), segment("c")]
    assert commits.unpublished(COUNTERS) == []
    with pytest.raises(OSError, match="no"):  # It stays the first.
        next(commits.published())


def test_those_behind_a_failure_are_stopped() -> None:
    def publish(*_: Any) -> None:
        raise Stopped

    with CommitQueue(publish) as commits:
        commits.submit(EIGER, segment("a"))
    with pytest.raises(Stopped):
        list(commits.published())


def test_it_is_full_before_too_many_files_are_open() -> None:
    go = threading.Event()
    with CommitQueue(lambda *_: cast("None", go.wait(30))) as commits:
        while not commits.is_full:
            commits.submit(EIGER, segment("a"))
        commits.wait(0.01)
        n_waiting = len(commits.unpublished(EIGER))
        go.set()
    assert n_waiting == 16
    assert len(list(commits.published())) == 16
