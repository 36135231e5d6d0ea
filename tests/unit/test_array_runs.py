"""Runs of frames begin where their numbers do, and end when nothing comes."""

import json
from collections.abc import Sequence

import pytest

from scanbus.publisher.gateways.runner.gateway import RawMessage
from scanbus.publisher.gateways.runner.messages import SeriesEnded, SeriesStarted
from scanbus.publisher.gateways.zmq.runs import ArrayRuns, RunSource


class Numbers:
    """A source of frames with these numbers; None for a time without one."""

    def __init__(self, numbers: Sequence[int | None]) -> None:
        self._numbers = list(numbers)

    def receive(self, timeout_s: float) -> RawMessage | None:
        assert timeout_s == 0.1
        number = self._numbers.pop(0)
        if number is None:
            return None
        header = {"htype": "array-1.0", "frame": number}
        return RawMessage([json.dumps(header).encode(), b""], 1, 0.0)

    def close(self) -> None:
        """Nothing is open."""


def said(numbers: Sequence[int | None], idle_s: float = 0.25) -> list[object]:
    """Return what a source says: numbers, ``start``, ``end``; polled each 0.1 s."""
    source = RunSource(Numbers(numbers), idle_s)
    found: list[object] = []
    while True:
        try:
            raw = source.receive(0.1)
        except IndexError:
            return found
        if raw is None:
            continue
        match raw.content:
            case SeriesStarted(first_number=first):
                found.append(f"start {first}")
            case SeriesEnded():
                found.append("end")
            case [header, _]:
                found.append(json.loads(header)["frame"])


def test_silence_ends_a_run_once() -> None:
    assert said([0, 1, None, None, 2, None, None, None, None, None]) == [
        "start None", 0, 1, 2, "end",
    ]  # fmt: skip


def test_after_silence_any_number_begins_a_run() -> None:
    assert said([7, 8, None, None, None, 9]) == [
        "start 7", 7, 8, "end", "start 9", 9,
    ]  # fmt: skip


@pytest.mark.parametrize("numbers", [[0, 0], [0, 1, 0, 1], [1, 2, 1, 2], [5, 6, 0, 1]])
def test_numbers_that_begin_again_are_another_run(numbers: list[int]) -> None:
    assert said(numbers).count("end") == 1


@pytest.mark.parametrize("numbers", [[1, 0, 3, 2, 2, 0], [0, 64, 1], [0, 2**31, 1, 2]])
def test_numbers_out_of_order_are_one_run(numbers: list[int]) -> None:
    assert "end" not in said(numbers)


def test_a_long_way_back_is_another_run() -> None:
    runs = ArrayRuns()
    assert [runs.is_new(number) for number in (10, 100, 36, 35)] == [
        True,
        False,
        False,
        True,
    ]
