"""What fits a channel is converted, what does not gets a sentence."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.bus.codecs import find_codec
from scanbus.bus.protocol import Variable
from scanbus.publisher.declare.arguments import (
    declare_channel,
    declare_detector,
    positioners_of,
    tree_of,
)
from scanbus.publisher.declare.values import frames_of, number_of, points_of
from scanbus.schemas import ArrayValue, ChannelDescription, Positioner
from scanbus.schemas.errors import UnknownCodecError


def channel(**described: Any) -> ChannelDescription:
    return declare_channel("c", **described).channel


@pytest.mark.parametrize(
    ("described", "values", "expected"),
    [
        ({}, 1, [1.0]),
        ({}, [1, 2.5], [1.0, 2.5]),
        ({"dtype": "uint8"}, [1, 255], [1, 255]),
        ({"dtype": "bool"}, True, [True]),
        ({"dtype": "float32"}, np.array([1.5], ">f8"), [1.5]),
        ({"dtype": "complex128"}, [1, 2j], [1, 2j]),
        ({"shape": (2,)}, [1, 2], [[1, 2]]),
        ({"shape": (2,)}, [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
    ],
)
def test_points_are_brought_into_the_channels_form(
    described: dict[str, Any], values: Any, expected: Any
) -> None:
    found = points_of(channel(**described), values)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == channel(**described).numpy_dtype


@pytest.mark.parametrize(
    ("described", "values", "sentence"),
    [
        ({"dtype": "uint8"}, [-1, 2], "got values from -1 to 2"),
        ({"dtype": "int32"}, 1.5, "c: expected int32, got float64"),
        ({}, "text", "c: expected float64, got <U4"),
        ({}, None, "got object"),
        ({}, [[1.0]], r"got \(1, 1\)"),
        ({}, [[1.0], [1.0, 2.0]], "c: "),
        ({"shape": (3,)}, [1.0, 2.0], r"shape \(3,\), or \(n, 3\)"),
        ({"dtype": "string", "max_point_bytes": 3}, "four", "4 bytes"),
        ({"dtype": "string", "max_point_bytes": 3}, 4, "expected texts"),
        ({"dtype": "string", "max_point_bytes": 3}, [4], "instead of text"),
        ({"shape": (-1,), "max_point_bytes": 8}, [1.0, 2.0], "16 bytes"),
        ({"shape": (-1,), "max_point_bytes": 8}, 1.0, "one-dimensional"),
        ({"shape": (-1,), "max_point_bytes": 8, "dtype": "int8"}, [[300]], "300"),
        ({"shape": (-1,), "max_point_bytes": 8, "dtype": "int8"}, [["x"]], "expected"),
    ],
)
def test_what_does_not_fit_is_named(
    described: dict[str, Any], values: Any, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        points_of(channel(**described), values)


def test_single_numbers_are_checked_where_they_are_sent() -> None:
    assert number_of(channel(), np.float32(1.5)) == 1.5
    assert number_of(channel(dtype="int8"), np.int64(-128)) == -128
    assert number_of(channel(dtype="int8"), 1.5) is None
    assert number_of(channel(), "text") is None
    with pytest.raises(ValueError, match=r"c: expected uint8 \(0 to 255\), got 256"):
        number_of(channel(dtype="uint8"), 256)


@pytest.mark.parametrize(
    ("values", "lengths"),
    [
        (np.arange(3), [3]),
        ([1, 2], [2]),
        ([[1], [], [1, 2]], [1, 0, 2]),
        (np.ones((2, 3)), [3, 3]),
        ([], []),
        (np.array([]), [0]),
    ],
)
def test_ragged_points_are_one_array_or_a_list_of_them(
    values: Any, lengths: list[int]
) -> None:
    found = points_of(channel(shape=(-1,), max_point_bytes=64), values)
    assert isinstance(found, Variable)
    assert list(found.lengths) == lengths


def test_frames_keep_their_kind() -> None:
    frame = declare_detector("d", shape=(2, 2), dtype="uint32").channel
    assert frames_of(frame, np.zeros((2, 2), ">u2")).shape == (1, 2, 2)
    assert frames_of(frame, np.zeros((5, 2, 2), "u4")).shape == (5, 2, 2)
    with pytest.raises(ValueError, match="d: expected uint32, got int16"):
        frames_of(frame, np.zeros((2, 2), "i2"))


@pytest.mark.parametrize(
    ("described", "sentence"),
    [
        ({"dtype": "float16"}, "dtype"),
        ({"role": "captain"}, "role"),
        ({"dtype": "string"}, "max_point_bytes"),
        ({"shape": (0,)}, "has an axis of length 0"),
        ({"units": "x" * 64}, "units"),
    ],
)
def test_descriptions_that_do_not_hold_get_one_sentence(
    described: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        channel(**described)
    assert "\n" not in str(caught.value)


def test_unknown_codecs_and_ragged_detectors_are_refused() -> None:
    with pytest.raises(UnknownCodecError):
        channel(codec="zip")
    with pytest.raises(ValueError, match="fixed shape"):
        declare_detector("d", shape=(-1,), dtype="u1", max_point_bytes=3)
    with pytest.raises(ValueError, match="points_per_chunk"):
        declare_detector("d", shape=(2, 2), dtype="u1", points_per_chunk=0)


def test_metadata_becomes_json() -> None:
    tree = tree_of(
        {
            "n": np.int16(3),
            "when": date(2026, 1, 2),
            "where": Path("a/b"),
            "names": np.array(["x", "y"]),
            "mask": np.arange(1000).reshape(10, 100),
        }
    )
    assert (tree["n"], tree["when"], tree["where"]) == (3, "2026-01-02", "a/b")
    assert tree["names"] == ["x", "y"]
    array = ArrayValue.model_validate(tree["mask"]["array"])
    data = array.data
    found = find_codec(array.codec).decode(data, array.dtype, array.shape)
    np.testing.assert_array_equal(found, np.arange(1000).reshape(10, 100))
    with pytest.raises(ValueError, match="'x'"):
        tree_of({"x": object()})
    with pytest.raises(ValueError, match="datetime64"):
        tree_of({"x": np.array(["2026"], "M8[s]")})


def test_positioners_are_numbers_texts_or_pairs() -> None:
    found = positioners_of(
        {"a": 1, "b": ("deg", 2), "c": (3.0, "mm"), "d": "in", "e": Positioner(value=1)}
    )
    assert [each.value for each in found.values()] == [1.0, 2.0, 3.0, "in", 1.0]
    assert [each.units for each in found.values()] == ["", "deg", "mm", "", ""]
    with pytest.raises(ValueError, match="units, value"):
        positioners_of({"a": (1, 2, 3)})
