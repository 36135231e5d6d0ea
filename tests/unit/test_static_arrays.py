"""Large arrays of the metadata: where they stand, and which are too large."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.codecs import find_codec
from scanbus.bus.protocol import MAX_STATIC_LANES, ScanRecord
from scanbus.publisher.declare.metadata import MetadataConverter
from scanbus.publisher.declare.nexus_hints import split_hints
from scanbus.publisher.declare.static_arrays import STATIC_FROM_BYTES, StaticArrays
from scanbus.schemas import ScanUpdated, is_array, parse_event
from scanbus.schemas.errors import DeclarationError, DocumentError
from tests.support.descriptions import identity

LARGE = np.arange(STATIC_FROM_BYTES // 8 + 1, dtype=np.int64)


def sent(tree: dict[str, Any]) -> ScanUpdated:
    event = parse_event(ScanUpdated(time=0, metadata=tree).to_json())
    assert isinstance(event, ScanUpdated)
    return event


@given(
    st.sampled_from(
        ["?", "u1", "<i2", ">i4", "f2", "f4", ">f8", "c8", "c16", "g", "G"]
    ),
    st.sampled_from([(-1,), (4, -1), (2, 2, -1), (2, 2, 2, 2, -1)]),
    st.booleans(),
    st.text(max_size=90),
)
def test_an_array_travels_as_the_one_point_of_a_lane(
    dtype: str, shape: tuple[int, ...], is_strided: bool, key: str
) -> None:
    count = 2**23 // np.dtype(dtype).itemsize
    values = np.resize(LARGE % 100, count).astype(dtype).reshape(shape)
    values = values[..., ::2] if is_strided else values
    statics = StaticArrays(2**30)
    event = sent(MetadataConverter(statics).tree({"a": {key: values}}))
    record = ScanRecord(identity())
    record.fold(event)
    lane, packed = next(iter(statics.unsent([event]).values()))
    assert dict(record.static) == {lane.name: lane}
    (channel,) = lane.channels
    points = find_codec(channel.codec).decode(
        packed, channel.numpy_dtype, (1, *channel.shape)
    )
    np.testing.assert_array_equal(points.reshape(values.shape), values)
    assert len(event.to_json()) < 10_000


def test_arrays_of_one_mebibyte_stand_in_the_document_and_others_once_on_the_bus() -> (
    None
):
    statics = StaticArrays(2**30)
    converter = MetadataConverter(statics)
    tree = converter.tree({"a": LARGE[:-1], "b": LARGE, "c": {"b": LARGE.copy()}})
    assert "data" in tree["a"]["array"]
    assert is_array(tree["b"])
    assert tree["b"] == tree["c"]["b"]
    (name,) = statics.unsent([sent(tree)])
    statics.note_queued([name])
    again = converter.tree({"d": LARGE, "e": LARGE.reshape(1, -1)})
    assert again["d"] == tree["b"]
    assert again["e"]["array"]["lane"] != name  # It has another shape.
    assert list(statics.unsent([sent(again)])) == [again["e"]["array"]["lane"]]


def test_a_refused_tree_takes_no_room() -> None:
    statics = StaticArrays(LARGE.nbytes)
    converter = MetadataConverter(statics)
    for number in range(3):
        with pytest.raises(DeclarationError), statics.whole_or_none():
            converter.tree({"a": LARGE + number, "b": LARGE - 1})
    assert statics.room_bytes == 0
    tree = converter.tree({"a": LARGE})
    assert list(statics.unsent([sent(tree)])) == [tree["a"]["array"]["lane"]]


def test_a_reader_says_which_arrays_are_too_many() -> None:
    record = ScanRecord(identity())
    for number in range(MAX_STATIC_LANES + 2):
        array = {"dtype": "uint8", "shape": [2], "lane": f"static.a{number}"}
        record.fold(sent({f"a{number}": {"array": array}}))
    assert len(record.static) == MAX_STATIC_LANES
    assert len(record.problems) == 1


def test_what_does_not_fit_the_bus_is_refused() -> None:
    converter = MetadataConverter(StaticArrays(LARGE.nbytes))
    converter.tree({"a": LARGE})
    with pytest.raises(DeclarationError, match=r"b: arrays of \d+ bytes"):
        converter.tree({"b": LARGE + 1})
    with pytest.raises(DeclarationError, match=r"c: more than 402653184 bytes"):
        MetadataConverter(StaticArrays(2**40)).tree(
            {"c": np.broadcast_to(np.uint8(1), 384 * 2**20 + 1)}
        )


def test_more_arrays_than_lanes_stand_in_documents() -> None:
    statics = StaticArrays(2**40)
    row = np.zeros(STATIC_FROM_BYTES + 1, np.uint8)
    converter = MetadataConverter(statics)
    for number in range(MAX_STATIC_LANES):
        row[0], row[1] = divmod(number, 200)
        assert "lane" in converter.tree({"a": row})["a"]["array"]
    row[2] = 1
    assert "data" in converter.tree({"a": row})["a"]["array"]


@pytest.mark.parametrize(
    "array",
    [
        {"dtype": "uint8", "shape": [2], "lane": "eiger"},
        {"dtype": "uint8", "shape": [2], "lane": "static.a", "data": "AAA="},
        {"dtype": "uint8", "shape": [], "lane": "static.a"},
        {"dtype": "uint8", "shape": [2, 0], "lane": "static.a"},
        {"dtype": "uint8", "shape": [2**30], "lane": "static.a"},
        {"dtype": "float16", "shape": [2], "lane": "static.a"},
        {"dtype": "uint8", "shape": [2], "lane": "static.a/b"},
        {"dtype": "uint8", "shape": [2], "lane": "static." + "a" * 60},
    ],
)
def test_readers_refuse_a_reference_that_says_nonsense(array: dict[str, Any]) -> None:
    fixed = {"protocol": 1, "type": "updated", "time": 0}
    update = {**fixed, "metadata": {"a": {"array": array}}}
    with pytest.raises(DocumentError):
        parse_event(json.dumps(update).encode())


def test_a_lane_keeps_its_first_description() -> None:
    record = ScanRecord(identity())
    for shape in ([2], [3]):
        array = {"dtype": "uint8", "shape": shape, "lane": "static.a"}
        record.fold(sent({f"a{shape[0]}": {"array": array}}))
    assert record.static["static.a"].channels[0].shape == (2,)


def test_hints_that_are_no_attributes_are_fields() -> None:
    given_hints = {
        "nx_class": "NXdetector",
        "attributes": {"vector": np.array([1.0, 0, 0]), "of": None, "mask": LARGE},
        "distance": 0.2,
    }
    hints, fields = split_hints(given_hints)
    assert hints == {
        "nx_class": "NXdetector",
        "attributes": {
            "vector": [1.0, 0.0, 0.0],
            "of": "None",
            "of_stored_as": "text of NoneType",
        },
    }
    assert list(fields) == ["distance", "mask"]
