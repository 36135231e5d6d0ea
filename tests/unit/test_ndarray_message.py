"""What an NTNDArray may say, and what is refused before anything is allocated."""

import zlib
from typing import Any

import numpy as np
import pytest

pytest.importorskip("p4p")

from p4p import Type, Value
from p4p.nt import NTNDArray

from scanbus.publisher.gateways.epics.ndarray_message import NdArray, decode_ndarray
from scanbus.schemas.errors import MessageError


def array(frame: Any = None, **changes: Any) -> Any:
    """Return an NTNDArray with some fields changed."""
    frame = np.arange(12, dtype="u2").reshape(3, 4) if frame is None else frame
    value = NTNDArray().wrap(frame, attrib={"ColorMode": 0})
    for name, change in changes.items():
        value[name] = change
    return value


def decoded(value: Any) -> Any:
    return decode_ndarray(NdArray("T:IMAGE", value))


def sized(*sizes: int) -> list[dict[str, int]]:
    return [{"size": size} for size in sizes]


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u4", "i8", "u8", "f4", "f8"])
def test_pixels_of_every_type_come_as_they_are(dtype: str) -> None:
    frame = np.arange(12, dtype=dtype).reshape(3, 4)
    message = decoded(array(frame, uniqueId=7))
    assert message.number == 7
    np.testing.assert_array_equal(message.channels[""].array(), frame)


@pytest.mark.parametrize(
    ("number", "size", "dtype"),
    [(8, 4, "f4"), (6, 4, "f4"), (6, 8, "i8"), (1, 1, "u1")],
)
def test_the_type_of_packed_pixels_is_told_by_number_and_size(
    number: int, size: int, dtype: str
) -> None:
    """Numbers differ before and after areaDetector had integers of 64 bits."""
    frame = np.arange(12, dtype=dtype).reshape(3, 4)
    blob = zlib.compress(frame.tobytes())
    value = array(
        value=("ubyteValue", np.frombuffer(blob, "u1")),
        codec={"name": "zlib", "parameters": number},
        compressedSize=len(blob),
        uncompressedSize=12 * size,
    )
    found = decoded(value).channels[""]
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.array(), frame)


@pytest.mark.parametrize(
    "changes",
    [
        {"dimension": sized(5, 5)},
        {"dimension": sized(-3, -4)},
        {"dimension": sized(0, 12)},
        {"dimension": sized(*[2**30] * 10)},
        {"dimension": sized(*[1] * 20)},
        {"codec": {"name": "bslz4", "parameters": 3}, "uncompressedSize": 2**62},
        {"codec": {"name": "bslz4", "parameters": 99}},
        {"codec": {"name": "bslz4", "parameters": -1}},
        {"codec": {"name": "bslz4", "parameters": "u2"}},
        {"codec": {"name": "lz4", "parameters": 3}, "compressedSize": -5},
        {"codec": {"name": "lz4", "parameters": 3}, "compressedSize": 2**40},
        {
            "codec": {"name": "zlib", "parameters": 3},
            "dimension": sized(2**15, 2**15),
            "uncompressedSize": 2**31,
        },
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MessageError, match="T:IMAGE, frame 0: "):
        decoded(array(**changes))


PIXELS = np.arange(12, dtype="u2").reshape(3, 4)
ZLIB = zlib.compress(PIXELS.tobytes())


@pytest.mark.parametrize(
    "blob",
    [
        zlib.compress(PIXELS.tobytes() + b"more"),
        zlib.compress(PIXELS.tobytes()[:-1]),
        ZLIB[:-1],
        ZLIB[:-1] + bytes([ZLIB[-1] ^ 1]),
        ZLIB + b"more",
    ],
    ids=["more pixels", "fewer pixels", "cut", "wrong checksum", "bytes behind"],
)
def test_a_stream_of_zlib_is_one_frame_exactly(blob: bytes) -> None:
    value = array(
        value=("ubyteValue", np.frombuffer(blob, "u1")),
        codec={"name": "zlib", "parameters": 3},
        compressedSize=len(blob),
        uncompressedSize=24,
    )
    with pytest.raises(MessageError, match="T:IMAGE, frame 0: "):
        decoded(value)


def test_attributes_that_are_no_value_are_left_out() -> None:
    value = NTNDArray().wrap(
        np.zeros((2, 2), "u1"),
        attrib={
            "ColorMode": 0,
            "Gain": 1.5,
            "Mode": "fast",
            "On": True,
            "L": ["a", "b"],
        },
    )
    values = decoded(value).values
    assert values == {"colormode": 0, "gain": 1.5, "mode": "fast", "on": 1}


def test_stamps_of_nothing_are_no_time() -> None:
    assert decoded(array()).time is None
    value = array(timeStamp={"secondsPastEpoch": 17, "nanoseconds": 500_000_000})
    assert decoded(value).time == 17.5


STRUCTURES: dict[str, Any] = {
    "a number": [("value", "d")],
    "nothing": [("x", "i")],
    "texts": [
        ("uniqueId", "s"),
        ("dimension", "as"),
        ("codec", "s"),
        ("value", "ad"),
        ("attribute", "s"),
    ],
    "sizes of text": [
        ("uniqueId", "i"),
        ("codec", ("S", None, [("name", "s"), ("parameters", "v")])),
        ("compressedSize", "l"),
        ("uncompressedSize", "l"),
        ("dimension", ("aS", None, [("size", "s")])),
        ("value", "ad"),
    ],
    "a stamp of text": [
        ("uniqueId", "i"),
        ("codec", ("S", None, [("name", "s"), ("parameters", "v")])),
        ("compressedSize", "l"),
        ("uncompressedSize", "l"),
        ("dimension", ("aS", None, [("size", "i")])),
        ("timeStamp", ("S", None, [("secondsPastEpoch", "s")])),
        ("value", "ad"),
    ],
}


@pytest.mark.parametrize("fields", STRUCTURES.values(), ids=STRUCTURES)
def test_a_structure_of_another_kind_is_refused(fields: Any) -> None:
    value = Value(Type(fields))
    size = 7 if "timeStamp" in value else "many"
    if "dimension" in value and not isinstance(value["dimension"], str):
        value["dimension"] = ["x"] if fields[1][1] == "as" else [{"size": size}]
    if "timeStamp" in value:
        value["timeStamp"] = {"secondsPastEpoch": "now"}
    with pytest.raises(MessageError, match="no NTNDArray"):
        decoded(value)


def test_attributes_of_another_kind_cost_themselves() -> None:
    fields: Any = [
        *STRUCTURES["a stamp of text"][:5],
        ("value", "aH"),
        ("attribute", ("aS", None, [("title", "s")])),
    ]
    value = Value(
        Type(fields),
        {
            "dimension": [{"size": 4}, {"size": 3}],
            "value": np.arange(12, dtype="u2"),
            "attribute": [{"title": "x"}],
        },
    )
    assert decoded(value).values == {}
