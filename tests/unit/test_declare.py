"""What fits a channel is converted, what does not gets a sentence."""

import re
import warnings
from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.bus.codecs import find_codec
from scanbus.bus.protocol import Variable
from scanbus.publisher.declare.arguments import (
    declare_channel,
    declare_detector,
)
from scanbus.publisher.declare.masked import masked_points
from scanbus.publisher.declare.metadata import tree_of
from scanbus.publisher.declare.positioners import positioners_of
from scanbus.publisher.declare.times import times_of
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
        ({"shape": (1,) * 6}, "shape: 6 axes, where at most 5 are possible, got"),
        ({"shape": (2.5,)}, r"shape\[0\]: must be a valid integer, got 2.5"),
        ({"points": -1}, "points: must be greater than or equal to 0, got -1"),
    ],
)
def test_descriptions_that_do_not_hold_get_one_sentence(
    described: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        channel(**described)
    assert "\n" not in str(caught.value)
    assert not re.search("Input|Tuple|String|items after", str(caught.value))


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


def test_positioners_are_numbers_texts_or_pairs() -> None:
    found = positioners_of(
        {"a": 1, "b": ("deg", 2), "c": (3.0, "mm"), "d": "in", "e": Positioner(value=1)}
    )
    assert [each.value for each in found.values()] == [1.0, 2.0, 3.0, "in", 1.0]
    assert [each.units for each in found.values()] == ["", "deg", "mm", "", ""]


BIG = 2**53 + 1
F32_MAX = float(np.finfo("f4").max)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float64", BIG),
        ("float64", -BIG),
        ("float64", 2**64 - 1),
        ("float64", 10**400),
        ("float64", np.uint64(BIG)),
        ("float64", [BIG, 0.5]),
        ("float64", (0.5, np.int64(BIG), float("nan"))),
        ("float64", np.array([1, BIG])),
        ("float32", 2**24 + 1),
        ("float32", np.array([2**24 + 1], "i4")),
        ("float32", 1e300),
        ("float32", -1e39),
        ("float32", np.array([1.0, 1e300])),
        ("float32", [1e300]),
        ("float64", np.longdouble("1e4000")),
        ("complex64", np.array([1e300j])),
        ("complex128", np.array([BIG])),
    ],
)
def test_numbers_that_a_channel_cannot_hold_are_refused(dtype: str, value: Any) -> None:
    described = channel(dtype=dtype)
    convert = number_of if np.isscalar(value) else points_of
    with pytest.raises(ValueError, match=f"c: {dtype} cannot hold .*declare another"):
        convert(described, value)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float64", 2**53),
        ("float64", 2**60),
        ("float64", np.array([2**62, -(2**63)])),
        ("float64", np.array([2**63], "u8")),
        ("float64", [2**60, 0.5, float("nan")]),
        ("float64", float("inf")),
        ("float32", 2**24 + 2),
        ("float32", F32_MAX),
        ("float32", 0.1),
        ("float32", [float("inf"), float("nan")]),
        ("float32", np.array([0.1, -np.inf])),
        ("complex64", np.array([complex("inf")])),
    ],
)
def test_numbers_that_only_lose_precision_are_taken(dtype: str, value: Any) -> None:
    described = channel(dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = points_of(described, value)
        np.testing.assert_array_equal(found, np.atleast_1d(np.array(value, dtype)))
        number_of(described, value)


@pytest.mark.parametrize("dtype", ["int64", "float64", "timedelta64"])
def test_moments_and_durations_are_no_numbers(dtype: str) -> None:
    described = channel(dtype="int64" if dtype == "timedelta64" else dtype)
    for value in (np.datetime64("2024", "ns"), np.timedelta64(5, "ns")):
        assert number_of(described, value) is None
        with pytest.raises(ValueError, match="c: expected"):
            points_of(described, value)


@pytest.mark.parametrize(
    ("described", "values", "points", "missing"),
    [
        ({}, np.ma.masked, [np.nan], [True]),
        (
            {},
            np.ma.array([1.0, 1e300, 3.0], mask=np.array([0, 1, 0], bool)),
            [1, np.nan, 3],
            [0, 1, 0],
        ),
        ({}, [1.0, np.ma.masked], [1.0, np.nan], [False, True]),
        (
            {"dtype": "uint8", "fill_value": 7},
            np.ma.array([1, 999], mask=np.array([0, 1], bool)),
            [1, 7],
            [False, True],
        ),
        (
            {"shape": (2,)},
            np.ma.array(
                [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
                mask=np.array([[0, 1], [1, 1], [0, 0]], bool),
            ),
            [[1.0, np.nan], [np.nan, np.nan], [5.0, 6.0]],
            [False, True, False],
        ),
        (
            {"shape": (2,)},
            [
                np.ma.array([1.0, 2.0], mask=np.array([0, 1], bool)),
                np.array([3.0, 4.0]),
            ],
            [[1.0, np.nan], [3.0, 4.0]],
            [False, False],
        ),
        ({"shape": (2,)}, np.ma.array([1.0, 2.0]), [[1.0, 2.0]], [False]),
    ],
)
def test_masked_values_are_fill_values_and_masked_points_are_missing(
    described: dict[str, Any], values: Any, points: Any, missing: list[bool]
) -> None:
    found, lost = masked_points(channel(**described), values, points_of)
    np.testing.assert_array_equal(found, points)
    assert lost.tolist() == [bool(one) for one in missing]


def test_masked_values_of_variable_channels_and_nested_lists_are_refused() -> None:
    ragged = channel(shape=(-1,), max_point_bytes=64)
    with pytest.raises(ValueError, match="c: masked values are taken only"):
        masked_points(ragged, np.ma.array([1.0], mask=np.array([1], bool)), points_of)
    with pytest.raises(ValueError, match=r"c: masked values in nested lists; use"):
        masked_points(channel(shape=(2,)), [[1.0, np.ma.masked]], points_of)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            np.datetime64("2024-01-02T03:04:05.123456789"),
            "2024-01-02T03:04:05.123456789",
        ),
        (np.datetime64("2024-01-02"), "2024-01-02"),
        (np.array(["2026", "NaT"], "M8[s]"), ["2026-01-01T00:00:00", "NaT"]),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00"),
    ],
)
def test_moments_in_metadata_are_text(value: Any, text: Any) -> None:
    assert tree_of({"x": value}) == {"x": text}


@pytest.mark.parametrize(
    ("value", "text", "was"),
    [
        (None, "None", "text of NoneType"),
        (BIG, str(BIG), "text of int"),
        (np.int64(BIG), str(BIG), "text of int64"),
        (np.ma.masked, "--", "text of MaskedConstant"),
        (10**400, str(10**400), "text of int"),
        (1j, "1j", "text of complex"),
        (np.datetime64(1, "ns"), "1970-01-01T00:00:00.000000001", "text of datetime64"),
        ([1, None, 3], "[1, null, 3]", "text of list"),
        ("a\0b\ud800", "a\ufffdb?", "text of str"),
        (b"1", "b'1'", "text of bytes"),
    ],
)
def test_positions_that_are_no_numbers_are_text(
    value: Any, text: str, was: str
) -> None:
    for given, units in ((value, ""), (("deg", value), "deg"), ((None, value), "")):
        found = positioners_of({"id00:th": given})["id00_th"]
        assert (found.value, found.units, found.stored_as) == (text, units, was)
        assert found.original_name == "id00:th"


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (datetime(2024, 5, 6, 7, 8, 9, 123457, UTC), Fraction(1714979289123457, 10**6)),
        (
            datetime(1969, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            Fraction(-31536000 - 7200),
        ),
        (
            np.datetime64("2024-05-06T07:08:09.123456789"),
            Fraction(1714979289123456789, 10**9),
        ),
        (np.datetime64("1969-12-31T23:59:59.999999999999"), Fraction(-1, 10**12)),
        (np.datetime64("2024-05", "M"), Fraction(1714521600)),
        (np.datetime64(3, "W"), Fraction(3 * 7 * 86400)),
    ],
)
def test_a_moment_is_the_float_nearest_to_its_seconds(
    moment: Any, seconds: Fraction
) -> None:
    for given in (moment, [moment], np.array([moment])):
        found = times_of("c", given, 1)
        assert found is not None
        assert found.tolist() == [float(seconds)]


@pytest.mark.parametrize(
    "given",
    [
        True,
        "now",
        date(2024, 1, 1),
        timedelta(1),
        np.timedelta64(1),
        None,
        [None],
        1j,
        BIG,
    ],
)
def test_what_is_no_time_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="c: "):
        times_of("c", [given], 1)


def test_unknown_times_are_nan() -> None:
    given = np.ma.array([1.0, 2.0, 3.0], mask=np.array([0, 1, 0], bool))
    np.testing.assert_array_equal(times_of("c", given, 3), [1.0, np.nan, 3.0])
    moments = np.array(["1970", "NaT", "1970"], "M8[s]")
    np.testing.assert_array_equal(times_of("c", moments, 3), [0.0, np.nan, 0.0])
