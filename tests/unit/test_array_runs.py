"""Runs of frames begin where their numbers do, and end when nothing comes."""

import json
from collections.abc import Sequence

import numpy as np
import pytest

from scanbus.publisher.gateways.runner.gateway import RawMessage
from scanbus.publisher.gateways.runner.messages import SeriesEnded, SeriesStarted
from scanbus.publisher.gateways.zmq.runs import RunSource
from scanbus.publisher.gateways.zmq.simulated_messages import ArrayFrames

FRAME = np.zeros((2, 3), "<u2")


class Damaged(int):
    """The number of a frame that lacks its pixels."""


class Numbers:
    """A source of frames with these numbers; None for a time without one."""

    def __init__(self, numbers: Sequence[int | None]) -> None:
        self._numbers = list(numbers)

    def receive(self, timeout_s: float) -> RawMessage | None:
        assert timeout_s == 0.1
        number = self._numbers.pop(0)
        if number is None:
            return None
        is_damaged = isinstance(number, Damaged)
        parts = ArrayFrames().image(int(number), FRAME)
        return RawMessage([parts[0], b"" if is_damaged else parts[1]], 1, 0.0)

    def close(self) -> None:
        """Nothing is open."""


def said(numbers: Sequence[int | None], idle_s: float = 0.25) -> list[object]:
    """Return what a source says: numbers, ``start``, ``end``; polled each 0.1 s."""
    source = RunSource(Numbers(numbers), idle_s, lambda: False)
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
    assert said([10, 100, 36]).count("end") == 0
    assert said([10, 100, 35]).count("end") == 1


@pytest.mark.parametrize(
    "numbers", [[Damaged(7), 3, 4], [3, Damaged(3), 4], [3, Damaged(900), 4]]
)
def test_damaged_frames_begin_no_run(numbers: list[int]) -> None:
    found = said(numbers)
    assert "end" not in found
    assert found.count("start 3") == 1
    assert [each for each in found if isinstance(each, int)] == numbers
