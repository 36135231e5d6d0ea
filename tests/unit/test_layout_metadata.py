"""Metadata as trees: what cannot be written is said, and nothing raises."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from scanbus.bus.codecs import find_codec
from scanbus.schemas import MAX_METADATA_KEYS
from scanbus.schemas.metadata import MetadataTree
from scanbus.writer.layouts.common import metadata
from scanbus.writer.layouts.common.metadata import (
    Displaced,
    MetadataReader,
    merge_trees,
)
from scanbus.writer.model.nexus_tree import Dataset, Group, SoftLink, VirtualArray
from scanbus.writer.storage.tree_writer import write_tree


def array(values: Any, codec_name: str = "none", **changes: Any) -> dict[str, Any]:
    packed = find_codec(codec_name).encode(np.ascontiguousarray(values))
    said = {
        "dtype": values.dtype.name,
        "shape": list(values.shape),
        "codec": codec_name,
        "data": base64.b64encode(packed).decode(),
    }
    return {"array": {**said, **changes}}


def value_of(tree: dict[str, Any]) -> Any:
    reader = MetadataReader()
    node = reader.read(tree).children["a"]
    assert reader.problems == []
    assert isinstance(node, Dataset)
    return node.value


@pytest.mark.parametrize("codec_name", ["none", "gzip-shuffle", "bitshuffle-lz4"])
def test_arrays_are_unpacked(codec_name: str) -> None:
    mask = np.arange(12, dtype="uint32").reshape(3, 4)
    found = value_of({"a": array(mask, codec_name)})
    np.testing.assert_array_equal(found, mask)
    assert found.dtype == mask.dtype


def test_any_byte_but_zero_is_true() -> None:
    found = value_of({"a": array(np.array([0, 1, 7], "u1"), dtype="bool")})
    assert found.dtype == bool
    assert found.tolist() == [False, True, True]


def test_text_numbers_and_lists_keep_their_kind() -> None:
    assert value_of({"a": "ü"}) == "ü"
    assert value_of({"a": ["x", "y"]}) == ("x", "y")
    assert value_of({"a": True}).dtype == bool
    assert value_of({"a": 3}).dtype == np.int64
    assert value_of({"a": [[1, 2], [3, 4]]}).shape == (2, 2)
    assert value_of({"a": []}).shape == (0,)


@pytest.mark.parametrize(
    "value",
    [
        2**70,
        [1, 2**70],
        [None],
        [[1], [2, 3]],
        array(np.zeros(3), shape=[2**40]),
        array(np.zeros(3), shape=[0, 2**70]),
        array(np.zeros(3), shape=[4]),
        array(np.zeros(3), dtype="object"),
        array(np.zeros(3), dtype="no such type"),
        array(np.zeros(3), dtype="datetime64[s]"),
        array(np.zeros(3), dtype="(1000,1000)f8"),
        array(np.zeros(3), codec="nonsense"),
        array(np.zeros(3), codec="bitshuffle-lz4"),
    ],
)
def test_what_cannot_be_written_is_said(value: Any) -> None:
    reader = MetadataReader()
    tree = reader.read({"a": value, "b": 1, "b@x": value})
    assert list(tree.children) == ["b"]
    assert len(reader.problems) == 2
    assert all(text.startswith("metadata /") for text in reader.problems)


def test_all_arrays_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "MAX_ARRAY_BYTES", 100)
    reader = MetadataReader()
    tree = {name: array(np.zeros(5), "gzip-shuffle") for name in "abc"}
    assert list(reader.read(tree).children) == ["a", "b"]
    assert "40 bytes" in reader.problems[0]


@pytest.mark.parametrize("value", [list(range(10_000)), ["x"] * 3000])
def test_large_attributes_become_fields(value: list[Any]) -> None:
    reader = MetadataReader()
    tree = reader.read({"a": 1, "a@x": value})
    field = tree.children["a_x"]
    assert isinstance(field, Dataset)
    assert list(field.value) == value  # type: ignore[arg-type]
    assert field.attributes == {"original_name": "a@x"}


def test_attributes_find_their_node_and_units_are_ascii() -> None:
    reader = MetadataReader()
    tree = reader.read(
        {
            "a@units": "µm",
            "a": 1,
            "@NX_class": "NXnote",
            "g@x": 1,
            "g": {"b": 2},
            "g@NX_class": "NXdata",
        }
    )
    assert tree.nx_class == "NXnote"
    assert tree.children["a"] == Dataset(np.int64(1), {"units": "um"})
    assert tree.children["g"] == Group("NXdata", {"x": 1}, {"b": Dataset(np.int64(2))})
    assert reader.problems == []


def test_an_attribute_of_nothing_is_a_field() -> None:
    """An address of e-mail has the form of an attribute."""
    tree = MetadataReader().read({"me@esrf.fr": "local contact"})
    found = Dataset("local contact", {"original_name": "me@esrf.fr"})
    assert tree.children == {"me_esrf.fr": found}


@pytest.mark.parametrize(
    "tree", [{"user": {"name": "N"}}, {"who": {"@NX_class": "NXuser", "name": "N"}}]
)
def test_personal_data_are_written_on_request_only(tree: dict[str, Any]) -> None:
    reader = MetadataReader()
    assert reader.read(tree).children == {}
    assert "personal" in reader.problems[0]
    kept = MetadataReader(with_users=True).read(tree)
    assert [group.nx_class for group in kept.children.values()] == ["NXuser"]  # type: ignore[union-attr]


def test_trees_are_joined_and_ours_stands() -> None:
    problems: list[str] = []
    ours = Group(
        "NXa", {"x": 1}, {"g": Group("NXb"), "l": SoftLink("/a"), "d": Dataset("v")}
    )
    theirs = Group(
        "NXc",
        {"x": 2, "y": 3},
        {
            "g": Group("", {}, {"new": Dataset(1)}),
            "l": Dataset(2),
            "d": Dataset("v", {"units": "m"}),
        },
    )
    displaced = Displaced(problems)
    joined = merge_trees(ours, theirs, displaced)
    assert joined.attributes == {"x": 1, "y": 3}
    assert joined.children["g"] == Group("NXb", {}, {"new": Dataset(1)})
    assert joined.children["l"] == SoftLink("/a")
    assert joined.children["d"] == Dataset("v", {"units": "m"})
    assert len(problems) == 2
    kept = Group("", {}, {"l": Dataset(2)})
    assert displaced.groups() == {"metadata": kept}


def test_nodes_whose_name_is_taken_keep_their_path() -> None:
    problems: list[str] = []
    displaced = Displaced(problems)
    ours = Group("", {}, {"g": Group("", {}, {"a": Dataset(1)}), "t": Dataset("x")})
    theirs = Group(
        "",
        {},
        {"g": Group("", {}, {"a": Dataset(2), "b": Dataset(3)}), "t": Group()},
    )
    joined = merge_trees(ours, theirs, displaced)
    assert joined.children["g"] == Group("", {}, {"a": Dataset(1), "b": Dataset(3)})
    inner = {"g": Group("", {}, {"a": Dataset(2)}), "t": Group()}
    assert displaced.groups() == {"metadata": Group("", {}, inner)}
    assert "/g/a: the name is taken" in problems[0]


ROWS = st.lists(st.lists(st.integers()), max_size=2)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
TREES = st.recursive(
    LEAVES
    | st.lists(LEAVES, max_size=3)
    | st.lists(st.lists(st.integers()), max_size=2),
    lambda inner: st.dictionaries(
        st.sampled_from(["a", "b", "sample", "@x", "a@units", "@NX_class"]), inner
    ),
)


@given(st.dictionaries(st.sampled_from(["a", "b", "@x", "a@units"]), TREES))
def test_no_tree_raises(tree: dict[str, Any]) -> None:
    reader = MetadataReader()
    problems: list[str] = []

    found = reader.read(tree)
    entry = Group("NXentry", {}, {"a": Dataset("ours")})
    joined = merge_trees(entry, found, Displaced(problems))

    ours = joined.children["a"]
    assert isinstance(ours, Dataset)
    assert ours.value == "ours"
    assert set(joined.children) == {"a", *found.children}
    assert all(text.startswith("metadata") for text in reader.problems + problems)


NAMES = ["a", "b", "NX_class", "units", "target", "original_name"]
ATTRIBUTES = [f"{owner}@{name}" for owner in ["", "a", "b"] for name in NAMES[2:]]
TEXTS = st.sampled_from(["", "NXuser", "NXdata", "°C"])
NUMBERS = st.sampled_from([7, -(2**63), 0.5])
ITEMS = TEXTS | NUMBERS | st.none() | st.lists(TEXTS) | st.lists(NUMBERS)


def groups(fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Half of all keys together, so that nodes meet their attributes."""
    optional = dict.fromkeys(NAMES, fields) | dict.fromkeys(ATTRIBUTES, ITEMS)
    return st.fixed_dictionaries({}, optional=optional)


@settings(max_examples=200, deadline=None)
@given(groups(ITEMS | groups(ITEMS)))
def test_what_the_bus_accepts_can_be_written(tree: dict[str, Any]) -> None:
    """What HDF5 refuses would stop the master of the scan."""
    accepted = TypeAdapter(MetadataTree).validate_python(tree)
    with h5py.File.in_memory() as file:
        write_tree(file, MetadataReader(with_users=True).read(accepted))


def test_keys_beyond_the_limit_are_named_not_written() -> None:
    """Each document is within the limit; together they are not."""
    tree = {f"key_{number}": 0 for number in range(MAX_METADATA_KEYS + 7)}
    reader = MetadataReader()
    assert len(reader.read(tree).children) == MAX_METADATA_KEYS
    (said,) = reader.problems
    assert said == (
        "metadata /: 7 keys are not written, as the scan has more than "
        f"{MAX_METADATA_KEYS}"
    )


STATIC: dict[str, Any] = {
    "array": {"dtype": "uint8", "shape": [2, 3], "lane": "static.mask"}
}
PLACED = VirtualArray("static.mask_0000.h5", "/a", (1, 6), (6,), np.dtype("u1"), 255)


def test_a_static_array_stands_in_its_shape_with_the_attributes_of_its_place() -> None:
    reader = MetadataReader({"static.mask": PLACED})
    found = reader.read({"a": {"mask": STATIC, "mask@units": "1"}, "@mask": STATIC})
    (group, copy) = found.children.values()
    assert isinstance(group, Group)
    mask = group.children["mask"]
    assert isinstance(mask, VirtualArray)
    assert (mask.shape, dict(mask.attributes)) == ((2, 3), {"units": "1"})
    assert isinstance(copy, VirtualArray)
    assert dict(copy.attributes) == {"original_name": "@mask"}
    assert reader.problems == []


def test_a_static_array_that_is_in_no_file_yet_leaves_no_trace() -> None:
    reader = MetadataReader({})
    assert reader.read({"mask": STATIC, "mask@units": "1"}).children == {}
    assert reader.problems == []


def test_a_reference_that_contradicts_the_array_is_a_problem() -> None:
    reader = MetadataReader({"static.mask": PLACED})
    other = {"array": {**STATIC["array"], "shape": [7]}}
    assert reader.read({"mask": other}).children == {}
    assert reader.problems == ["metadata /mask: static.mask is uint8 (6,)"]


@pytest.mark.parametrize(
    ("said", "expected", "n_problems"),
    [
        ("NXnote", "NXnote", 0),
        (["NXnote"], "NXnote", 0),
        (["NXnote", "NXdata"], "NXcollection", 1),
        (7, "NXcollection", 1),
        ([1, 2], "NXcollection", 1),
    ],
)
def test_a_class_beside_its_group_is_one_text(
    tmp_path: Path, said: Any, expected: str, n_problems: int
) -> None:
    """An attribute of that name, beside the class, stopped the master of the scan."""
    for tree in (
        {"a": {"b": 1}, "a@NX_class": said},
        {"a": {"b": 1, "@NX_class": said}},
    ):
        reader = MetadataReader()
        with h5py.File(tmp_path / "a.h5", "w") as file:
            write_tree(file, reader.read(tree))
            assert file["a"].attrs["NX_class"] == expected
        assert len(reader.problems) == n_problems
