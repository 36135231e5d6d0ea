"""Trees of metadata hold what HDF5 can take, and are laid over each other."""

import base64
import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.schemas import (
    MAX_METADATA_KEYS,
    ScanUpdated,
    is_array,
    merged,
    parse_event,
)
from scanbus.schemas.errors import DocumentError
from tests.support.descriptions import NOW


def parsed(metadata: object) -> dict[str, Any]:
    text = json.dumps(
        {"protocol": 1, "type": "updated", "time": NOW, "metadata": metadata}
    )
    event = parse_event(text.encode())
    assert isinstance(event, ScanUpdated)
    return event.metadata


def array(**changes: Any) -> dict[str, Any]:
    data = base64.b64encode(bytes(8)).decode()
    return {"array": {"dtype": "float32", "shape": [2], "data": data, **changes}}


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"sample": {"name": "LaB6", "@NX_class": "NXsample"}},
        {"mass": 1.5, "mass@units": "g"},
        {"a": [1, 2.5], "b": ["x", "y"], "c": [True, False], "d": []},
        {"a": [[1, 2], [3, 4]]},
        {"a": None, "b": True},
        {"a": -(2**63), "b": 2**64 - 1, "c": [0, 2**64 - 1]},
        {"mask": array()},
        {"array": 3},
        {"array": {"a": 1}},
    ],
)
def test_a_tree_comes_as_it_was_sent(tree: dict[str, Any]) -> None:
    assert parsed(tree) == tree


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ([], "metadata"),
        ({"../x": 1}, "NeXus name"),
        ({"a/b": 1}, "NeXus name"),
        ({"a\n": 1}, "NeXus name"),
        ({"x" * 64: 1}, "NeXus name"),
        ({"": 1}, "not a name"),
        ({"@": 1}, "not a name"),
        ({"a@": 1}, "not a name"),
        ({"a@b@c": 1}, "NeXus name"),
        ({"a@b": {"c": 1}}, "cannot be a group"),
        ({"a": "x\0"}, "NUL"),
        ({"a": ["x\0"]}, "NUL"),
        ({"a": [1, "x"]}, "mixed"),
        ({"a": [1, True]}, "mixed"),
        ({"a": [None]}, "numbers only"),
        ({"a": [{"b": 1}]}, "numbers only"),
        ({"a": [[1], 2]}, "numbers only"),
        ({"a": [["x"]]}, "numbers only"),
        ({"a": [[[1]]]}, "numbers only"),
        ({"a": [[1, 2], [3]]}, "unequal length"),
        ({"a": 2**64}, "64 bits"),
        ({"a": [-(2**63) - 1]}, "64 bits"),
        ({"a": [[10**30]]}, "64 bits"),
        ({"a": [-1, 2**63]}, "no integer type"),
        ({"a": array(dtype="O")}, "dtype"),
        ({"a": array(dtype="string")}, "dtype"),
        ({"a": array(dtype="float32,(1000000,)f8")}, "dtype"),
        ({"a": array(shape=[-1])}, "shape"),
        ({"a": array(shape=[1] * 5)}, "shape"),
        ({"a": array(shape=[3])}, "need 12 bytes, data has 8"),
        ({"a": array(shape=[2**30, 2**30], codec="zstd")}, "the limit is"),
        ({"a": array(data="no base64!")}, "data"),
        ({"a": array(data=None)}, "data"),
    ],
)
def test_what_hdf5_cannot_take_is_refused(tree: object, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        parsed(tree)


def test_a_tree_is_at_most_sixteen_levels_deep() -> None:
    def nested(levels: int) -> dict[str, Any]:
        return {"a": nested(levels - 1)} if levels else {}

    assert parsed(nested(16))
    for levels in (18, 150):
        with pytest.raises(DocumentError, match="levels"):
            parsed(nested(levels))


def test_an_update_replaces_fields_and_keeps_the_rest() -> None:
    base = {"sample": {"name": "a", "mass": 1}, "mask": array()}
    over = {"sample": {"mass": 2}, "mask": array(shape=[2]), "user": {"name": "b"}}

    assert merged(base, over) == {
        "sample": {"name": "a", "mass": 2},
        "mask": array(shape=[2]),
        "user": {"name": "b"},
    }
    assert base["sample"] == {"name": "a", "mass": 1}


def test_an_array_is_replaced_whole_never_merged() -> None:
    assert is_array(array())
    assert merged({"a": {"b": 1}}, {"a": array()}) == {"a": array()}


trees = st.recursive(
    st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=10,
).filter(lambda tree: isinstance(tree, dict))


@given(trees, trees)
def test_laying_a_tree_over_twice_changes_nothing(
    base: dict[str, Any], update: dict[str, Any]
) -> None:
    once = merged(base, update)
    assert merged(once, update) == once
    assert merged({}, base) == base


@given(st.lists(trees, max_size=4))
def test_merged_trees_share_no_group_with_their_sources(
    sources: list[dict[str, Any]],
) -> None:
    before = deepcopy(sources)
    one_by_one: dict[str, Any] = {}
    for tree in sources:
        one_by_one = merged(one_by_one, tree)

    found = merged(*sources)
    assert found == one_by_one
    _mark_groups(found)
    assert sources == before


def _mark_groups(tree: dict[str, Any]) -> None:
    for value in list(tree.values()):
        if isinstance(value, dict):
            _mark_groups(value)
    tree["mark"] = 1


def test_a_group_replaces_an_array() -> None:
    assert merged({"a": array()}, {"a": {"b": 1}}) == {"a": {"b": 1}}


def test_more_keys_than_a_file_takes_in_seconds_are_refused_at_the_call() -> None:
    most = {f"key_{number}": number for number in range(MAX_METADATA_KEYS - 1)}
    ScanUpdated(time=0, metadata={"group": most})
    with pytest.raises(ValueError, match="the limit is 50000"):
        ScanUpdated(time=0, metadata={"group": most, "other": 1})
